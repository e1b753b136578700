"""A store after a fault: what it holds, and what the next build must have made of it.

Shared by kill.py, full.py and far.py. Nothing here reads Parquet: digests in manifests stand for rows, and `finch verify` says
whether files match them.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Seconds after which a build that neither ends nor comes to an awaited moment is itself a failure.
STUCK = 600


def demo(work: Path) -> Path:
    """The demo's spec without its train stage, in a folder from which its paths still lead to the repository."""
    text = (ROOT / "pipelines/demo.toml").read_text()
    path = work / "demo.toml"
    path.write_text(text.split("# A model of a few million weights")[0].split("[stages.model]")[0])
    return path


class Finch:
    """The program under test, with one spec."""

    def __init__(self, binary: str, spec: Path):
        self.binary, self.spec = str(Path(binary).resolve()), str(Path(spec).resolve())
        # A pipeline must not find another trainer than the one beside the program.
        self.environment = {name: value for name, value in os.environ.items() if name != "FINCH_TRAIN"}
        self.environment["NO_COLOR"] = "1"

    def place(self, store: Path) -> str:
        """The store as finch is told of it."""
        return str(store)

    def command(self, store: Path, *more: str) -> list[str]:
        return [self.binary, "run", self.spec, "--store", self.place(store), "--log-json", *more]

    def run(self, store: Path, *more: str, **options) -> subprocess.CompletedProcess:
        """A whole build."""
        return subprocess.run(self.command(store, *more), env=self.environment, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True, errors="replace", timeout=STUCK, **options)

    def verify(self, store: Path) -> subprocess.CompletedProcess:
        return subprocess.run([self.binary, "verify", "--store", self.place(store)], env=self.environment,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")


def events(text: str) -> list[dict]:
    """The event lines of --log-json; a killed program may leave half a line."""
    found = []
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            found.append(event)
    return found


def published(store: Path) -> set[str]:
    """Fingerprints of the datasets that are complete."""
    return {path.parent.name for path in store.glob("datasets/*/manifest.json")}


def newest(store: Path) -> dict:
    """The last build's record."""
    return json.loads(max(store.glob("builds/[0-9]*.json")).read_text())


def digests(store: Path) -> dict[str, tuple]:
    """Of every stage of the last build: its fingerprint, and the digests of what it says and of its files."""
    found = {}
    for stage in newest(store)["stages"]:
        manifest = json.loads((store / "datasets" / stage["fingerprint"] / "manifest.json").read_text())
        found[stage["name"]] = (stage["fingerprint"], manifest.get("rows") or manifest.get("weights"), manifest["bytes"])
    return found


def again(computed: list[dict], before: set[str]) -> list[str]:
    """Stages that ran although their dataset was there; `computed` are records or events of stages."""
    what = "stage `{}` ran again although its dataset was published"
    return [what.format(stage.get("name") or stage["stage"]) for stage in computed
            if stage["decision"] == "run" and stage["fingerprint"] in before]


def problems(finch: Finch, store: Path, build: subprocess.CompletedProcess, expected: dict, before: set[str]) -> list[str]:
    """What is wrong with a store after the build that followed a fault; `before` was published when the fault came."""
    if build.returncode != 0:
        return [f"the next build ended with {build.returncode}: {build.stderr.strip()[-600:]}"]
    found = []
    record = newest(store)
    if record["status"] != "ok":
        found.append(f"the newest build is recorded as `{record['status']}`")
    found += again(record["stages"], before)
    got = digests(store)
    for stage in sorted(set(got) | set(expected)):
        if got.get(stage) != expected.get(stage):
            found.append(f"stage `{stage}` came out as {got.get(stage)}, not {expected.get(stage)}")
    folders = {path.name for path in (store / "datasets").iterdir()}
    strange = folders - {fingerprint for fingerprint, _, _ in expected.values()}
    if strange:
        found.append(f"the store holds datasets that no undisturbed build makes: {sorted(strange)}")
    # A store in a bucket has none.
    left = [path.name for path in (store / "tmp").iterdir()] if (store / "tmp").exists() else []
    if left:
        found.append(f"`tmp` still holds {left}")
    verified = finch.verify(store)
    if verified.returncode != 0:
        found.append(f"`finch verify` ended with {verified.returncode}: {verified.stdout.strip()[-600:]}")
    return found


def undisturbed(finch: Finch, store: Path) -> dict:
    """Builds into a fresh store; its digests. Without such a build there is nothing to compare with."""
    build = finch.run(store)
    if build.returncode != 0:
        sys.exit(f"error: the undisturbed build ended with {build.returncode}:\n{build.stderr[-3000:]}")
    return digests(store)


def fresh(path: Path) -> Path:
    """An empty place for a store."""
    shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def table(header: list[str], rows: list[list]) -> None:
    """Prints columns, the first one to the left and figures to the right."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[n]) for row in cells) for n in range(len(header))]
    for row in cells:
        print("  ".join(cell.ljust(width) if n == 0 else cell.rjust(width)
                        for n, (cell, width) in enumerate(zip(row, widths))).rstrip())

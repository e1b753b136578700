#!/usr/bin/env python3
"""How fast finch reads search logs, against DuckDB, Polars and plain Python doing the same.

The normalised work: parse every record; write zstd Parquet (level 3, as finch's shards) with a row a step that names its
texts by digest, each distinct program once and each distinct prompt, answer and feedback once. The wide work writes a row
a step with its texts in it and no digest, for whom that is enough; finch has no such mode. The peers are in `peers/`,
each in the forms its users write; all forms run in the first round, and the fastest of each goes on. finch does more than
they do: it unites records into candidates, resolves runs and tasks, sorts by id, judges scores, hashes sources and
shards, keeps what it parsed for the next build, and syncs to disk. Nothing is taken off for that.

Each contestant is a process of its own, its start included; the logs come from the page cache; rounds alternate in order;
a figure is the median of its rounds. Rates are of the logs' bytes by wall time, and by CPU time of the process tree. The
peak is the resident memory of the tree, 50 times a second. It is measured once more on a quarter of the runs, to show
what grows with the logs. At the end all must have found the same steps, ids, programs and texts. What other processes
took of the cores meanwhile is shown; `--wait SECONDS` takes disturbed rounds again, and waits for quiet, that long in all.

`--markdown` prints what README.md shows, `--keep` leaves the logs made here. Needs 8 GB of disk.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import watch
from bench import ROOT, arguments, logs, machine, size

PACKAGES = {"duckdb": "2.0.0", "polars": "2.1.0", "pyarrow": "26.0.1"}
#: The share of the cores that others may have in a round that counts as quiet.
QUIET = 0.05
PEERS = Path(__file__).parent / "peers"
PYTHON = ROOT / "build/bench-venv/bin/python"

#: Contestants, with their script, the work and the forms tried; finch first.
CONTESTANTS = [
    ("finch", "", "normalised", [""]),
    ("DuckDB", "with_duckdb.py", "normalised", ["staged", "table", "scans"]),
    ("Polars", "with_polars.py", "normalised", ["stream", "staged", "eager"]),
    ("Python", "with_python.py", "normalised", ["one"]),
    ("Python, processes", "with_python.py", "normalised", ["pool"]),
    ("DuckDB", "with_duckdb.py", "wide", ["scans"]),
    ("Polars", "with_polars.py", "wide", ["stream", "eager"]),
    ("Python", "with_python.py", "wide", ["one"]),
    ("Python, processes", "with_python.py", "wide", ["pool"]),
]

#: What all must have found alike.
FOUND = ("records", "steps", "ids", "programs", "canonical programs", "texts", "set of ids", "set of programs",
         "set of prompts and answers")


@dataclass
class Contestant:
    """Somebody's way to do some work, and what was measured of it."""

    name: str
    script: str
    work: str
    form: str
    runs: list[watch.Run] = field(default_factory=list)
    output: int = 0
    state: int = 0
    quarter: int = 0
    found: dict = field(default_factory=dict)

    def median(self, of: str) -> float:
        return statistics.median(getattr(run, of) for run in self.runs)

    @property
    def resident(self) -> int:
        return max(run.resident for run in self.runs)

    def __str__(self) -> str:
        return f"{self.name} ({self.form}), {self.work}" if self.form else f"{self.name}, {self.work}"


def install() -> None:
    """The peers' packages, in an environment of their own, once."""
    check = ("import sys, importlib.metadata as m\n"
             "sys.exit(any(m.version(a) != v for a, v in zip(sys.argv[1::2], sys.argv[2::2])))")
    words = [word for package in PACKAGES.items() for word in package]
    if PYTHON.exists() and subprocess.run([PYTHON, "-c", check, *words], stderr=subprocess.DEVNULL).returncode == 0:
        return
    print(f"installing {', '.join(PACKAGES)} into {PYTHON.parents[1].relative_to(ROOT)}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", PYTHON.parents[1]], check=True)
    wanted = [f"{name}=={version}" for name, version in PACKAGES.items()]
    if subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", *wanted]).returncode != 0:
        sys.exit("error: the peers' packages cannot be installed; without them there is nothing to compare with")


def quiet() -> None:
    """Waits for a quiet second, as long as there is patience."""
    while patience[0] > 0:
        before = watch.busy()
        time.sleep(1)
        patience[0] -= 1
        if watch.busy() - before < QUIET * os.cpu_count():
            return


def measured(command: list, out: Path | None = None) -> watch.Run:
    """Runs a command that must succeed, with nothing at `out`; again where others disturbed it and patience lasts."""
    while True:
        quiet()
        if out:
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
        run = watch.timed(command, found.work / "words")
        if run.others <= QUIET or patience[0] < run.seconds:
            return run
        patience[0] -= run.seconds


def round_of(one: Contestant, layout: str, spec: Path, names: Path) -> watch.Run:
    """One run of a contestant; what it wrote is counted, looked at once, and removed."""
    out = found.work / "out"
    if not one.script:
        run = measured([found.finch, "run", spec, "--store", out, "--threads", found.threads, "--memory-limit", found.limit,
                        "--quiet"], out)
        one.output = sum(path.stat().st_size for path in out.glob("datasets/*/*/*.parquet"))
        one.state = size(out)[1] - one.output
        folder = next(out.glob("datasets/*"))
    else:
        run = measured([PYTHON, PEERS / one.script, layout, one.work, one.form, names, out, found.threads], out)
        one.output, folder = size(out)[1], out
    if not one.found:
        writer = "peer" if one.script else "finch"
        said = subprocess.run([PYTHON, PEERS / "agree.py", writer, layout, folder], stdout=subprocess.PIPE, check=True).stdout
        one.found = json.loads(said)
    shutil.rmtree(out)
    return run


def contest(layout: str, folder: Path) -> list[Contestant]:
    """All contestants on one folder of logs."""
    read = sorted((folder / "logs").rglob("evolution_trace.jsonl" if layout == "trace" else "programs/*.json"))
    runs = sorted((folder / "logs").iterdir())
    few = runs[: max(1, len(runs) // 4)]
    inputs = {}
    for part, chosen in {"all": runs, "quarter": few}.items():
        spec, names = folder / f"readers-{part}.toml", folder / f"names-{part}"
        sources = ", ".join(f'"logs/{run.name}"' for run in chosen)
        spec.write_text(f'[pipeline]\nname = "readers"\nseed = 33\nstore = "store-readers"\n\n'
                        f'[stages.logs]\nkind = "ingest"\nsources = [{sources}]\n')
        names.write_text("".join(f"{path}\n" for path in read if part == "all" or path.relative_to(folder / "logs").parts[0]
                                 in {run.name for run in chosen}))
        inputs[part] = spec, names
    for path in read:
        path.read_bytes()
    rivals = [Contestant(name, script, work, form) for name, script, work, forms in CONTESTANTS for form in forms]
    tried = []
    for turn in range(int(found.times)):
        for one in rivals if turn % 2 == 0 else rivals[::-1]:
            one.runs.append(round_of(one, layout, *inputs["all"]))
            run = one.runs[-1]
            disturbance.append(run.others)
            print(f"  {layout}, round {turn + 1}: {one}: {run.seconds:.2f} s, {run.cpu:.2f} s of CPU, others {100 * run.others:.0f} %",
                  file=sys.stderr)
        if turn == 0:
            tried, best = rivals, {}
            for one in rivals:
                key = one.name, one.work
                best[key] = min(best.get(key, one), one, key=lambda one: one.runs[0].seconds)
            rivals = list(best.values())
    for one in rivals:
        less = Contestant(one.name, one.script, one.work, one.form, found={"": ""})
        one.quarter = round_of(less, layout, *inputs["quarter"]).resident
    agree(tried)
    return rivals


def agree(rivals: list[Contestant]) -> None:
    """Says so, loudly, where contestants did not find the same."""
    first = rivals[0]
    for one in rivals[1:]:
        for what in FOUND:
            if one.found[what] != first.found[what]:
                mismatches.append(f"{one}: {what}: {one.found[what]}, but {first}: {first.found[what]}")


def imports() -> str:
    """What of a peer's time is the start of its library."""
    parts = []
    for package in PACKAGES:
        runs = [measured([PYTHON, "-c", f"import {package}"]).seconds for _ in range(3)]
        parts.append(f"{package} {statistics.median(runs):.2f} s")
    return ", ".join(parts)


def table(rivals: list[Contestant], length: int) -> list[list[str]]:
    """The rows to show; the ratio is to the fastest peer at the same work."""
    best = {work: min((one for one in rivals if one.script and one.work == work), key=lambda one: one.median("seconds"))
            for work in ("normalised", "wide")}
    rows = [["", "work", "MB/s", "MB/s per core", "peak MB", "of it anonymous", "peak MB of a quarter", "output MB", "to best peer"]]
    for one in rivals:
        name = one.name.replace("processes", f"{found.threads} processes") if one.form in ("", "one", "pool") else f"{one.name}, {one.form}"
        rows.append([
            name, one.work, f"{length / 1e6 / one.median('seconds'):.0f}", f"{length / 1e6 / one.median('cpu'):.0f}",
            f"{one.resident / 1e6:.0f}", f"{max(run.anonymous for run in one.runs) / 1e6:.0f}", f"{one.quarter / 1e6:.0f}",
            f"{one.output / 1e6:.0f}", f"{best[one.work].median('seconds') / one.median('seconds'):.2f}",
        ])
    return rows


def verdict(rivals: list[Contestant]) -> str:
    """finch against the best of the others, in a line."""
    finch = rivals[0]
    parts = []
    for work in ("normalised", "wide"):
        peers = [one for one in rivals if one.script and one.work == work]
        fast, small = min(peers, key=lambda one: one.median("seconds")), min(peers, key=lambda one: one.resident)
        parts.append(f"{fast.median('seconds') / finch.median('seconds'):.2f} times the rate and {finch.resident / fast.resident:.2f} "
                     f"times the memory of the fastest peer at {work} work ({fast.name}), {finch.resident / small.resident:.2f} times "
                     f"the memory of the smallest ({small.name})")
    others = max(disturbance)
    return (f"finch has {'; '.join(parts)}. Beside its output it keeps {finch.state / 1e6:.0f} MB of state.\n"
            f"{'NOTE: these rounds were disturbed: ' if others > QUIET else ''}other processes took up to {100 * others:.0f} % of the cores.")


own = argparse.ArgumentParser(add_help=False)
own.add_argument("--markdown", action="store_true")
own.add_argument("--keep", action="store_true")
flags, sys.argv[1:] = own.parse_known_args()
found = arguments(__doc__, bytes="2GB", files="20000", runs="16", times="3", threads="2", limit="4GiB", format="trace,checkpoints", wait="0")
patience = [float(found.wait)]
found.work = found.work.resolve()
found.work.mkdir(parents=True, exist_ok=True)
install()
said = io.StringIO()
with contextlib.redirect_stdout(said):
    machine(found)
said = said.getvalue() + (
    f"peers     {', '.join(f'{name} {version}' for name, version in PACKAGES.items())}, Python {sys.version.split()[0]}; "
    f"starting them takes: {imports()}\n"
    f"settings  {found.threads} threads, zstd level 3, median of {found.times}; finch with --memory-limit {found.limit}\n"
    "digests   finch BLAKE3, DuckDB SHA-1, Polars its own hash of 64 bits, Python SHA-256\n"
)
mismatches, made, disturbance = [], [], []
print("\n".join(f"    {line}" for line in said.splitlines()) if flags.markdown else said, end="\n" if flags.markdown else "")
for layout in found.format.split(","):
    amount = ("--bytes", found.bytes) if layout == "trace" else ("--files", found.files)
    there = set(found.work.iterdir())
    folder = logs(found, *amount, "--runs", found.runs, "--format", layout)
    if folder not in there:
        made.append(folder)
    disturbance.clear()
    read = [path for path in (folder / "logs").rglob("*.json*") if path.name != "metadata.json"]
    length = sum(path.stat().st_size for path in read)
    rivals = contest(layout, folder)
    facts = rivals[0].found
    print(f"\n{layout}: {len(read)} files, {length / 1e6:.0f} MB, {facts['records']} records, {facts['steps']} steps, "
          f"{facts['programs']} programs, {facts['texts']} texts" + ("\n" if flags.markdown else ""))
    watch.show(table(rivals, length), flags.markdown, 2)
    print("\n" + verdict(rivals))
    print("All contestants found the same steps, ids, programs and texts." if not mismatches else
          "!!! NOT THE SAME WORK: the figures above compare nothing\n" + "\n".join(f"!!! {line}" for line in mismatches))
    if folder in made and not flags.keep:
        shutil.rmtree(folder)
if mismatches:
    sys.exit(1)

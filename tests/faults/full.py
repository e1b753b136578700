#!/usr/bin/env python3
"""Lets finch run out of room: the error is a clear one, and the next build with room completes.

Two ways, neither of which needs rights. A limit on the size of a file (RLIMIT_FSIZE), one byte below that of a file
that the next stage writes, in a store that holds everything before that stage. And a store on a small tmpfs in a namespace of its own,
whose room is between nothing and a whole store; where namespaces are not allowed, a line says so. After each failure
the same store gets room, and the next build must come to the digests of an undisturbed one.

Exits with 1 when any check fails; what failed is printed, and stores are kept where they lie on a disk.
"""

import argparse
import collections
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

from store import ROOT, Finch, demo, fresh, problems, published, table, undisturbed


def unclear(code: int, text: str) -> list[str]:
    """What is wrong with how a build without room ended."""
    found = []
    if code not in (1, 2, 3):
        found.append(f"it ended with {code}, which is no exit code for an error")
    if "panicked" in text:
        found.append("it panicked")
    if not re.search(r'"code":"F\d{4}"', text):
        found.append("its error has no code")
    if not re.search(r"File too large|No space left", text):
        found.append("it does not say that there was no room")
    if not re.search(r"`/[^`]+`", text):
        found.append("it names no file")
    if '"hint":"' not in text:
        found.append("it does not say what to do")
    return found


def code_of(text: str) -> str:
    """The code of an error, for the table."""
    match = re.search(r"^error (F\d{4})$", text, re.M)
    return match[1] if match else "none"


def message(text: str) -> str:
    """An error without the event lines before it."""
    return " ".join(line.strip() for line in text.splitlines() if not line.startswith('{"')).strip()


def small_files(finch: Finch, whole: Path, expected: dict, number: int, work: Path) -> list[tuple]:
    """Builds under a limit on the size of files, then without; one file of each stage in turn is the first too large."""
    rows = []
    stages = list(expected)
    for case in range(number):
        stage = stages[case % len(stages)]
        store = fresh(work / f"limit-{case:04}")
        shutil.copytree(whole, store, symlinks=True)
        sizes = sorted(path.stat().st_size for path in (store / "datasets" / expected[stage][0]).rglob("*") if path.is_file())
        # The largest first, then smaller ones: the first that does not fit is another one each time.
        limit = sizes[-1 - case // len(stages) % len(sizes)] - 1
        for later in stages[stages.index(stage):]:
            shutil.rmtree(store / "datasets" / expected[later][0])
        confine = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        build = finch.run(store, preexec_fn=confine)
        before = published(store)
        found = [] if build.returncode == 0 else unclear(build.returncode, build.stderr)
        found += problems(finch, store, finch.run(store), expected, before)
        rows.append((f"{stage}: files of {limit} bytes", build.returncode, build.stderr, len(before), found))
        if not found:
            shutil.rmtree(store)
    return rows


# Prints what happened in parts that a line of its own ends; the last build has room.
SMALL = """
mount -t tmpfs -o size="$1" none "$2" || exit 90
shift
store=$1; finch=$2; spec=$3; work=$4
"$finch" run "$spec" --store "$store" --log-json 2>"$work/full.log"; echo $? >"$work/full.code"
ls "$store/datasets" >"$work/full.published" 2>/dev/null
mount -o remount,size=100% "$store" || exit 91
"$finch" run "$spec" --store "$store" --log-json 2>"$work/next.log"; echo $? >"$work/next.code"
cp -a "$store" "$work/copy"
"""


def small_disk(finch: Finch, sizes: list[int], expected: dict, work: Path) -> list[tuple]:
    """Builds on a tmpfs that is too small, then on one that is not."""
    rows = []
    for size in sizes:
        folder = fresh(work / f"disk-{size}")
        mount = folder / "store"
        mount.mkdir(parents=True)
        inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", SMALL, "sh",
                  str(size), str(mount), finch.binary, finch.spec, str(folder)]
        done = subprocess.run(inside, env=finch.environment, capture_output=True, text=True)
        if done.returncode != 0:
            return [("SKIPPED a full disk: no tmpfs in a namespace here", 0, done.stderr.strip(), 0, [])]
        read = lambda name: (folder / name).read_text(errors="replace")
        code, before = int(read("full.code")), set(read("full.published").split())
        found = [] if code == 0 else unclear(code, read("full.log"))
        after = subprocess.CompletedProcess([], int(read("next.code")), stderr=read("next.log"))
        found += problems(finch, folder / "copy", after, expected, before)
        rows.append((f"disk of {size} bytes", code, read("full.log"), len(before), found))
        if not found:
            shutil.rmtree(folder)
    return rows


def main() -> int:
    """Reads the arguments; the exit code is 1 when anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finch", required=True, help="the program")
    parser.add_argument("--spec", type=Path, help="a spec; the demo's without its training when none is named")
    parser.add_argument("--limits", type=int, default=12, help="how many sizes of files, and of disks")
    parser.add_argument("--work", type=Path, default=ROOT / "build/faults", help="where stores are made")
    parser.add_argument("--verbose", action="store_true", help="print every error")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    finch = Finch(arguments.finch, arguments.spec or demo(work))
    whole = fresh(work / "undisturbed")
    expected = undisturbed(finch, whole)
    room = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file() and not path.is_symlink())
    sizes = [max(4096, room * step // arguments.limits // 4096 * 4096) for step in range(1, arguments.limits + 1)]
    rows = small_files(finch, whole, expected, arguments.limits, work) + small_disk(finch, sizes, expected, work)
    shown, failures = [], 0
    for name, code, text, kept, found in rows:
        shown.append([name, code, code_of(text), kept, "no" if found else "yes"])
        failures += bool(found)
        for line in found:
            print(f"FAILED {name}: {line}\n  {message(text)[:600]}", flush=True)
        if arguments.verbose and code != 0:
            print(f"{name}: {message(text)[:400]}", flush=True)
    table(["room", "exit", "code", "published", "good"], shown)
    ended = collections.Counter(code == 0 for _, code, _, _, _ in rows)
    print(f"{ended[False]} builds without room, {ended[True]} that had enough; {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

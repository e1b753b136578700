#!/usr/bin/env python3
"""How fast finch hashes its sources, against b3sum on the same files.

`finch check` walks, hashes and checks the spec. With nothing remembered of the files it is what a first plan costs, so
its rate is at most that of its hashing alone. b3sum comes from its own package (`cargo install b3sum --root build/b3sum`)
or the PATH; without it, one line says so. The design asks for 80 % of its rate. b3sum takes one file after
the other, so it is also shown as one process a core. Files come from the page cache.
"""

import os
import shutil
import subprocess
from pathlib import Path

from bench import ROOT, arguments, logs, machine, size, timed

found = arguments(__doc__, bytes="1GiB", times="5")
machine(found)
cores = len(os.sched_getaffinity(0))
own = ROOT / "build/b3sum/bin/b3sum"
b3sum = str(own) if own.is_file() else shutil.which("b3sum")
print("b3sum     " + (subprocess.run([b3sum, "--version"], capture_output=True, text=True).stdout.strip() if b3sum else
      "SKIPPED: not installed (cargo install b3sum --root build/b3sum), so there is nothing to compare with"))
for layout in ("checkpoints", "trace"):
    folder = logs(found, "--bytes", found.bytes, "--runs", "16", "--format", layout)
    # What finch reads: everything but summaries of checkpoints and sidecars.
    files = sorted(path for path in (folder / "logs").rglob("*.json*") if path.name != "metadata.json")
    length = sum(path.stat().st_size for path in files)
    names = folder / "names"
    names.write_text("\n".join(map(str, files)) + "\n")
    print(f"\n{layout}: {len(files)} files, {length / 1e6:.0f} MB")
    rates = {}
    commands = {"finch check": [found.finch, "check", folder / "spec.toml"]}
    if b3sum:
        # One process, as many files as the system takes in one command; b3sum hashes one file after the other.
        for threads in ("one thread", "all threads"):
            more = "--num-threads 1" if threads == "one thread" else ""
            commands[f"b3sum, {threads}"] = ["sh", "-c", f"xargs -d '\\n' '{b3sum}' {more} < '{names}' > /dev/null"]
        commands[f"b3sum, {cores} processes"] = ["sh", "-c",
            f"xargs -d '\\n' -P {cores} -n {max(1, len(files) // (4 * cores) + 1)} '{b3sum}' --num-threads 1 < '{names}' > /dev/null"]
    print(f"{'command':<22}{'median':>10}{'least':>10}{'MB/s':>9}{'finch has':>12}")
    for name, command in commands.items():
        rates[name] = timed(command, int(found.times))
    best = rates["finch check"][0]
    for name, (median, least) in rates.items():
        share = "" if name == "finch check" else f"{100 * median / best:>10.0f} %"
        print(f"{name:<22}{median:>8.3f} s{least:>8.3f} s{length / 1e6 / median:>9.0f}{share:>12}")

#!/usr/bin/env python3
"""The most anonymous memory that a build takes under a limit, from its first stage to packs.

Samples RssAnon in /proc/PID/status 50 times a second, and notes the stage in which the most was seen. The design asks
for less than 1.3 GB with a limit of 1 GiB on 5 GB of logs. Traces and checkpoints are measured apart; `--only STAGE` ends there.
"""

import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

from bench import arguments, logs, machine, size

found = arguments(__doc__, bytes="5GiB", limit="1GiB", format="checkpoints,trace", only="")
machine(found)


def anonymous(process: int) -> int:
    """Anonymous bytes of a process; 0 once it is gone."""
    try:
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0


def measure(spec: Path, store: Path) -> tuple[dict[str, int], dict[str, float], int]:
    """Peaks and seconds by stage, and the exit code."""
    shutil.rmtree(store, ignore_errors=True)
    command = [found.finch, "run", spec, "--store", store, "--memory-limit", found.limit, "--log-json"]
    command += ["--only", found.only] if found.only else []
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    stage, peaks, seconds, last = ["(plan)"], {}, {}, []

    def listen() -> None:
        for line in process.stderr:
            try:
                event = json.loads(line)
            except ValueError:
                last.append(line)
                continue
            if event.get("event") == "started":
                stage[0] = event["stage"]
            elif event.get("event") == "finished":
                seconds[event["stage"]] = event["seconds"]

    listener = threading.Thread(target=listen)
    listener.start()
    while process.poll() is None:
        peaks[stage[0]] = max(peaks.get(stage[0], 0), anonymous(process.pid))
        time.sleep(0.02)
    listener.join()
    if process.returncode != 0:
        print("".join(last)[-2000:], file=sys.stderr)
    return peaks, seconds, process.returncode


code = 0
for layout in found.format.split(","):
    folder = logs(found, "--bytes", found.bytes, "--runs", "16", "--format", layout)
    files, length = size(folder / "logs")
    peaks, seconds, ended = measure(folder / "spec.toml", found.work / "store-memory")
    print(f"\n{layout}: {files} files, {length / 1e6:.0f} MB, --memory-limit {found.limit}" + ("" if ended == 0 else f"; ENDED WITH {ended}"))
    print(f"{'stage':<14}{'peak RssAnon':>14}{'seconds':>10}")
    for stage, peak in peaks.items():
        print(f"{stage:<14}{peak / 1e6:>11.0f} MB{seconds.get(stage, 0):>10.1f}")
    print(f"{'all':<14}{max(peaks.values()) / 1e6:>11.0f} MB{sum(seconds.values()):>10.1f}")
    code = code or (1 if ended else 0)
    shutil.rmtree(found.work / "store-memory", ignore_errors=True)
sys.exit(code)

"""One process tree, watched: time, CPU, memory, and what other processes took meanwhile."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Run:
    """One process tree that has ended."""

    seconds: float
    cpu: float
    resident: int
    anonymous: int
    others: float = 0.0


def memory(process: int) -> tuple[int, int]:
    """Resident and anonymous bytes of a process and its descendants; 0 once they are gone."""
    resident = anonymous = 0
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                resident = int(line.split()[1]) * 1024
            elif line.startswith("RssAnon:"):
                anonymous = int(line.split()[1]) * 1024
        for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
            more = memory(int(child))
            resident, anonymous = resident + more[0], anonymous + more[1]
    return resident, anonymous


def busy() -> float:
    """Seconds that all cores together have worked."""
    user, nice, system, _, _, *rest = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + sum(rest[:3])) / os.sysconf("SC_CLK_TCK")


def timed(command: list, words: Path, out: Path | None = None) -> Run:
    """One process tree that must succeed, from its start to its end; what it says goes to a file, and its standard output
    to another that stays, where one is named."""
    # A contestant does not pay for what the one before it left to be written.
    os.sync()
    peak, ended = [0, 0], threading.Event()
    with open(words, "wb") as said, open(out, "wb") if out else contextlib.nullcontext(said) as printed:
        worked, begun = busy(), time.monotonic()
        process = subprocess.Popen(command, stdout=printed, stderr=said)

        def sample() -> None:
            while not ended.wait(0.02):
                peak[:] = map(max, peak, memory(process.pid))

        sampler = threading.Thread(target=sample)
        sampler.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds, worked = time.monotonic() - begun, busy() - worked
        ended.set()
        sampler.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"error: {' '.join(map(str, command))} ended with {process.returncode}:\n"
                 f"{words.read_text(errors='replace')[-2000:]}")
    words.unlink()
    # The kernel's own figure is of one process, but misses no instant.
    cpu = usage.ru_utime + usage.ru_stime
    return Run(seconds, cpu, max(peak[0], usage.ru_maxrss * 1024), peak[1], max(0.0, worked - cpu) / seconds / os.cpu_count())


def show(rows: list[list[str]], markdown: bool, texts: int) -> None:
    """Prints a table; its first columns are texts, the others numbers."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for place, row in enumerate(rows):
        cells = [cell.ljust(width) if column < texts else cell.rjust(width) for column, (cell, width) in enumerate(zip(row, widths))]
        print("| " + " | ".join(cells) + " |" if markdown else "  ".join(cells))
        if place == 0 and markdown:
            print("|" + "|".join("-" * (width + 2) if column < texts else "-" * (width + 1) + ":" for column, width in enumerate(widths)) + "|")

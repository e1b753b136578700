"""What the benchmarks share: logs, the machine's name, timings."""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def arguments(description: str, **sizes: str) -> argparse.Namespace:
    """The arguments of every benchmark, and sizes of logs with their defaults."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finch", type=Path, default=ROOT / "target/release/finch", help="the program")
    parser.add_argument("--generate", type=Path, default=ROOT / "target/release/examples/generate",
                        help="the generator of logs: cargo build --release --example generate")
    parser.add_argument("--work", type=Path, default=ROOT / "build/bench", help="where logs and stores are made")
    for name, size in sizes.items():
        parser.add_argument(f"--{name}", default=size)
    found = parser.parse_args()
    for program in (found.finch, found.generate):
        if not program.is_file():
            sys.exit(f"error: `{program}` is not there; `make bench` builds it, `--finch` and `--generate` name others")
    return found


def trainer_arguments(description: str, work: str) -> argparse.ArgumentParser:
    """The arguments of every benchmark of the trainer, to be read by `parsed`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finch-train", dest="finch", type=Path, default=ROOT / "target/release/finch-train",
                        help="the program; its other half, finch-train-torch, is beside it")
    parser.add_argument("--work", type=Path, default=ROOT / "build/bench" / work, help="where models are made")
    parser.add_argument("--threads", type=int, default=2, help="libtorch's threads")
    parser.add_argument("--markdown", action="store_true", help="tables for a page")
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """What the arguments say, if the program is there. Settings of malloc are those of the benchmark alone."""
    found = parser.parse_args()
    for name in [name for name in os.environ if name in ("GLIBC_TUNABLES", "LD_PRELOAD") or name.startswith("MALLOC_")]:
        del os.environ[name]
    if not found.finch.is_file():
        sys.exit(f"error: `{found.finch}` is not there; `make bench-train` builds it, `--finch-train` names another")
    return found


def logs(found: argparse.Namespace, *size: str) -> Path:
    """A folder with generated logs and their specs, made once for a size."""
    folder = found.work / "-".join(["logs", *(part.lstrip("-") for part in size)])
    if not (folder / "stages.toml").exists():
        subprocess.run(["rm", "-rf", folder], check=True)
        subprocess.run([found.generate, folder, *size], check=True, stdout=subprocess.DEVNULL)
    return folder


def machine(found: argparse.Namespace) -> None:
    """Prints what the figures belong to."""
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), "unknown")
    memory = next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    version = subprocess.run([found.finch, "--version"], capture_output=True, text=True, check=True).stdout
    load = os.getloadavg()[0]
    print(f"machine   {model}, {len(os.sched_getaffinity(0))} cores, {memory / 1e6:.0f} GB, Linux {platform.release()}, "
          f"load {load:.1f}")
    print(f"program   {version.splitlines()[0]}")
    if "debug assertions" in version:
        print("NOTE: this program is not a release build; its figures are too high")


def timed(command: list, times: int) -> tuple[float, float]:
    """Median and least wall time of a command that must succeed."""
    seconds = []
    for _ in range(times):
        begun = time.monotonic()
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        seconds.append(time.monotonic() - begun)
        if done.returncode != 0:
            sys.exit(f"error: {' '.join(map(str, command))} ended with {done.returncode}:\n"
                     f"{done.stderr.decode(errors='replace')[-2000:]}")
    return statistics.median(seconds), min(seconds)


def forget(folder: Path) -> bool:
    """Drops a folder's files from the page cache, which every user may ask for; whether it worked for all."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
    return True


def size(folder: Path) -> tuple[int, int]:
    """Files below a folder, and their bytes."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)

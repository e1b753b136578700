#!/usr/bin/env python3
"""Kills the S3 server behind a store, and finch with it, and lets machines build at once whose clocks are apart.

The server is the example `s3-server`, over a folder, so that what a bucket holds can be looked at as files. In each
round a build starts on a fresh store; the server is killed (SIGKILL) at random moments and started again after up to
two seconds. In every second round finch is killed too and the same command is given again. Then the build must have
completed, the digests must be those of an undisturbed build in a local folder, `finch verify` must be clean, and
nothing that was published may have run again. `--pairs` starts two builds on one store at once, with clocks some
minutes apart in a bucket and some days apart in a folder.

Exits with 1 when any check fails; the stores of failures are kept.
"""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from store import ROOT, STUCK, Finch, demo, fresh, problems, published, table, undisturbed

KEY, SECRET = "finch-test-key", "finch/test+secret"
# Sets the clock of a program forward or back: what it asks of the C library is all that it knows of the time.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, t);
    const char *by = getenv("CLOCK_APART");
    if (by && id == CLOCK_REALTIME) t->tv_sec += atol(by);
    return result;
}
"""


class Server:
    """The S3 server, which can be killed."""

    def __init__(self, binary: str, folder: Path):
        self.binary, self.folder, self.address = binary, folder, None
        self.start()

    def start(self) -> None:
        """Starts it, on the port that it had."""
        port = self.address.split(":")[1] if self.address else "0"
        for _ in range(100):
            self.process = subprocess.Popen([self.binary, str(self.folder), port], stdout=subprocess.PIPE, text=True,
                                            stderr=subprocess.DEVNULL)
            line = self.process.stdout.readline().strip()
            if line:
                self.address = line
                return
            time.sleep(0.1)
        sys.exit("error: the S3 server does not start")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Far(Finch):
    """finch with stores in the bucket; a store is still named by its folder, as the server keeps it."""

    def __init__(self, binary: str, spec: Path, server: Server, cache: Path):
        super().__init__(binary, spec)
        self.server = server
        self.environment |= {"AWS_ENDPOINT_URL": f"http://{server.address}", "AWS_ALLOW_HTTP": "true",
                             "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1",
                             "FINCH_CACHE": str(cache), "FINCH_RETRY_SECONDS": "60"}

    def place(self, store: Path) -> str:
        return f"s3://{store.relative_to(self.server.folder).as_posix()}"


def start(finch: Finch, store: Path, log: Path, apart: int = 0, shim: Path | None = None) -> subprocess.Popen:
    """Starts a build, perhaps with a clock that is apart."""
    environment = dict(finch.environment)
    if apart:
        environment |= {"LD_PRELOAD": str(shim), "CLOCK_APART": str(apart)}
    with open(log, "wb") as stderr:
        return subprocess.Popen(finch.command(store), env=environment, stdout=subprocess.DEVNULL, stderr=stderr)


def round_of_kills(finch: Far, server: Server, expected: dict, seconds: float, store: Path, log: Path,
                   chance: random.Random, finch_too: bool) -> tuple[int, int, list[str]]:
    """One build under fire; how often the server and finch were killed, and what is wrong."""
    killed, dead, found = 0, 0, []
    process = start(finch, store, log)
    deadline = time.monotonic() + STUCK
    while process.poll() is None and killed < 4:
        time.sleep(chance.uniform(0, seconds / 2))
        if process.poll() is not None:
            break
        server.kill()
        killed += 1
        if finch_too and killed == 2:
            process.kill()
            process.wait()
            dead += 1
        time.sleep(chance.uniform(0, 2))
        server.start()
    if finch_too and dead:
        before = published(store)
        return killed, dead, problems(finch, store, finch.run(store), expected, before)
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    if process.poll() is None:
        process.kill()
        found.append(f"a build was stuck for {STUCK} s")
    if process.wait() != 0:
        found.append(f"the build ended with {process.returncode}: {log.read_text(errors='replace').strip()[-600:]}")
    # Nothing is left to do, which the next build says.
    return killed, dead, found + problems(finch, store, finch.run(store), expected, published(store))


def main() -> int:
    """Reads the arguments; the exit code is 1 when anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finch", required=True, help="the program")
    parser.add_argument("--server", required=True, help="the example s3-server")
    parser.add_argument("--spec", type=Path, help="a spec; the demo's without its training when none is named")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=33)
    parser.add_argument("--work", type=Path, default=ROOT / "build/faults-far", help="where stores are made and failures kept")
    found = parser.parse_args()
    work = found.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    spec = found.spec or demo(work)
    near = Finch(found.finch, spec)
    expected = undisturbed(near, fresh(work / "undisturbed"))
    server = Server(found.server, fresh(work / "server"))
    bucket = server.folder / "bucket"
    failures, rows = 0, []
    try:
        far = Far(found.finch, spec, server, fresh(work / "cache-warm"))
        begun = time.monotonic()
        if undisturbed(far, bucket / "undisturbed") != expected:
            sys.exit("error: the build in a bucket came out different")
        seconds = time.monotonic() - begun
        print(f"undisturbed in a bucket: {len(expected)} stages, {seconds:.2f} s", flush=True)
        for case in range(found.rounds):
            chance = random.Random(f"{found.seed} {case}")
            store, log, cache = bucket / f"case-{case:03}", work / f"case-{case:03}.log", fresh(work / f"cache-{case:03}")
            far = Far(found.finch, spec, server, cache)
            killed, dead, wrong = round_of_kills(far, server, expected, seconds, store, log, chance, case % 2 == 1)
            rows.append([f"case {case}", killed, dead, "no" if wrong else "yes"])
            failures += bool(wrong)
            for line in wrong:
                print(f"FAILED {store}: {line}", flush=True)
            if not wrong:
                shutil.rmtree(store)
                shutil.rmtree(cache, ignore_errors=True)
                log.unlink()
        failures += pairs(found, near, server, spec, expected, work, rows)
    finally:
        server.kill()
    table(["round", "server kills", "finch kills", "as it should be"], rows)
    # Two rounds of short builds may end before finch is to be killed.
    if (found.rounds > 1 and not sum(row[1] for row in rows)) or (found.rounds > 9 and not sum(row[2] for row in rows)):
        print("FAILED nothing was killed: the builds are too short for this harness")
        failures += 1
    print(f"{len(rows)} rounds; {failures} failures")
    return 1 if failures else 0


def pairs(found, near: Finch, server: Server, spec: Path, expected: dict, work: Path, rows: list) -> int:
    """Two builds at once on one store."""
    (work / "shim.c").write_text(SHIM)
    shim = work / "shim.so"
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        print("SKIPPED: clocks apart need a C compiler")
        return 0
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", shim, work / "shim.c", "-ldl"], check=True)
    failures = 0
    for case in range(found.pairs):
        chance = random.Random(f"{found.seed} pair {case}")
        in_bucket = case % 2 == 0
        if in_bucket:
            store = server.folder / "bucket" / f"pair-{case:03}"
            both = [Far(found.finch, spec, server, fresh(work / f"cache-pair-{case}-{n}")) for n in range(2)]
        else:
            store, both = fresh(work / f"pair-{case:03}"), [near, near]
        # A server refuses requests whose time is a quarter of an hour off; a folder does not ask.
        apart = (chance.choice([-600, 600]), 0) if in_bucket else (chance.choice([-1, 1]) * 86400 * 30, 0)
        logs = [work / f"pair-{case:03}-{n}.log" for n in range(2)]
        processes = []
        for finch, log, by in zip(both, logs, apart):
            processes.append(start(finch, store, log, by, shim))
            time.sleep(chance.choice([0, 0, chance.uniform(0, 1)]))
        wrong = [f"a build ended with {process.returncode}: {log.read_text(errors='replace').strip()[-600:]}"
                 for process, log in zip(processes, logs) if process.wait() != 0]
        # Records are in the order of clocks that are apart, so the last one may be of one of the two.
        wrong += problems(both[1], store, both[1].run(store), expected, set())
        where = "bucket" if in_bucket else "folder"
        rows.append([f"two at once, {where}, clocks {abs(apart[0])} s apart", 0, 0, "no" if wrong else "yes"])
        failures += bool(wrong)
        for line in wrong:
            print(f"FAILED {store}: {line}", flush=True)
    return failures


if __name__ == "__main__":
    sys.exit(main())

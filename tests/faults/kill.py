#!/usr/bin/env python3
"""Kills finch at many moments and builds again: the next build completes, and nothing is lost, changed or repeated.

An undisturbed build gives the digests and the time that a build takes. Then, in a fresh store each time, a build is
killed (SIGKILL) and the same command is given again. Half of the kills are spread evenly over the undisturbed time; a
quarter wait for a manifest that is written and not yet published, a quarter for a dataset that has just appeared, so
that every publish step is hit. Every fourth store is killed once more in the build after the kill. `--train-kills`
kills inside a training: finch alone, and in every second case its trainer with it.

Exits with 1 when any check fails; the stores of failures are kept.
"""

import argparse
import collections
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from store import ROOT, STUCK, Finch, again, demo, digests, events, fresh, newest, problems, published, table, undisturbed


def start(finch: Finch, store: Path, log: Path) -> subprocess.Popen:
    """Starts a build as the leader of its own process group."""
    with open(log, "wb") as stderr:
        return subprocess.Popen(finch.command(store), env=finch.environment, stdout=subprocess.DEVNULL, stderr=stderr,
                                start_new_session=True)


def wait_for(process: subprocess.Popen, condition) -> bool:
    """Waits until something is so; false when the build ends first."""
    begun = time.monotonic()
    while not condition():
        if process.poll() is not None:
            return False
        if time.monotonic() - begun > STUCK:
            process.kill()
            sys.exit(f"error: a build was stuck for {STUCK} s")
        time.sleep(0.0003)
    return True


def count(folder: Path) -> int:
    """Entries of a folder; it may not exist yet."""
    try:
        return len(os.listdir(folder))
    except FileNotFoundError:
        return 0


def moment(kind: str, chance: random.Random, share: float, seconds: float, stages: int, store: Path):
    """What to wait for, and how long after it to kill."""
    number = chance.randrange(stages)
    # Publishing takes a few milliseconds, of which the beginning and any other moment should be hit.
    delay = chance.choice([0, chance.uniform(0, 0.003)])
    if kind == "manifest":
        there = lambda: count(store / "datasets") >= number and any(store.glob("tmp/*/manifest.json"))
        return there, delay
    if kind == "renamed":
        return lambda: count(store / "datasets") > number, delay
    return lambda: True, share * seconds


def kill(process: subprocess.Popen, there, delay: float, group: bool = False) -> bool:
    """Kills a build at its moment; false when it ended before."""
    reached = wait_for(process, there)
    if reached:
        time.sleep(delay)
        if group:
            # The group outlives its leader, which is not waited for yet.
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    return process.wait() == -signal.SIGKILL


def place(store: Path, log: Path, before: set[str]) -> tuple[str, str]:
    """The stage and the step in which a kill fell, from what was said and what is left."""
    said = events(log.read_text(errors="replace"))
    started = [event["stage"] for event in said if event["event"] == "started"]
    finished = {event["stage"]: event["fingerprint"] for event in said if event["event"] == "finished"}
    stage = next((name for name in reversed(started) if name not in finished), None)
    if stage is None:
        return ("(before a stage)" if not finished else "(after a stage)"), "other"
    if any(store.glob("tmp/*/manifest.json")):
        return stage, "manifest"
    return stage, "renamed" if published(store) - before - set(finished.values()) else "computing"


def kills(finch: Finch, arguments, work: Path) -> int:
    """Kills as many builds as asked for; prints a table and returns the number of failures."""
    # Twice, because the first build warms the caches.
    undisturbed(finch, fresh(work / "undisturbed"))
    begun = time.monotonic()
    expected = undisturbed(finch, fresh(work / "undisturbed"))
    seconds = time.monotonic() - begun
    print(f"undisturbed: {len(expected)} stages, {seconds:.2f} s", flush=True)
    places, failures, ended, done, case = collections.Counter(), [], 0, 0, 0
    while done < arguments.kills:
        if ended > 2 * arguments.kills + 10:
            sys.exit(f"error: {ended} builds ended before they could be killed")
        chance = random.Random(f"{arguments.seed} {case}")
        store, log = fresh(work / f"kill-{case:04}"), work / f"kill-{case:04}.log"
        kind = ["time", "manifest", "time", "renamed"][case % 4]
        # Times lie in equal parts of the build, one in each, so that no part is left out.
        timed = (case // 2) % max(1, (arguments.kills + 1) // 2)
        share = (timed + chance.random()) / max(1, (arguments.kills + 1) // 2)
        found, fell, rounds = [], [], 1
        while done < arguments.kills and rounds > 0:
            before = published(store)
            process = start(finch, store, log)
            if not kill(process, *moment(kind, chance, share, seconds, len(expected), store)):
                ended += 1
                break
            done += 1
            rounds -= 1
            fell.append((*place(store, log, before), kind))
            found += again([event for event in events(log.read_text(errors="replace")) if event["event"] == "finished"], before)
            if len(fell) == 1 and case % 4 == 3:
                kind, share, rounds = "time", chance.random() * 0.8, 1
        before = published(store)
        found += problems(finch, store, finch.run(store), expected, before)
        case += 1
        places.update((stage, step) for stage, step, _ in fell)
        if found:
            failures += [(stage, found) for stage, _, _ in fell] or [("(ended)", found)]
            print(f"FAILED {store} (log {log.name}), killed in {fell}:")
            for line in found:
                print(f"  {line}", flush=True)
        else:
            shutil.rmtree(store)
            log.unlink()
    order = ["(before a stage)", *expected, "(after a stage)"]
    failed = collections.Counter(stage for stage, _ in failures)
    steps = ["computing", "manifest", "renamed", "other"]
    rows = [[stage, sum(places[stage, step] for step in steps), *(places[stage, step] for step in steps), failed[stage]]
            for stage in order]
    rows.append(["all", done, *(sum(places[stage, step] for stage in order) for step in steps), sum(failed.values())])
    table(["killed in", "kills", "computing", "manifest written", "renamed", "between", "failures"], rows)
    missed = [stage for stage in expected if not any(places[stage, step] for step in steps)]
    if missed:
        print(f"no kill fell in: {', '.join(missed)}")
    print(f"{done} kills in {case} stores; {ended} builds ended before their kill; {len(failures)} failures")
    return len(failures)


def training_kills(finch: Finch, arguments, work: Path) -> int:
    """Kills builds while they train; the weights must come out as if nothing had been."""
    whole = fresh(work / "trained")
    log = work / "trained.log"
    process = start(finch, whole, log)
    training = lambda: b'"event":"training"' in log.read_bytes()
    wait_for(process, training)
    begun = time.monotonic()
    if process.wait() != 0:
        sys.exit(f"error: the undisturbed training failed:\n{log.read_text()[-3000:]}")
    seconds = time.monotonic() - begun
    expected = digests(whole)
    trained = next(stage["name"] for stage in newest(whole)["stages"] if stage["kind"] == "train")
    print(f"undisturbed: stage `{trained}` trained for {seconds:.2f} s", flush=True)
    # Everything before the training is taken from the undisturbed store.
    base = fresh(work / "untrained")
    shutil.copytree(whole, base, symlinks=True)
    shutil.rmtree(base / "datasets" / expected[trained][0])
    shutil.rmtree(base / "training", ignore_errors=True)
    rows, failures, ended, done, case = [], 0, 0, 0, 0
    while done < arguments.train_kills:
        if ended > 2 * arguments.train_kills + 10:
            sys.exit(f"error: {ended} trainings ended before they could be killed")
        chance = random.Random(f"{arguments.seed} training {case}")
        share = (case % arguments.train_kills + chance.random()) / arguments.train_kills
        store, log = fresh(work / f"training-{case:04}"), work / f"training-{case:04}.log"
        shutil.copytree(base, store, symlinks=True)
        group = case % 2 == 1
        case += 1
        process = start(finch, store, log)
        if not kill(process, training, share * seconds, group):
            ended += 1
            continue
        done += 1
        before = published(store)
        said = [event["record"] for event in events(log.read_text(errors="replace")) if event["event"] == "training"]
        saved = max((record["step"] for record in said if record.get("event") == "checkpoint"), default=None)
        reached = max((record["step"] for record in said if record.get("event") == "step"), default=0)
        build = finch.run(store)
        # Its trainer may be at work on its last checkpoint; it holds the folder until then.
        waited = time.monotonic()
        while "another trainer is at work" in build.stderr and time.monotonic() - waited < STUCK:
            time.sleep(0.2)
            build = finch.run(store)
        found = problems(finch, store, build, expected, before)
        resumed = None
        if build.returncode == 0 and expected[trained][0] not in before:
            stage = next(stage for stage in newest(store)["stages"] if stage["name"] == trained)
            resumed = (stage.get("training") or {}).get("resumed_from")
            if saved is not None and (resumed is None or resumed < saved):
                found.append(f"the training went on after step {resumed}, not after its checkpoint of step {saved}")
        rows.append([f"{share * seconds:.2f} s", "finch and trainer" if group else "finch", reached,
                     "none" if saved is None else saved, "none" if resumed is None else resumed, "no" if found else "yes"])
        if found:
            failures += 1
            print(f"FAILED {store}, killed {share * seconds:.2f} s into the training:")
            for line in found:
                print(f"  {line}", flush=True)
        else:
            shutil.rmtree(store)
            log.unlink()
    table(["killed after", "what", "step", "checkpoint", "resumed after", "equal weights"], rows)
    print(f"{done} kills in training; {ended} ended before their kill; {failures} failures")
    return failures


def main() -> int:
    """Reads the arguments; the exit code is 1 when anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finch", required=True, help="the program")
    parser.add_argument("--spec", type=Path, help="a spec; the demo's without its training when none is named")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--train-spec", type=Path, default=ROOT / "tests/faults/training.toml")
    parser.add_argument("--train-kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=33)
    parser.add_argument("--work", type=Path, default=ROOT / "build/faults", help="where stores are made and failures kept")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    failures = 0
    if arguments.kills > 0:
        failures += kills(Finch(arguments.finch, arguments.spec or demo(arguments.work)), arguments, arguments.work)
    if arguments.train_kills > 0:
        failures += training_kills(Finch(arguments.finch, arguments.train_spec), arguments, arguments.work)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Check the committed sample logs and print the table of runs.

Usage: `check.py data/logs [data/init/logs] [--forbid TEXT ...]`.  Exit status 1
if a requirement does not hold: enough tasks, transitions, improvements, failures
and time-outs, short prompts, small files, no path of the machine in any file.
"""

import argparse
import gzip
import json
import os
import shutil
import socket
import sqlite3
import statistics
import sys
import tempfile
import tomllib
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
FORBIDDEN = ["/tmp/", "/root", "/home/", "/Users/", "/work", "site-packages"]


def main() -> int:
    """Read every run, print the table, check the requirements."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--markdown", action="store_true", help="print only the table of README.md")
    parser.add_argument("--forbid", nargs="*", default=[], help="more texts that no file may contain")
    args = parser.parse_args()
    if args.markdown:
        return markdown(args.folders)
    wrong, prompts, total, tasks = [], [], Counter(), set()
    print(f"{'run':28}{'task':26}{'mode':9}" + "".join(
        f"{h:>8}" for h in ("cand", "trans", "better", "same", "failed", "timeout", "copies", "gone")))
    for folder in args.folders:
        for sidecar in sorted(folder.rglob("finch.toml")):
            run, task = sidecar.parent, tomllib.loads(sidecar.read_text())["task"]
            programs = read_run(run)
            row = summary(programs, score_rule(task))
            if folder == args.folders[0]:
                tasks.add(task)
                total += row
                total["shinka" if (run / "programs.sqlite").exists() else "openevolve"] += row["trans"]
                prompts += [p["prompt"] for p in programs.values() if p.get("prompt")]
            print(f"{'/'.join(run.parts[-2:]):28.28}{task:26}{modes(programs):9}" + "".join(
                f"{row[k]:8}" for k in ("cand", "trans", "better", "same", "failed", "timeout", "copies", "gone")))
    print(f"total: {dict(total)}")
    median = statistics.median(prompts)
    print(f"tasks: {len(tasks)}; prompt characters: median {median:.0f}, longest {max(prompts)}")

    share = total["better"] / max(1, total["trans"])
    print(f"better: {share:.1%}; failed: {total['failed'] / total['trans']:.1%}; time-outs: {total['timeout']}")
    limits = [("tasks", len(tasks) >= 12), ("transitions", total["trans"] >= 1500),
              ("shinka transitions", total["shinka"] >= 250), ("improvements", share >= 0.20),
              ("failures", 0.02 <= total["failed"] / total["trans"] <= 0.2),
              ("time-outs", total["timeout"] >= 5), ("median prompt", median < 4000)]
    wrong += [name for name, holds in limits if not holds]
    for folder, limit in zip(args.folders, (20_000_000, 700_000)):
        files = [p for p in folder.rglob("*") if p.is_file()]
        size, largest = sum(p.stat().st_size for p in files), max(files, key=lambda p: p.stat().st_size)
        print(f"{folder}: {len(files)} files, {size} bytes, largest {largest.relative_to(folder)} "
              f"{largest.stat().st_size}")
        wrong += [f"{folder} is too large"] if size > limit else []
        wrong += [f"{folder} has too many files"] if limit < 1_000_000 and len(files) > 8 else []
        wrong += ["a file over 4 MB"] if largest.stat().st_size > 4_000_000 else []
        texts = FORBIDDEN + args.forbid + [t for t in (socket.gethostname(),) if len(t) > 3]
        for path in files:
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            wrong += [f"{path} contains {t}" for t in texts if t.encode() in data]
    print("\n".join(f"WRONG: {w}" for w in wrong) or "all requirements hold")
    return 1 if wrong else 0


def markdown(folders) -> int:
    """Print the table of runs for README.md."""
    print("| run | scaffold | task | edits | candidates | transitions | better | failed | late |")
    print("|---|---|---|---|---:|---:|---:|---:|---:|")
    for folder in folders:
        for sidecar in sorted(folder.rglob("finch.toml")):
            run, task = sidecar.parent, tomllib.loads(sidecar.read_text())["task"]
            programs = read_run(run)
            row = summary(programs, score_rule(task))
            scaffold = "ShinkaEvolve" if (run / "programs.sqlite").exists() else "OpenEvolve"
            counts = " | ".join(str(row[k]) for k in ("cand", "trans", "better", "failed", "timeout"))
            print(f"| `{run.as_posix()}` | {scaffold} | `{task}` | {modes(programs)} | {counts} |")
    return 0


def score_rule(task: str) -> tuple[str, int]:
    """Return the metric that a task is judged by, and the sign of its direction."""
    with open(HERE / "tasks" / task / "task.toml", "rb") as handle:
        raw = tomllib.load(handle)
    return raw.get("score_key", "combined_score"), -1 if raw.get("direction") == "minimize" else 1


def read_run(run: Path) -> dict:
    """Union of all programs of a run by id, from checkpoints, trace or database."""
    programs = {}
    for name in ("evolution_trace.jsonl", "evolution_trace.jsonl.gz"):
        if (run / name).exists():
            opened = gzip.open if name.endswith("gz") else open
            with opened(run / name, "rt", encoding="utf-8") as handle:
                for line in handle:
                    record = json.loads(line)
                    prompt = record.get("prompt") or {}
                    programs[record["child_id"]] = {
                        "parent": record["parent_id"], "metrics": record["child_metrics"],
                        "parent_metrics": record["parent_metrics"], "code": record.get("child_code"),
                        "prompt": len(prompt.get("system", "")) + len(prompt.get("user", "")),
                        "mode": "diff" if "SEARCH/REPLACE" in prompt.get("user", "") else "rewrite"}
    for path in run.glob("checkpoints/*/programs/*.json"):
        raw = json.loads(path.read_text(encoding="utf-8"))
        key, prompt = next(iter((raw.get("prompts") or {}).items()), ("", {}))
        programs[raw["id"]] = {
            "parent": raw["parent_id"], "metrics": raw["metrics"], "code": raw["code"],
            "parent_metrics": raw["metadata"].get("parent_metrics"),
            "copy": raw["metadata"].get("migrant", False),
            "prompt": len(prompt.get("system", "")) + len(prompt.get("user", "")),
            "mode": {"diff_user": "diff", "full_rewrite_user": "rewrite"}.get(key, "")}
    if (run / "programs.sqlite").exists():
        programs.update(read_shinka(run))
    return programs


def read_shinka(run: Path) -> dict:
    """Read the database from a copy, because opening a write-ahead log changes it."""
    programs = {}
    with tempfile.TemporaryDirectory() as folder:
        for path in run.glob("programs.sqlite*"):
            shutil.copyfile(path, os.path.join(folder, path.name))
        database = sqlite3.connect(os.path.join(folder, "programs.sqlite"))
        query = "select id, parent_id, code, combined_score, public_metrics, correct, metadata from programs"
        for key, parent, code, score, public, correct, metadata in database.execute(query):
            meta = json.loads(metadata or "{}")
            answer = meta.get("llm_result") or {}
            metrics = {**json.loads(public or "{}"), "combined_score": score}
            if not correct:
                metrics["error"] = meta.get("stdout_log") or "TimeLimit of the scaffold"
            programs[key] = {"parent": parent, "metrics": metrics, "code": code, "parent_metrics": None,
                             "copy": bool(meta.get("_is_island_copy")),
                             "prompt": len(answer.get("system_msg", "")) + len(answer.get("msg", "")),
                             "mode": meta.get("patch_type", "")}
        database.close()
    return programs


def modes(programs: dict) -> str:
    """The edit modes of a run, in words."""
    found = {p.get("mode") for p in programs.values()} - {"", None, "init"}
    return "mixed" if len(found) > 1 else next(iter(found), "")


def summary(programs: dict, rule: tuple[str, int]) -> Counter:
    """Count candidates, transitions and outcomes of one run."""
    key, sign = rule
    row = Counter()
    for program in programs.values():
        if program.get("copy"):
            row["copies"] += 1
            continue
        row["cand"] += 1
        metrics = program["metrics"]
        failed = "error" in metrics
        late = failed and (metrics.get("timeout") is True or "TimeLimit" in str(metrics["error"]))
        if not program["parent"]:
            continue
        row["trans"] += 1
        row["failed"] += failed and not late
        row["timeout"] += late
        parent = programs.get(program["parent"])
        row["gone"] += parent is None
        before = (parent["metrics"] if parent else program["parent_metrics"]) or {}
        if failed or "error" in before or key not in metrics or key not in before:
            continue
        row["better"] += sign * metrics[key] > sign * before[key]
        row["same"] += metrics[key] == before[key]
    return row


if __name__ == "__main__":
    sys.exit(main())

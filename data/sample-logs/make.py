#!/usr/bin/env python3
"""Remake the sample logs: `python3 data/sample-logs/make.py --out data/logs`.

Installs the scaffolds into a virtual environment, starts the loopback endpoint
that stands in for a language model, runs every run of `runs.toml`, and keeps of
each run what a project would commit.  Nothing that a scaffold wrote is edited:
whole files and whole checkpoints are removed, and that is all.

Scaffolds stamp random ids and times, so a remake is equivalent, not identical.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.dont_write_bytecode = True  # leave no cache folders in the repository

from endpoint import start  # noqa: E402

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Parse the arguments, run everything, report what failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the kept logs, e.g. data/logs")
    parser.add_argument("--init", type=Path, help="folder for the small runs of `finch init`, e.g. data/init/logs")
    parser.add_argument("--venv", type=Path, default=Path("build/sample-logs/venv"))
    parser.add_argument("--work", type=Path, default=Path("build/sample-logs/work"))
    parser.add_argument("--only", nargs="*", help="folders of the runs to make, default all")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time")
    args = parser.parse_args()

    python = environment(args.venv)
    work = args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    for name in ("tasks", "shinka_run.py", "shinka_evaluate.py"):
        _copy(HERE / name, work / name)
    with open(HERE / "runs.toml", "rb") as handle:
        runs = tomllib.load(handle)["runs"]
    if args.only:
        runs = [run for run in runs if run["folder"] in args.only]

    server = start(HERE / "tasks")
    base = f"http://127.0.0.1:{server.server_address[1]}"
    failed = []
    with ThreadPoolExecutor(args.jobs) as pool:
        def one(run):
            """Run one search and keep its logs."""
            target = args.init if run.get("init") else args.out
            if target is None:
                return
            make = make_openevolve if run["scaffold"] == "openevolve" else make_shinka
            if not make(run, python, work, base, target):
                failed.append(run["folder"])
            print(f"{run['folder']}: {'failed' if run['folder'] in failed else 'done'}", flush=True)
        list(pool.map(one, runs))
    server.shutdown()
    return 1 if failed else 0


def environment(folder: Path) -> Path:
    """Create the virtual environment if it is not there; return its interpreter."""
    python = folder.resolve() / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        venv.create(folder, with_pip=True)
        install = [str(python), "-m", "pip", "install", "-q", "-r", str(HERE / "requirements.txt")]
        subprocess.run(install, check=True)
    return python


def task_of(run: dict) -> dict:
    """Read the task file of a run, and find its initial program."""
    folder = HERE / "tasks" / run["task"]
    with open(folder / "task.toml", "rb") as handle:
        task = tomllib.load(handle)
    task["initial"] = next(folder.glob("initial.*")).name
    return task


def make_openevolve(run: dict, python: Path, work: Path, base: str, target: Path) -> bool:
    """Run OpenEvolve once, in a relative folder so that no path gets into the logs."""
    task, kept = task_of(run), run.get("checkpoints", 1)
    config = {
        "max_iterations": run["iterations"],
        "checkpoint_interval": run["iterations"] // kept,
        "random_seed": run.get("seed", 42),
        "language": task["language"],
        "diff_based_evolution": run["mode"] == "diff",
        "max_code_length": 8000,
        "llm": {
            "api_base": f"{base}/{run['task']}/v1", "api_key": "none",
            "models": [{"name": "sample-operator", "weight": 1.0}],
            "timeout": 30, "retries": 1, "retry_delay": 1,
        },
        "prompt": {
            "system_message": task["prompt"],
            "num_top_programs": run.get("top", 1), "num_diverse_programs": 0,
            "include_artifacts": False, "use_template_stochasticity": False,
            "diff_summary_max_lines": 3, "diff_summary_max_line_len": 60,
            "suggest_simplification_after_chars": None,
        },
        "database": {
            # Large grids, so that few programs are pushed out of their cell; with
            # the score as a feature a better program gets a cell of its own.
            "population_size": 1000, "archive_size": 30, "log_prompts": True,
            "num_islands": run.get("islands", 1), "feature_bins": 500,
            "feature_dimensions": ["complexity", run.get("feature", "score")],
            "migration_interval": run.get("migration", 1000), "migration_rate": 0.1,
            "exploration_ratio": run.get("exploration", 0.35), "exploitation_ratio": 0.5,
        },
        "evaluator": {
            "timeout": run.get("timeout", 8), "max_retries": 0,
            "cascade_evaluation": False, "parallel_evaluations": run.get("workers", 1),
        },
        "evolution_trace": {
            "enabled": "trace" in run, "format": "jsonl", "include_code": True,
            "include_prompts": True, "compress": run.get("trace") == "gz", "buffer_size": 10,
        },
    }
    output = work / "openevolve" / run["folder"]
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    (output / "config.yaml").write_text(json.dumps(config, indent=1))
    inputs = f"tasks/{run['task']}"
    relative = output.relative_to(work).as_posix()
    command = [str(python), "-m", "openevolve.cli", f"{inputs}/{task['initial']}", f"{inputs}/evaluator.py",
               "--config", f"{relative}/config.yaml", "--output", relative]
    if not _run(command, work, output.with_suffix(".out")):
        return False
    final = run["iterations"] // kept * kept
    keep = [f"checkpoints/checkpoint_{final * k // kept}" for k in range(1, kept + 1)] + ["best"]
    if run.get("only_trace"):
        keep = []
    if "trace" in run:
        keep.append("evolution_trace.jsonl" + (".gz" if run["trace"] == "gz" else ""))
    if run.get("log"):
        keep.append("logs")
    _keep(output, _folder(run, target), keep, run["task"])
    return True


def make_shinka(run: dict, python: Path, work: Path, base: str, target: Path) -> bool:
    """Run ShinkaEvolve once; `shinka_run.py` holds its settings."""
    task = task_of(run)
    output = work / "shinka" / run["folder"]
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    settings = {**run, "language": task["language"], "prompt": task["prompt"], "initial": task["initial"],
                "model": f"local/sample-operator@{base}/{run['task']}/v1",
                "results": output.relative_to(work).as_posix()}
    command = [str(python), "shinka_run.py", json.dumps(settings)]
    if not _run(command, work, output.with_suffix(".out")):
        return False
    keep = ["programs.sqlite"]
    if run.get("wal"):
        keep.append("programs.sqlite-wal")
    keep += [f"gen_{n}" for n in run.get("generations_kept", [])]
    _keep(output, _folder(run, target), keep, run["task"])
    return True


def _folder(run: dict, target: Path) -> Path:
    return target / run["folder"] if run.get("init") else target / run["scaffold"] / run["folder"]


def _run(command, cwd: Path, output: Path) -> bool:
    """Run a scaffold with a small environment and its output in a file."""
    kept = {k: os.environ[k] for k in ("PATH", "HOME", "LANG", "SYSTEMROOT", "TEMP") if k in os.environ}
    extra = {"ENABLE_ARTIFACTS": "false", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
             "PYTHONDONTWRITEBYTECODE": "1"}
    with open(output, "w", encoding="utf-8") as sink:
        done = subprocess.run(command, cwd=cwd, env={**kept, **extra}, stdout=sink, stderr=sink)
    return done.returncode == 0


def _keep(source: Path, target: Path, names: list[str], task: str) -> None:
    """Copy the named files and folders of a run, and say which task it is."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in names:
        if (source / name).exists():
            _copy(source / name, target / name)
    (target / "finch.toml").write_text(f'task = "{task}"\n', encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


if __name__ == "__main__":
    sys.exit(main())

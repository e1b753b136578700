"""Evaluation job for ShinkaEvolve: calls the evaluator of the task.

OpenEvolve imports the evaluator; ShinkaEvolve starts a program that leaves two
JSON files.  This adapter lets both judge a candidate by the same code.
"""

import argparse
import importlib.util
import json
import os
import sys


def main():
    """Evaluate one program and write `metrics.json` and `correct.json`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--program_path", required=True)
    parser.add_argument("--results_dir", required=True)
    parser.add_argument("--task", required=True)
    args = parser.parse_args()

    path = os.path.join("tasks", args.task, "evaluator.py")
    spec = importlib.util.spec_from_file_location("evaluator", path)
    evaluator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(evaluator)

    try:
        metrics = evaluator.evaluate(args.program_path)
    except Exception as err:
        # No results, as after any crash; but a traceback would put the paths of
        # this machine into the database.
        sys.exit(f"evaluator failed: {type(err).__name__}: {err}")
    error = metrics.pop("error", None)
    score = metrics.pop("combined_score")
    _write(args.results_dir, "metrics.json", {"combined_score": score, "public": metrics, "private": {}})
    _write(args.results_dir, "correct.json", {"correct": error is None, "error": error})
    if error:
        print(error)


def _write(folder, name, content):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "w", encoding="utf-8") as handle:
        json.dump(content, handle, indent=2)


if __name__ == "__main__":
    main()

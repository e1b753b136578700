#!/usr/bin/env python3
"""Write `data/tasks.toml`: `catalogue.py finch-tasks.csv > data/tasks.toml`.

The sample tasks come from `tasks/*/task.toml`.  The tasks of the Finch
Collection come from a CSV file with the columns `task,domain,upstream`; what is
known beyond that (directions, aliases) is listed here.  What is not known is
left out: a guess would be taken for a fact by whoever filters with it.
"""

import csv
import json
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent

HEADER = """\
# The task catalogue: what finch knows about a task beyond what its logs say.
#
# domain       the group a task belongs to
# upstream     the benchmark or project that the task comes from
# statement    the task in one sentence
# alias_group  tasks that share this name are the same problem: a split must keep
#              them on one side
# score_key    the metric to judge by; without it the scaffold's combined score
#              counts, which every scaffold maximises
# direction    "maximize" or "minimize"; with score_key the direction of that
#              metric, alone only a note on the task's own objective
# bound        no valid score can be better than this
#
# A key that is absent is unknown. Written by data/sample-logs/catalogue.py; the
# tasks after the samples are those of the paper "Evolution Fine-Tuning"
# (arXiv 2606.29082), after the per-task counts of its released collection.
"""

# Objectives of the held-out tasks that the collection holds, as the paper gives them.
DIRECTIONS = {
    "erdos_min_overlap": "minimize",
    "first_autocorr_ineq": "minimize",
    "second_autocorr_ineq": "maximize",
    "circle_packing": "maximize",
    "ahc039": "maximize",
    "affine_transform_2d": "maximize",
    "convolve2d_full_fill": "maximize",
    "fft_convolution": "maximize",
}

# Frontier-CS problems that are AtCoder heuristic contests under another name.
CONTESTS = {147: "ahc001", 148: "ahc002", 154: "ahc008", 157: "ahc011", 158: "ahc012", 159: "ahc014",
            160: "ahc015", 162: "ahc021", 163: "ahc024", 164: "ahc026", 166: "ahc034", 167: "ahc039",
            171: "ahc046"}


def main():
    """Print the catalogue."""
    aliases = {f"frontier_cs_{number}": contest for number, contest in CONTESTS.items()}
    aliases |= {contest: contest for contest in CONTESTS.values()}
    aliases["circle_packing"] = "circle_packing_26"
    print(HEADER)
    print("# --- the sample tasks of this repository (data/logs) ---\n")
    for path in sorted((HERE / "tasks").glob("*/task.toml")):
        task = tomllib.loads(path.read_text(encoding="utf-8"))
        table(path.parent.name, {**task, "upstream": "finch samples"})
    print("# --- the Finch Collection, 442 tasks ---\n")
    with open(sys.argv[1], newline="", encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            name = row["task"]
            table(name, {"domain": row["domain"], "upstream": row["upstream"],
                         "alias_group": aliases.get(name), "direction": DIRECTIONS.get(name)})


def table(name, values):
    """Print one task; JSON strings and numbers are valid TOML."""
    quoted = name if all(c.isalnum() or c in "_-" for c in name) else json.dumps(name)
    print(f"[tasks.{quoted}]")
    for key in ("domain", "upstream", "statement", "alias_group", "score_key", "direction", "bound"):
        if values.get(key) is not None:
            print(f"{key} = {json.dumps(values[key], ensure_ascii=False)}")
    print()


if __name__ == "__main__":
    main()

"""Evaluator of `load_balance`: how far the busiest machine is above the mean."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sandbox import Failure, failed, numbers, run_python  # noqa: E402

TASKS = 90
SPEEDS = [1.0, 1.0, 1.3, 1.7, 2.0, 2.4, 3.1]


def evaluate(program_path):
    """Score one program; `imbalance` is what counts, and it is minimised."""
    draw = numbers(90)
    sizes = [round(1 + 40 * next(draw) ** 2, 3) for _ in range(TASKS)]
    try:
        place = run_python(program_path, "solve", [sizes, SPEEDS])
        if len(place) != TASKS or any(m not in range(len(SPEEDS)) for m in place):
            raise Failure("InvalidAnswer: expected a machine for each task")
    except (Failure, TypeError) as err:
        return failed(err)
    total = [0.0] * len(SPEEDS)
    for size, machine in zip(sizes, place):
        total[machine] += size / SPEEDS[machine]
    imbalance = max(total) * sum(SPEEDS) / sum(sizes) - 1.0
    return {"combined_score": 1.0 / (1.0 + imbalance), "imbalance": imbalance, "valid": 1.0}

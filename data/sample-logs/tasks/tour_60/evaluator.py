"""Evaluator of `tour_60`: the length of a closed tour through 60 points."""

import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sandbox import Failure, failed, numbers, run_python  # noqa: E402

COUNT = 60


def evaluate(program_path):
    """Score one program; `tour_length` is what counts, and it is minimised."""
    draw = numbers(60)
    points = [(round(next(draw), 4), round(next(draw), 4)) for _ in range(COUNT)]
    try:
        tour = run_python(program_path, "solve", [points])
        if sorted(tour) != list(range(COUNT)):
            raise Failure("InvalidAnswer: the tour does not visit every point once")
    except (Failure, TypeError) as err:
        return failed(err)
    length = sum(math.dist(points[tour[k - 1]], points[tour[k]]) for k in range(COUNT))
    return {"combined_score": 1.0 / length, "tour_length": length, "valid": 1.0}

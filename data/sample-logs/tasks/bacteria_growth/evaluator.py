"""Evaluator of `bacteria_growth`: the error of a growth law on unseen points.

The score for the scaffold is negative; the task is judged by `rmse`, which is
minimised.  An answer of the wrong form is not caught here on purpose: the
scaffold then reports the failure itself.
"""

import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sandbox import Failure, failed, numbers, run_python  # noqa: E402


def truth(density, heat):
    """The hidden law."""
    bell = math.exp(-((heat - 34.0) / 9.0) ** 2)
    return 0.8 * density * (1 - density / 7.5) * density / (density + 0.6) * bell


def evaluate(program_path):
    """Score one program by minus the root of the mean squared error."""
    draw = numbers(23)
    point = lambda: (round(0.1 + next(draw) * 7, 3), round(10 + next(draw) * 35, 2))
    samples = [(*p, truth(*p) + 0.04 * (next(draw) - 0.5)) for p in (point() for _ in range(60))]
    queries = [point() for _ in range(150)]
    try:
        answer = run_python(program_path, "solve", [samples, queries])
    except Failure as err:
        if "math domain" in str(err):
            raise
        return failed(err)
    rmse = math.sqrt(sum((v - truth(*q)) ** 2 for v, q in zip(answer, queries)) / len(queries))
    return {"combined_score": -rmse, "rmse": rmse, "valid": 1.0}

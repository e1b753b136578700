"""Evaluator of `damped_spring`: the error on unseen times, as a negative score.

All valid scores are negative, while a failed program gets 0.0.  That is on
purpose: who takes the score alone sees the failures as the best programs.
"""

import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sandbox import Failure, failed, numbers, run_python  # noqa: E402


def truth(t):
    """The hidden law: a damped swing, and a push at t = 3.4."""
    late = max(0.0, t - 3.4)
    swing = 1.7 * math.exp(-0.17 * t) * math.cos(2.3 * t + 0.6)
    return 0.25 + swing + 0.8 * math.exp(-0.17 * late) * math.sin(2.3 * late)


def evaluate(program_path):
    """Score one program by minus the root of the mean squared error."""
    draw = numbers(17)
    times = sorted(round(next(draw) * 12, 3) for _ in range(60))
    values = [truth(t) + 0.05 * (next(draw) - 0.5) for t in times]
    queries = [0.1 * k for k in range(1, 125)]
    try:
        answer = run_python(program_path, "solve", [times, values, queries])
        if len(answer) != len(queries) or not all(math.isfinite(v) for v in answer):
            raise Failure("InvalidAnswer: expected one finite number for each query")
    except (Failure, TypeError) as err:
        return failed(err)
    rmse = math.sqrt(sum((v - truth(t)) ** 2 for v, t in zip(answer, queries)) / len(queries))
    return {"combined_score": -rmse, "rmse": rmse, "valid": 1.0}

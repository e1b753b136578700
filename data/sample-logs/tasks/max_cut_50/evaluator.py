"""Evaluator of `max_cut_50`: the share of the weight that is cut."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sandbox import Failure, failed, numbers, run_python  # noqa: E402

COUNT = 50


def evaluate(program_path):
    """Score one program by the weight of the cut over the total weight."""
    draw = numbers(50)
    weights = [[0.0] * COUNT for _ in range(COUNT)]
    for i in range(COUNT):
        for j in range(i):
            if next(draw) < 0.3:
                weights[i][j] = weights[j][i] = round(next(draw) * 10, 2)
    try:
        side = run_python(program_path, "solve", [weights])
        if len(side) != COUNT or any(s not in (0, 1) for s in side):
            raise Failure("InvalidAnswer: expected 0 or 1 for each node")
    except (Failure, TypeError) as err:
        return failed(err)
    pairs = [(i, j) for i in range(COUNT) for j in range(i)]
    cut = sum(weights[i][j] for i, j in pairs if side[i] != side[j])
    return {"combined_score": cut / sum(weights[i][j] for i, j in pairs), "cut_weight": cut, "valid": 1.0}

"""Evaluator of `knapsack_60x3`: the value of the chosen items, in C++."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sandbox import Failure, failed, numbers, run_cpp  # noqa: E402

COUNT, SHARE = 60, 0.35


def evaluate(program_path):
    """Score one program by the value over the value of all items."""
    draw = numbers(63)
    items = []
    for _ in range(COUNT):
        cost = [round(5 + 45 * next(draw), 2) for _ in range(3)]
        items.append((round(sum(cost) / 3 + 25 * next(draw), 2), cost))
    limits = [round(SHARE * sum(cost[k] for _, cost in items), 2) for k in range(3)]
    rows = [[COUNT, *limits]] + [[value, *cost] for value, cost in items]
    try:
        output = run_cpp(program_path, "\n".join(" ".join(map(str, row)) for row in rows))
        chosen = [int(word) for word in output.split()]
        if len(set(chosen)) < len(chosen) or any(i not in range(COUNT) for i in chosen):
            raise Failure("InvalidAnswer: an item is unknown or chosen twice")
        if any(sum(items[i][1][k] for i in chosen) > limits[k] + 1e-6 for k in range(3)):
            raise Failure("InvalidAnswer: a limit is exceeded")
    except (Failure, ValueError) as err:
        return failed(err)
    value = sum(items[i][0] for i in chosen)
    return {"combined_score": value / sum(v for v, _ in items), "value": value, "valid": 1.0}

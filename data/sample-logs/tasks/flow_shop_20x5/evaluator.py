"""Evaluator of `flow_shop_20x5`: the makespan of 20 jobs on 5 machines."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sandbox import Failure, failed, numbers, run_python  # noqa: E402

JOBS, MACHINES = 20, 5


def evaluate(program_path):
    """Score one program; `makespan` is what counts, and it is minimised."""
    draw = numbers(20)
    times = [[5 + int(next(draw) * 95) for _ in range(MACHINES)] for _ in range(JOBS)]
    try:
        order = run_python(program_path, "solve", [times])
        if sorted(order) != list(range(JOBS)):
            raise Failure("InvalidAnswer: the order does not hold every job once")
    except (Failure, TypeError) as err:
        return failed(err)
    free = [0] * MACHINES
    for job in order:
        ready = 0
        for machine, time in enumerate(times[job]):
            ready = free[machine] = max(ready, free[machine]) + time
    busiest = max(sum(job[k] for job in times) for k in range(MACHINES))
    return {"combined_score": busiest / free[-1], "makespan": float(free[-1]), "valid": 1.0}

"""Order 20 jobs on 5 machines so that the last one ends early."""
import math
import random

# EVOLVE-BLOCK-START
SEED = 1
STEPS = 30
HEAT = 40.0


def makespan(times, order):
    """When the last machine is done."""
    free = [0] * len(times[0])
    for job in order:
        ready = 0
        for machine, t in enumerate(times[job]):
            ready = free[machine] = max(ready, free[machine]) + t
    return free[-1]


def arrange(times):
    """Take the jobs as they come."""
    return list(range(len(times)))


def search(times, order):
    """Leave the order alone."""
    return order
# EVOLVE-BLOCK-END


def solve(times):
    """Return the order of the jobs."""
    return search(times, arrange(times))

"""Order 20 jobs on 5 machines so that the last one ends early."""
import math
import random

# EVOLVE-BLOCK-START
SEED = 486
STEPS = 1803
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
    """Insert the jobs, longest first, each at its best place."""
    order = []
    for job in sorted(range(len(times)), key=lambda j: -sum(times[j])):
        places = [order[:k] + [job] + order[k:] for k in range(len(order) + 1)]
        order = min(places, key=lambda o: makespan(times, o))
    return order


def search(times, order):
    """Move one job to another place, keep what does not hurt."""
    rng = random.Random(SEED)
    value = makespan(times, order)
    for _ in range(STEPS):
        other = list(order)
        other.insert(rng.randrange(len(order)), other.pop(rng.randrange(len(order))))
        now = makespan(times, other)
        if now <= value:
            order, value = other, now
    return order
# EVOLVE-BLOCK-END


def solve(times):
    """Return the order of the jobs."""
    return search(times, arrange(times))

"""Spread tasks over machines of different speed."""
import random

# EVOLVE-BLOCK-START
SEED = 585
STEPS = 1880
TRIES = 2


def arrange(sizes):
    """Largest task first."""
    return sorted(range(len(sizes)), key=lambda t: -sizes[t])


def assign(sizes, speeds, order):
    """Deal the tasks out in turn."""
    place = [0] * len(sizes)
    for turn, task in enumerate(order):
        place[task] = turn % len(speeds)
    return place


def loads(sizes, speeds, place):
    """How long each machine works."""
    total = [0.0] * len(speeds)
    for size, machine in zip(sizes, place):
        total[machine] += size / speeds[machine]
    return total


def polish(sizes, speeds, place):
    """Move a random task of the busiest machine to the idlest one if that helps."""
    rng, place = random.Random(SEED), list(place)
    for _ in range(STEPS):
        busy = loads(sizes, speeds, place)
        high, low = busy.index(max(busy)), busy.index(min(busy))
        task = rng.choice([t for t, m in enumerate(place) if m == high])
        if busy[low] + sizes[task] / speeds[low] < busy[high]:
            place[task] = low
    return place
# EVOLVE-BLOCK-END


def solve(sizes, speeds):
    """Return the machine of each task."""
    return polish(sizes, speeds, assign(sizes, speeds, arrange(sizes)))
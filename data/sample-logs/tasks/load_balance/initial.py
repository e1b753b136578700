"""Spread tasks over machines of different speed."""
import random

# EVOLVE-BLOCK-START
SEED = 1
STEPS = 20
TRIES = 2


def arrange(sizes):
    """Take the tasks as they come."""
    return list(range(len(sizes)))


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
    """Leave the tasks where they are."""
    return place
# EVOLVE-BLOCK-END


def solve(sizes, speeds):
    """Return the machine of each task."""
    return polish(sizes, speeds, assign(sizes, speeds, arrange(sizes)))

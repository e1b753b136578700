"""Split the nodes of a weighted graph so that much weight is cut."""
import random

# EVOLVE-BLOCK-START
SEED = 1
ROUNDS = 2
KICKS = 4
SIZE = 30


def start(weights):
    """Even nodes on one side, odd nodes on the other."""
    return [i % 2 for i in range(len(weights))]


def gain(weights, side, i):
    """What moving node i adds to the cut."""
    return sum(w if side[i] == side[j] else -w for j, w in enumerate(weights[i]))


def improve(weights, side):
    """Keep the split."""
    return side


def restart(weights, side):
    """No second attempt."""
    return side
# EVOLVE-BLOCK-END


def solve(weights):
    """Return 0 or 1 for each node."""
    return restart(weights, improve(weights, start(weights)))

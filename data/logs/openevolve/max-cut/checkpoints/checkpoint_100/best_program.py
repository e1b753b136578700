"""Split the nodes of a weighted graph so that much weight is cut."""
import random

# EVOLVE-BLOCK-START
SEED = 1
ROUNDS = 2
KICKS = 38
SIZE = 30


def start(weights):
    """Even nodes on one side, odd nodes on the other."""
    return [i % 2 for i in range(len(weights))]


def gain(weights, side, i):
    """What moving node i adds to the cut."""
    return sum(w if side[i] == side[j] else -w for j, w in enumerate(weights[i]))


def improve(weights, side):
    """Go through the nodes and move those that gain."""
    side = list(side)
    for _ in range(ROUNDS):
        for i in range(len(side)):
            if gain(weights, side, i) > 0:
                side[i] = 1 - side[i]
    return side


def restart(weights, side):
    """Improve random splits too, and keep the best."""
    rng = random.Random(SEED)
    cut = lambda s: sum(w for i, row in enumerate(weights) for j, w in enumerate(row[:i]) if s[i] != s[j])
    fresh = [[rng.randrange(2) for _ in side] for _ in range(KICKS)]
    return max([side] + [improve(weights, s) for s in fresh], key=cut)
# EVOLVE-BLOCK-END


def solve(weights):
    """Return 0 or 1 for each node."""
    return restart(weights, improve(weights, start(weights)))

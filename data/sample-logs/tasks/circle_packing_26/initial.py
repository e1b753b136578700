"""Pack 26 circles into the unit square; the sum of the radii counts."""
import math
import random

COUNT = 26
WIDTH = 1.0
HEIGHT = 1.0

# EVOLVE-BLOCK-START
SEED = 1
MOVES = 200
STEP = 0.05
MARGIN = 0.08


def place():
    """Scatter the centres."""
    rng = random.Random(SEED)
    return [(rng.uniform(MARGIN * WIDTH, (1 - MARGIN) * WIDTH),
             rng.uniform(MARGIN * HEIGHT, (1 - MARGIN) * HEIGHT)) for _ in range(COUNT)]


def radii(points):
    """One radius for all: half the smallest gap."""
    gap = min(min(x, y, WIDTH - x, HEIGHT - y) for x, y in points)
    for i, p in enumerate(points):
        for q in points[:i]:
            gap = min(gap, math.dist(p, q) / 2)
    return [gap] * COUNT


def refine(points):
    """Leave the centres where they are."""
    return points
# EVOLVE-BLOCK-END


def solve():
    """Return a list of (x, y, radius)."""
    points = refine(place())
    return [(x, y, r) for (x, y), r in zip(points, radii(points))]

"""Pack 21 circles into a rectangle of perimeter 4."""
import math
import random

COUNT = 21

# EVOLVE-BLOCK-START
SEED = 5
MOVES = 200
STEP = 0.1
MARGIN = 0.08
WIDTH = 1.5
HEIGHT = 2 - WIDTH


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
    """Return the width, the height and a list of (x, y, radius)."""
    points = refine(place())
    return WIDTH, HEIGHT, [(x, y, r) for (x, y), r in zip(points, radii(points))]

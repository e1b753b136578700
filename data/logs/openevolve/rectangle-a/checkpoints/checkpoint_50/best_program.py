"""Pack 21 circles into a rectangle of perimeter 4."""
import math
import random

COUNT = 21

# EVOLVE-BLOCK-START
SEED = 5
MOVES = 311
STEP = 0.04585
MARGIN = 0.08527
WIDTH = 1.051
HEIGHT = 2 - WIDTH


def place():
    """Scatter the centres."""
    rng = random.Random(SEED)
    return [(rng.uniform(MARGIN * WIDTH, (1 - MARGIN) * WIDTH),
             rng.uniform(MARGIN * HEIGHT, (1 - MARGIN) * HEIGHT)) for _ in range(COUNT)]


def radii(points):
    """Start from half gaps, then let each circle take what is left."""
    result = []
    for i, (x, y) in enumerate(points):
        gaps = [math.dist((x, y), q) / 2 for j, q in enumerate(points) if j != i]
        result.append(min(min(gaps), x, y, WIDTH - x, HEIGHT - y))
    for i, (x, y) in enumerate(points):
        room = [math.dist((x, y), q) - r for j, (q, r) in enumerate(zip(points, result)) if j != i]
        result[i] = max(0.0, min(min(room), x, y, WIDTH - x, HEIGHT - y))
    return result


def refine(points):
    """Push each centre away from its nearest neighbour."""
    points = list(points)
    for turn in range(MOVES):
        i = turn % COUNT
        x, y = points[i]
        u, v = min((q for j, q in enumerate(points) if j != i), key=lambda q: math.dist(q, (x, y)))
        gap = math.dist((x, y), (u, v)) + 1e-9
        x += STEP * 0.2 * (x - u) / gap
        y += STEP * 0.2 * (y - v) / gap
        points[i] = (min(0.93 * WIDTH, max(0.07 * WIDTH, x)), min(0.93 * HEIGHT, max(0.07 * HEIGHT, y)))
    return points
# EVOLVE-BLOCK-END


def solve():
    """Return the width, the height and a list of (x, y, radius)."""
    points = refine(place())
    return WIDTH, HEIGHT, [(x, y, r) for (x, y), r in zip(points, radii(points))]

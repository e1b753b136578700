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
MARGIN = 0.08686


def place():
    """Add centres one by one, each far from those before it."""
    rng = random.Random(SEED)
    points = []
    for _ in range(COUNT):
        tries = [(rng.uniform(MARGIN, 1 - MARGIN) * WIDTH,
                  rng.uniform(MARGIN, 1 - MARGIN) * HEIGHT) for _ in range(30)]
        points.append(max(tries, key=lambda t: min((math.dist(t, p) for p in points), default=1)))
    return points


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
    """Random moves whose size shrinks as the search goes on."""
    rng = random.Random(SEED)
    points, best = list(points), sum(radii(points))
    for turn in range(MOVES):
        i, size = rng.randrange(COUNT), STEP * (1 - turn / MOVES) + 0.001
        old = points[i]
        points[i] = (min(WIDTH, max(0, old[0] + rng.gauss(0, size))),
                     min(HEIGHT, max(0, old[1] + rng.gauss(0, size))))
        total = sum(radii(points))
        if total > best:
            best = total
        else:
            points[i] = old
    return points
# EVOLVE-BLOCK-END


def solve():
    """Return a list of (x, y, radius)."""
    points = refine(place())
    return [(x, y, r) for (x, y), r in zip(points, radii(points))]
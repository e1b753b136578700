"""Pack 32 circles into the unit square; the sum of the radii counts."""
import math
import random

COUNT = 32
WIDTH = 1.0
HEIGHT = 1.0

# EVOLVE-BLOCK-START
SEED = 3
MOVES = 429
STEP = 0.1
MARGIN = 0.08


def place():
    """A square grid, row by row."""
    side = math.ceil(math.sqrt(COUNT))
    return [((i % side + 0.5) / side * WIDTH, (i // side + 0.5) / side * HEIGHT)
            for i in range(COUNT)]


def radii(points):
    """Half the distance to the nearest neighbour or the wall."""
    result = []
    for i, (x, y) in enumerate(points):
        gaps = [math.dist((x, y), q) / 2 for j, q in enumerate(points) if j != i]
        result.append(min(min(gaps), x, y, WIDTH - x, HEIGHT - y))
    return result


def refine(points):
    """Move one centre at random, keep the move if the sum grows."""
    rng = random.Random(SEED)
    points, best = list(points), sum(radii(points))
    for _ in range(MOVES):
        i = rng.randrange(COUNT)
        old = points[i]
        points[i] = (min(WIDTH, max(0, old[0] + rng.gauss(0, STEP))),
                     min(HEIGHT, max(0, old[1] + rng.gauss(0, STEP))))
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
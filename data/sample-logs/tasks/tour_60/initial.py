"""Find a short closed tour through the given points."""
import math
import random

# EVOLVE-BLOCK-START
SEED = 1
PASSES = 1
KICKS = 5
SPAN = 30


def start(points):
    """Visit the points as they come."""
    return list(range(len(points)))


def improve(points, tour):
    """Reverse a stretch where that makes the tour shorter."""
    n = len(tour)
    for _ in range(PASSES):
        for i in range(1, n - 1):
            for j in range(i + 1, min(n, i + SPAN // 4)):
                a, b, c, d = (points[tour[k % n]] for k in (i - 1, i, j, j + 1))
                if math.dist(a, c) + math.dist(b, d) < math.dist(a, b) + math.dist(c, d) - 1e-9:
                    tour[i:j + 1] = reversed(tour[i:j + 1])
                    break
    return tour


def perturb(points, tour):
    """Stop here."""
    return tour
# EVOLVE-BLOCK-END


def solve(points):
    """Return the order of the points."""
    return perturb(points, improve(points, start(points)))

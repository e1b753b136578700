"""Find a short closed tour through the given points."""
import math
import random

# EVOLVE-BLOCK-START
SEED = 887
PASSES = 5
KICKS = 9
SPAN = 53


def start(points):
    """Go to the nearest point that is left."""
    tour, left = [SEED % len(points)], set(range(len(points)))
    left.discard(tour[0])
    while left:
        here = points[tour[-1]]
        tour.append(min(left, key=lambda i: math.dist(here, points[i])))
        left.discard(tour[-1])
    return tour


def improve(points, tour):
    """2-opt: reverse every stretch that helps, as far as SPAN reaches."""
    n = len(tour)
    for _ in range(PASSES):
        for i in range(1, n - 1):
            for j in range(i + 1, min(n, i + SPAN)):
                a, b, c, d = (points[tour[k % n]] for k in (i - 1, i, j, j + 1))
                if math.dist(a, c) + math.dist(b, d) < math.dist(a, b) + math.dist(c, d) - 1e-9:
                    tour[i:j + 1] = reversed(tour[i:j + 1])
    return tour


def perturb(points, tour):
    """Exchange two neighbouring segments, improve again, keep the better tour."""
    rng = random.Random(SEED)
    length = lambda t: sum(math.dist(points[t[k - 1]], points[t[k]]) for k in range(len(t)))
    for _ in range(KICKS):
        a, b, c = sorted(rng.sample(range(1, len(tour)), 3))
        tour = min(tour, improve(points, tour[:a] + tour[b:c] + tour[a:b] + tour[c:]), key=length)
    return tour
# EVOLVE-BLOCK-END


def solve(points):
    """Return the order of the points."""
    return perturb(points, improve(points, start(points)))
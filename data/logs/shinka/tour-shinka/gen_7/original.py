"""Find a short closed tour through the given points."""
import math
import random

# EVOLVE-BLOCK-START
SEED = 1
PASSES = 1
KICKS = 5
SPAN = 30


def start(points):
    """Go around the centre."""
    x = sum(p[0] for p in points) / len(points)
    y = sum(p[1] for p in points) / len(points)
    return sorted(range(len(points)), key=lambda i: math.atan2(points[i][1] - y, points[i][0] - x))


def improve(points, tour):
    """Take each stop out and put it where it costs least."""
    for _ in range(PASSES):
        for stop in list(tour):
            tour.remove(stop)
            p = points[stop]
            cost = lambda k: (math.dist(points[tour[k - 1]], p) + math.dist(p, points[tour[k]])
                              - math.dist(points[tour[k - 1]], points[tour[k]]))
            tour.insert(min(range(len(tour)), key=cost), stop)
    return tour


def perturb(points, tour):
    """Stop here."""
    return tour
# EVOLVE-BLOCK-END


def solve(points):
    """Return the order of the points."""
    return perturb(points, improve(points, start(points)))
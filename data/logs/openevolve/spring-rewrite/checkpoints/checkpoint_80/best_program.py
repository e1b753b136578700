"""Predict the swing of a damped spring from noisy measurements."""
import math

# EVOLVE-BLOCK-START
OMEGA = 1.0
DECAY = 0.5
RIDGE = 10.0
SHIFT = 1.0


def features(t):
    """Linear in the logarithm of the time."""
    return [1.0, math.log(t - DECAY)]


def fit(rows, targets):
    """Coordinate descent: solve for one weight at a time."""
    w = [0.0] * len(rows[0])
    left = list(targets)
    for _ in range(40):
        for i in range(len(w)):
            column = [r[i] for r in rows]
            step = (sum(c * e for c, e in zip(column, left)) - RIDGE * w[i]) / (
                sum(c * c for c in column) + RIDGE)
            w[i] += step
            left = [e - step * c for e, c in zip(left, column)]
    return w
# EVOLVE-BLOCK-END


def solve(times, values, queries):
    """Return the predictions at the queries."""
    weights = fit([features(t) for t in times], values)
    return [sum(w * f for w, f in zip(weights, features(t))) for t in queries]
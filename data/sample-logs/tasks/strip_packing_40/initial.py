"""Put rectangles into a strip of width 100; the waste below the top counts."""
import random

STRIP = 100.0

# EVOLVE-BLOCK-START
SEED = 1
TRIES = 8
BIAS = 0.5


def arrange(sizes):
    """Take the rectangles as they come."""
    return list(range(len(sizes)))


def shelves(sizes, order):
    """Fill one shelf, then open the next one above it."""
    places, x, y, high = {}, 0.0, 0.0, 0.0
    for i in order:
        width, height = sizes[i]
        if x + width > STRIP:
            x, y, high = 0.0, y + high, 0.0
        places[i] = (x, y)
        x, high = x + width, max(high, height)
    return places, y + high


def search(sizes, order):
    """Use the order as it is."""
    return shelves(sizes, order)[0]
# EVOLVE-BLOCK-END


def solve(sizes):
    """Return the lower left corner of each rectangle."""
    places = search(sizes, arrange(sizes))
    return [places[i] for i in range(len(sizes))]

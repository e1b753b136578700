"""Put rectangles into a strip of width 100; the waste below the top counts."""
import random

STRIP = 100.0

# EVOLVE-BLOCK-START
SEED = 1
TRIES = 8
BIAS = 1.37


def arrange(sizes):
    """Tallest first."""
    return sorted(range(len(sizes)), key=lambda i: -sizes[i][1])


def shelves(sizes, order):
    """Put each rectangle on the first shelf where it fits."""
    places, open_shelves, top = {}, [], 0.0
    for i in order:
        width, height = sizes[i]
        for shelf in open_shelves:
            if shelf[0] + width <= STRIP and height <= shelf[2]:
                break
        else:
            shelf = [0.0, top, height]
            open_shelves.append(shelf)
            top += height
        places[i] = (shelf[0], shelf[1])
        shelf[0] += width
    return places, top


def search(sizes, order):
    """Use the order as it is."""
    return shelves(sizes, order)[0]
# EVOLVE-BLOCK-END


def solve(sizes):
    """Return the lower left corner of each rectangle."""
    places = search(sizes, arrange(sizes))
    return [places[i] for i in range(len(sizes))]

"""Find a short ruler with 14 marks whose distances are all different."""
import random

MARKS = 14

# EVOLVE-BLOCK-START
SEED = 1
TRIES = 5
SKIP = 0.8
KEEP = 2


def grow(rng):
    """Add the next mark that fits, skipping some on the way."""
    marks, used, place = [0], set(), 0
    while len(marks) < MARKS:
        place += 1
        gaps = {place - m for m in marks}
        if not gaps & used and rng.random() >= SKIP:
            marks.append(place)
            used |= gaps
    return marks


def search(rng):
    """Take the first ruler."""
    return grow(rng)
# EVOLVE-BLOCK-END


def solve():
    """Return the sorted marks, the first one at 0."""
    return search(random.Random(SEED))

"""Find a short ruler with 14 marks whose distances are all different."""
import random

MARKS = 14

# EVOLVE-BLOCK-START
SEED = 930
TRIES = 76
SKIP = 0.7618
KEEP = 2


def grow(rng):
    """Greedy growth; the chance of a skip falls with every mark."""
    marks, used, place = [0], set(), 0
    while len(marks) < MARKS:
        place += 1
        gaps = {place - m for m in marks}
        if not gaps & used and rng.random() >= SKIP * (1 - len(marks) / MARKS):
            marks.append(place)
            used |= gaps
    return marks


def search(rng):
    """Grow many rulers and take the shortest."""
    return min((grow(rng) for _ in range(TRIES)), key=lambda marks: marks[-1])
# EVOLVE-BLOCK-END


def solve():
    """Return the sorted marks, the first one at 0."""
    return search(random.Random(SEED))
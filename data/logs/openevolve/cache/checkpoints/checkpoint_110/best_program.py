"""Choose what a small cache throws out."""
import math

# EVOLVE-BLOCK-START
FADE = 0.9962
WEIGHT = 0.1
YOUNG = 2


def note(old, now):
    """Remember the last use and count the uses."""
    first, last, count, heat = old or (now, now, 0, 0.0)
    return (first, now, count + 1, float(count + 1))


def worth(entry, now):
    """The faded heat, with a bonus for entries younger than YOUNG."""
    first, last, count, heat = entry
    bonus = WEIGHT if now - last < YOUNG else 0.0
    return heat * FADE ** (now - last) + bonus
# EVOLVE-BLOCK-END


def solve(requests, size):
    """Serve the requests; return the key that is thrown out at each miss, or None."""
    cache, past, thrown = {}, {}, []
    for now, key in enumerate(requests):
        entry = note(cache.get(key) or past.get(key), now)
        if key not in cache:
            victim = None
            if len(cache) >= size:
                victim = min(cache, key=lambda k: worth(cache[k], now))
                past[victim] = cache.pop(victim)
            thrown.append(victim)
        cache[key] = entry
    return thrown

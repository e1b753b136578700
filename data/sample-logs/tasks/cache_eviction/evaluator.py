"""Evaluator of `cache_eviction`: the hit rate of a replayed cache."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sandbox import Failure, failed, numbers, run_python  # noqa: E402

SIZE = 40


def requests():
    """Popular keys that drift, mixed with scans that come only once."""
    draw, keys, scan = numbers(31), [], 10_000
    for turn in range(3000):
        if turn % 500 > 420:
            scan += 1
            keys.append(scan)
        else:
            keys.append(int(300 * next(draw) ** 3) + turn // 600 * 15)
    return keys


def evaluate(program_path):
    """Score one program by the share of requests that hit the cache."""
    keys = requests()
    try:
        thrown = run_python(program_path, "solve", [keys, SIZE])
        hits = replay(keys, thrown)
    except (Failure, TypeError, StopIteration) as err:
        return failed(err)
    return {"combined_score": hits / len(keys), "hit_rate": hits / len(keys), "valid": 1.0}


def replay(keys, thrown):
    """Count the hits; the program's choices are checked, not believed."""
    cache, hits, choice = set(), 0, iter(thrown)
    for key in keys:
        if key in cache:
            hits += 1
            continue
        victim = next(choice)
        if len(cache) >= SIZE:
            if victim not in cache:
                raise Failure("InvalidAnswer: the thrown key is not in the cache")
            cache.discard(victim)
        cache.add(key)
    return hits

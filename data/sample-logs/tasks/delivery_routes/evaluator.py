"""Evaluator of `delivery_routes`: the length of all routes, in C++."""

import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sandbox import Failure, failed, numbers, run_cpp  # noqa: E402

COUNT, CAPACITY = 40, 30


def evaluate(program_path):
    """Score one program; `route_length` is what counts, and it is minimised."""
    draw = numbers(77)
    points = [(0.5, 0.5, 0)] + [
        (round(next(draw), 4), round(next(draw), 4), 1 + int(next(draw) * 9)) for _ in range(COUNT)]
    text = f"{len(points)} {CAPACITY}\n" + "".join(f"{x} {y} {load}\n" for x, y, load in points)
    try:
        output = run_cpp(program_path, text)
        routes = [[int(word) for word in line.split()] for line in output.split("\n") if line.strip()]
        if sorted(stop for route in routes for stop in route) != list(range(1, COUNT + 1)):
            raise Failure("InvalidAnswer: not every customer is visited once")
        if max(sum(points[stop][2] for stop in route) for route in routes) > CAPACITY:
            raise Failure("InvalidAnswer: a van is overloaded")
    except (Failure, ValueError) as err:
        return failed(err)
    stops = [[0, *route, 0] for route in routes]
    length = sum(math.dist(points[a][:2], points[b][:2]) for s in stops for a, b in zip(s, s[1:]))
    return {"combined_score": 10.0 / length, "route_length": length, "vans": float(len(routes)), "valid": 1.0}

"""Evaluator of `strip_packing_40`: the waste of 40 rectangles in a strip."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sandbox import Failure, failed, numbers, run_python  # noqa: E402

COUNT, STRIP = 40, 100.0


def evaluate(program_path):
    """Score one program; `wasted_space` is what counts, and it is minimised."""
    draw = numbers(40)
    sizes = [(round(5 + next(draw) * 35, 1), round(4 + next(draw) * 26, 1)) for _ in range(COUNT)]
    try:
        places = run_python(program_path, "solve", [sizes])
        top = check(sizes, places)
    except (Failure, TypeError, ValueError) as err:
        return failed(err)
    area = sum(width * height for width, height in sizes)
    waste = STRIP * top - area
    return {"combined_score": area / (STRIP * top), "wasted_space": waste, "valid": 1.0}


def check(sizes, places):
    """Return the height that is used, or raise `Failure` if rectangles collide."""
    if len(places) != COUNT:
        raise Failure(f"InvalidAnswer: expected {COUNT} corners")
    boxes = [(x, y, x + w, y + h) for (x, y), (w, h) in zip(places, sizes)]
    for i, a in enumerate(boxes):
        if a[0] < -1e-9 or a[1] < -1e-9 or a[2] > STRIP + 1e-9:
            raise Failure(f"InvalidAnswer: rectangle {i} leaves the strip")
        for j, b in enumerate(boxes[:i]):
            if min(a[2], b[2]) - max(a[0], b[0]) > 1e-9 and min(a[3], b[3]) - max(a[1], b[1]) > 1e-9:
                raise Failure(f"InvalidAnswer: rectangles {j} and {i} overlap")
    return max(box[3] for box in boxes)

"""Evaluator of `circle_packing_rectangle`: 21 circles, perimeter 4, free aspect ratio."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from packing import sum_of_radii  # noqa: E402
from sandbox import Failure, failed, run_python  # noqa: E402


def evaluate(program_path):
    """Score one program."""
    try:
        width, height, circles = run_python(program_path, "solve", [])
        if width <= 0 or height <= 0 or abs(width + height - 2) > 1e-9:
            raise Failure("InvalidAnswer: the perimeter is not 4")
        total = sum_of_radii(circles, 21, width, height)
    except (Failure, TypeError, ValueError) as err:
        return failed(err)
    return {"combined_score": total, "sum_radii": total, "valid": 1.0}

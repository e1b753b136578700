"""What the circle packing tasks share: the check of a packing.

The tasks differ in the number of circles, the container and the wording.
"""

import math

from sandbox import Failure, failed, run_python

TOLERANCE = 1e-9


def sum_of_radii(circles, count, width, height):
    """Return the sum of the radii, or raise `Failure` if the packing is wrong."""
    if not isinstance(circles, list) or len(circles) != count:
        raise Failure(f"InvalidAnswer: expected {count} circles")
    circles = [tuple(float(v) for v in circle) for circle in circles]
    for index, (x, y, r) in enumerate(circles):
        if not all(map(math.isfinite, (x, y, r))) or r < 0:
            raise Failure(f"InvalidAnswer: circle {index} has no proper radius")
        if min(x, y, width - x, height - y) < r - TOLERANCE:
            raise Failure(f"InvalidAnswer: circle {index} leaves the container")
        for other, (u, v, s) in enumerate(circles[:index]):
            if math.hypot(x - u, y - v) < r + s - TOLERANCE:
                raise Failure(f"InvalidAnswer: circles {other} and {index} overlap")
    return sum(r for _, _, r in circles)


def evaluate_square(program_path, count):
    """Metrics of a packing of `count` circles in the unit square."""
    try:
        circles = run_python(program_path, "solve", [])
        total = sum_of_radii(circles, count, 1.0, 1.0)
    except (Failure, TypeError, ValueError) as err:
        return failed(err)
    return {"combined_score": total, "sum_radii": total, "valid": 1.0}

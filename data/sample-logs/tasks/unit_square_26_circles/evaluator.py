"""Evaluator of `unit_square_26_circles`: the sum of the radii of 26 circles in the unit square."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from packing import evaluate_square  # noqa: E402


def evaluate(program_path):
    """Score one program."""
    return evaluate_square(program_path, count=26)

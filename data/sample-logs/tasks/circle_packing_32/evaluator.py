"""Evaluator of `circle_packing_32`: the sum of the radii of 32 circles in the unit square."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from packing import evaluate_square  # noqa: E402


def evaluate(program_path):
    """Score one program."""
    return evaluate_square(program_path, count=32)

"""Evaluator of `golomb_ruler_14`: the length of a ruler with 14 marks."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sandbox import Failure, failed, run_python  # noqa: E402

MARKS = 14
SHORTEST = 127  # the known optimum; makes the score a ratio


def evaluate(program_path):
    """Score one program; `ruler_length` is what counts, and it is minimised."""
    try:
        marks = run_python(program_path, "solve", [])
        if len(marks) != MARKS or not all(isinstance(m, int) for m in marks):
            raise Failure(f"InvalidAnswer: expected {MARKS} whole numbers")
        gaps = [b - a for i, a in enumerate(marks) for b in marks[i + 1:]]
        if min(gaps) < 1 or len(set(gaps)) < len(gaps):
            raise Failure("InvalidAnswer: a distance occurs twice")
    except (Failure, TypeError) as err:
        return failed(err)
    length = marks[-1] - marks[0]
    return {"combined_score": SHORTEST / length, "ruler_length": float(length), "valid": 1.0}

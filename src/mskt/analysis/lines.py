"""The straight line from doubt to Dice of Soufi 2024, for tables that reproduce a paper.

Calibrations use :mod:`mskt.analysis.curves`.
"""

from __future__ import annotations

from dataclasses import dataclass

from mskt.analysis.failure import Floats, varies


@dataclass(frozen=True, slots=True)
class Line:
    """Dice = slope · doubt + intercept."""

    slope: float
    intercept: float


def fit_line(doubt: Floats, dice: Floats) -> Line | None:
    """Least-squares line through pairs, arrays (n,); None where the doubt does not vary."""
    if not varies(doubt):
        return None
    middle, level = doubt.mean(), dice.mean()
    x = doubt - middle
    slope = float(x @ (dice - level) / (x @ x))
    return Line(slope, float(level - slope * middle))

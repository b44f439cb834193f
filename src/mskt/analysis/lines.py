"""Lines from doubt to Dice: one for each structure, whose slopes lean on one another.

A slope fitted to the dozen pairs of one structure is uncertain, and what doubt means differs less
between structures than such slopes do. So the slopes are taken as draws from one distribution (random
effects: DerSimonian and Laird 1986) and each becomes the mean of its own and the common slope, weighted by
how well it is known: with many pairs, or where structures truly differ, it stays its own. A single
structure has the plain line of Soufi 2024. Heights are always the structure's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mskt.analysis.failure import Floats, varies

_NOTHING = 1e-12
"""Spread of doubt, as a part of the spread of all, below which it does not vary."""


@dataclass(frozen=True, slots=True)
class Line:
    """Dice = slope · doubt + intercept."""

    slope: float
    intercept: float

    def at(self, doubt: float) -> float:
        """Height of the line; may lie outside [0, 1]."""
        return self.slope * doubt + self.intercept

    def predict(self, doubt: float) -> float:
        """Predicted Dice: the line, clipped to [0, 1]."""
        return min(1.0, max(0.0, self.at(doubt)))


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What one calibration patient contributes to the lower bound of a structure.

    Attributes:
        line: fitted without that patient.
        residuals: predicted − true Dice of the patient's pairs, by that line.
    """

    line: Line
    residuals: tuple[float, ...]


def fit_line(doubt: Floats, dice: Floats) -> Line | None:
    """Least-squares line through pairs, arrays (n,); None where the doubt does not vary."""
    return fit_lines(doubt, dice, np.full(doubt.shape, "")).get("")


def fit_lines(doubt: Floats, dice: Floats, structure: NDArray[np.str_]) -> dict[str, Line]:
    """A line for each structure.

    Args:
        doubt: of each pair, shape (n,).
        dice: of each pair, shape (n,).
        structure: whose each pair is, shape (n,).

    Returns:
        By name; structures whose doubt does not vary are left out.
    """
    if not doubt.size:
        return {}
    names, place = np.unique(structure, return_inverse=True)
    sums = _Sums.of(doubt, dice, np.zeros(doubt.size, np.intp), place)
    slope, intercept = sums.lines()
    return {
        str(name): Line(float(slope[0, s]), float(intercept[0, s]))
        for s, name in enumerate(names)
        if varies(doubt[place == s])
    }


def leave_out(
    doubt: Floats,
    dice: Floats,
    patient: NDArray[np.str_],
    structure: NDArray[np.str_] | None = None,
) -> Mapping[str, tuple[LeftOut, ...]]:
    """Leave each patient out once: the lines of the others, and how far they missed this one's Dice.

    Args:
        doubt: of each pair, shape (n,).
        dice: of each pair, shape (n,).
        patient: whose each pair is, shape (n,).
        structure: of each pair, shape (n,); None: all are of one, ``""``.

    Returns:
        By structure one entry for each patient who has it, in the order of their names; empty for
        fewer than 2 of them. Where the others' doubt does not vary, their line is their mean Dice.
    """
    if not doubt.size:
        return {}
    named = np.full(doubt.shape, "") if structure is None else structure
    names, place = np.unique(named, return_inverse=True)
    whose = np.unique(patient, return_inverse=True)[1]
    slope, intercept = _Sums.of(doubt, dice, whose, place).without_each().lines()
    found: dict[str, tuple[LeftOut, ...]] = {}
    for s, name in enumerate(names):
        entries = []
        rows = np.flatnonzero(place == s)
        for p in np.unique(whose[rows]):
            line = Line(float(slope[p, s]), float(intercept[p, s]))
            mine = rows[whose[rows] == p]
            residuals = tuple(line.predict(float(doubt[i])) - float(dice[i]) for i in mine)
            entries.append(LeftOut(line, residuals))
        found[str(name)] = tuple(entries) if len(entries) > 1 else ()
    return found


@dataclass(frozen=True)
class _Sums:
    """Sums over pairs, arrays (patients, structures): numbers, and of doubt x and Dice y.

    Values are relative to the structure's mean over all patients, so that little cancels when a
    patient is taken away. ``middle`` holds these means, (2, structures).
    """

    n: Floats
    x: Floats
    y: Floats
    xx: Floats
    xy: Floats
    yy: Floats
    middle: Floats

    @classmethod
    def of(
        cls, doubt: Floats, dice: Floats, patient: NDArray[np.intp], structure: NDArray[np.intp]
    ) -> _Sums:
        shape = (int(patient.max()) + 1, int(structure.max()) + 1)
        cell = patient * shape[1] + structure

        def total(values: Floats) -> Floats:
            sums = np.bincount(cell, values, shape[0] * shape[1])
            return np.asarray(sums.reshape(shape), np.float64)

        n = total(np.ones_like(doubt))
        middle = np.stack([total(v).sum(axis=0) for v in (doubt, dice)]) / n.sum(axis=0)
        x, y = doubt - middle[0, structure], dice - middle[1, structure]
        return cls(n, total(x), total(y), total(x * x), total(x * y), total(y * y), middle)

    def without_each(self) -> _Sums:
        """What is left when each patient is taken away in turn."""
        n, x, y, xx, xy, yy = (
            each.sum(axis=0) - each for each in (self.n, self.x, self.y, self.xx, self.xy, self.yy)
        )
        return _Sums(n, x, y, xx, xy, yy, self.middle)

    def lines(self) -> tuple[Floats, Floats]:
        """Slopes and intercepts, (patients, structures); flat where the doubt does not vary."""
        n = np.maximum(self.n, 1.0)
        mean_x, mean_y = self.x / n, self.y / n
        xx, xy, yy = (
            self.xx - n * mean_x**2,
            self.xy - n * mean_x * mean_y,
            self.yy - n * mean_y**2,
        )
        known = xx > _NOTHING * self.xx.sum(axis=0)
        xx = np.where(known, xx, 0.0)
        slope = np.stack([_lean(*row) for row in zip(self.n, xx, xy, yy, strict=True)])
        return slope, mean_y + self.middle[1] - slope * (mean_x + self.middle[0])


def _lean(n: Floats, xx: Floats, xy: Floats, yy: Floats) -> Floats:
    """Slopes that lean on the common one, (structures,), from numbers and centred sums of pairs.

    The less slopes differ by beyond what chance explains, the more the common slope counts. Where the
    doubt does not vary (xx = 0) the slope is 0.
    """
    there = xx > 0
    slope = np.zeros_like(xx)
    slope[there] = own = xy[there] / xx[there]
    left = np.maximum(yy[there] - own * xy[there], 0.0).sum()
    freedom = np.maximum(n[there] - 2, 0).sum()
    if len(own) < 2 or not freedom or not left:
        return slope
    weight = xx[there] * freedom / left  # 1 / variance of a structure's own slope
    between = _between(own, weight)
    random = 1 / (1 / weight + between)
    common = (random * own).sum() / random.sum()
    slope[there] = (weight * between * own + common) / (weight * between + 1)
    return slope


def _between(own: Floats, weight: Floats) -> float:
    """Variance of the true slopes between structures, by the method of moments."""
    fixed = (weight * own).sum() / weight.sum()
    q = (weight * (own - fixed) ** 2).sum()
    scale = weight.sum() - (weight**2).sum() / weight.sum()
    return float(max(0.0, q - (len(own) - 1)) / scale) if scale > 0 else 0.0

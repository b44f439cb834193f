"""Curves from doubt to Dice: a height for each structure, one exponent for all.

The odds of the Dice are a power of the doubt, D / (1 − D) = e^h · u^k: linear in the logarithms, always
between 0 and 1, and steep where the Dice is poor. h is the structure's own; k is shared by all
structures of a calibration. Both by least squares. Soufi 2024 fits a straight line to each
structure (:mod:`mskt.analysis.lines`); why this differs: docs/decisions/0011.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from mskt.analysis.failure import Floats, varies

_LEAST = 1e-6
"""A smaller doubt counts as this one; the doubts of structures lie far above it unless they are 0."""
EDGE = 1e-3
"""A Dice nearer to 0 or 1 counts as this near: how near it is, is chance."""
_LOST = 0.05
"""For the fit a lower Dice counts as this one: the structure is lost, and how little was hit by chance
would otherwise pull at the curve more than all others (infinitely at 0)."""
_NOTHING = 1e-12
"""Part of the spread of all doubts below which a spread is rounding."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Odds of the Dice = exp(height) · doubt ** exponent."""

    height: float
    exponent: float

    @property
    def falls(self) -> bool:
        """A larger doubt means a lower Dice."""
        return self.exponent < 0

    def log_odds(self, doubt: float) -> float:
        """Logarithm of D / (1 − D), D the predicted Dice."""
        return self.height + self.exponent * float(_log(doubt))

    def predict(self, doubt: float) -> float:
        """Predicted Dice, in (0, 1)."""
        return dice_of(self.log_odds(doubt))

    def doubt_at(self, dice: float) -> float | None:
        """Doubt with a predicted Dice; None where no doubt has it or the curve does not fall."""
        if not 0.0 < dice < 1.0 or not self.falls:
            return None
        return float(np.exp((logit(dice) - self.height) / self.exponent))


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What one calibration patient contributes to the lower bound of a structure.

    Attributes:
        curve: fitted without that patient.
        residuals: predicted − true logarithm of the odds, of each of the patient's pairs.
    """

    curve: Curve
    residuals: tuple[float, ...]


def dice_of(log_odds: float) -> float:
    """Dice with some logarithm of its odds."""
    return float(expit(log_odds))


def log_odds_of(dice: ArrayLike, least: float = EDGE) -> Floats:
    """Logarithm of D / (1 − D), of Dice of any shape; below ``least`` and near 1 they count as inside."""
    inside = np.clip(np.asarray(dice, np.float64), least, 1.0 - EDGE)
    return np.asarray(logit(inside), np.float64)


def fit_curves(doubt: Floats, dice: Floats, structure: NDArray[np.str_]) -> dict[str, Curve]:
    """A curve for each structure, all with one exponent.

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
    sums = _Sums.of(_log(doubt), log_odds_of(dice, _LOST), np.zeros(doubt.size, np.intp), place)
    height, exponent = sums.curves()
    return {
        str(name): Curve(float(height[0, s]), float(exponent[0]))
        for s, name in enumerate(names)
        if varies(doubt[place == s])
    }


def leave_out(
    doubt: Floats, dice: Floats, patient: NDArray[np.str_], structure: NDArray[np.str_]
) -> Mapping[str, tuple[LeftOut, ...]]:
    """Leave each patient out once: the curves of the others, and how far they missed this one's Dice.

    Args:
        doubt: of each pair, shape (n,).
        dice: of each pair, shape (n,).
        patient: whose each pair is, shape (n,).
        structure: of each pair, shape (n,).

    Returns:
        By structure one entry for each patient who has it, in the order of their names; empty for
        fewer than 2 of them. Where the others' doubt does not vary, their curve is flat.
    """
    if not doubt.size:
        return {}
    names, place = np.unique(structure, return_inverse=True)
    whose = np.unique(patient, return_inverse=True)[1]
    x, truth = _log(doubt), log_odds_of(dice)
    sums = _Sums.of(x, log_odds_of(dice, _LOST), whose, place)
    height, exponent = sums.without_each().curves()
    found: dict[str, tuple[LeftOut, ...]] = {}
    for s, name in enumerate(names):
        entries = []
        rows = np.flatnonzero(place == s)
        for p in np.unique(whose[rows]):
            curve = Curve(float(height[p, s]), float(exponent[p]))
            mine = rows[whose[rows] == p]
            missed = curve.height + curve.exponent * x[mine] - truth[mine]
            entries.append(LeftOut(curve, tuple(map(float, missed))))
        found[str(name)] = tuple(entries) if len(entries) > 1 else ()
    return found


def _log(doubt: ArrayLike) -> Floats:
    return np.asarray(np.log(np.maximum(np.asarray(doubt, np.float64), _LEAST)), np.float64)


@dataclass(frozen=True)
class _Sums:
    """Sums over pairs, arrays (patients, structures): numbers, and of log doubt x and log odds y.

    Values are relative to the structure's mean over all patients, so that little cancels when a
    patient is taken away. ``middle`` holds these means, (2, structures).
    """

    n: Floats
    x: Floats
    y: Floats
    xx: Floats
    xy: Floats
    middle: Floats

    @classmethod
    def of(
        cls, log_doubt: Floats, log_odds: Floats, patient: NDArray[np.intp], place: NDArray[np.intp]
    ) -> _Sums:
        shape = (int(patient.max()) + 1, int(place.max()) + 1)
        cell = patient * shape[1] + place

        def total(values: Floats) -> Floats:
            sums = np.bincount(cell, values, shape[0] * shape[1])
            return np.asarray(sums.reshape(shape), np.float64)

        n = total(np.ones_like(log_doubt))
        middle = np.stack([total(v).sum(axis=0) for v in (log_doubt, log_odds)]) / n.sum(axis=0)
        x, y = log_doubt - middle[0, place], log_odds - middle[1, place]
        return cls(n, total(x), total(y), total(x * x), total(x * y), middle)

    def without_each(self) -> _Sums:
        """What is left when each patient is taken away in turn."""
        n, x, y, xx, xy = (
            each.sum(axis=0) - each for each in (self.n, self.x, self.y, self.xx, self.xy)
        )
        return _Sums(n, x, y, xx, xy, self.middle)

    def curves(self) -> tuple[Floats, Floats]:
        """Heights, (patients, structures), and exponents, (patients,); 0 where no doubt varies."""
        n = np.maximum(self.n, 1.0)
        mean_x, mean_y = self.x / n, self.y / n
        spread = np.maximum(self.xx - n * mean_x**2, 0.0).sum(axis=1)
        shared = (self.xy - n * mean_x * mean_y).sum(axis=1)
        known = spread > _NOTHING * np.maximum(self.xx.sum(), 1.0)
        exponent = np.where(known, shared / np.where(known, spread, 1.0), 0.0)
        height = mean_y + self.middle[1] - exponent[:, None] * (mean_x + self.middle[0])
        return height, exponent

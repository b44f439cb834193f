"""A line from doubt to Dice, and a lower bound on Dice that holds for a stated part of new patients.

The bound is the one-sided jackknife+ of Barber, Candès, Ramdas and Tibshirani 2021, in the form for
several measurements a patient of Lee, Barber and Willett 2023 (hierarchical jackknife+): every
patient has the same weight, however many sides and structures he brings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mskt.analysis.failure import Floats, varies

_ROUNDING = 1e-9


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
    """What one calibration patient contributes to the bound.

    Attributes:
        line: fitted without that patient.
        residuals: predicted − true Dice of the patient's pairs, by that line.
    """

    line: Line
    residuals: tuple[float, ...]


def fit_line(doubt: Floats, dice: Floats) -> Line | None:
    """Least-squares line through pairs, arrays (n,); None where the doubt does not vary."""
    if doubt.size < 2 or not varies(doubt):
        return None
    x = doubt - doubt.mean()
    slope = float(x @ (dice - dice.mean()) / (x @ x))
    return Line(slope, float(dice.mean() - slope * doubt.mean()))


def leave_out(doubt: Floats, dice: Floats, patients: NDArray[np.str_]) -> tuple[LeftOut, ...]:
    """Leave each patient out once: the line of the others, and how far it missed this one's Dice.

    Args:
        doubt: of each pair, shape (n,).
        dice: of each pair, shape (n,).
        patients: whose each pair is, shape (n,).

    Returns:
        One entry a patient, in the order of their names; empty for fewer than 2 patients. Where the
        others' doubt does not vary, their line is their mean Dice.
    """
    names, place = np.unique(patients, return_inverse=True)
    if names.size < 2:
        return ()
    # Sums of the others are the sums of all minus this patient's; centred, so that little cancels.
    x, y = doubt - doubt.mean(), dice - dice.mean()

    def others(values: Floats) -> Floats:
        each = np.bincount(place, values, names.size)
        return np.asarray(each.sum() - each)

    n = others(np.ones_like(x))
    mean_x, mean_y = others(x) / n, others(y) / n
    spread = others(x * x) - n * mean_x**2
    known = spread > 1e-12 * float(x @ x)
    slope = np.where(
        known, (others(x * y) - n * mean_x * mean_y) / np.where(known, spread, 1.0), 0.0
    )
    intercept = mean_y + dice.mean() - slope * (mean_x + doubt.mean())
    found = []
    for number in range(names.size):
        line = Line(float(slope[number]), float(intercept[number]))
        mine = np.flatnonzero(place == number)
        residuals = tuple(line.predict(float(doubt[i])) - float(dice[i]) for i in mine)
        found.append(LeftOut(line, residuals))
    return tuple(found)


def patients_needed(coverage: float) -> int:
    """Fewest calibration patients for a bound at a coverage: ⌈1/α⌉ − 1 with α = 1 − coverage.

    9 at 0.9, 19 at 0.95. With fewer, no number is low enough to be sure.
    """
    return int(np.ceil(1.0 / (1.0 - coverage) - _ROUNDING)) - 1


def lowest_by_chance(coverage: float, patients: int) -> float:
    """Coverage that one calibration in twenty falls below although nothing is wrong with it.

    A bound holds for the stated part of patients on average over calibrations; for one calibration of n
    patients that part is drawn from Beta(n + 1 − l, l), l = ⌊α(n + 1)⌋ (Vovk 2012, for split conformal
    prediction with one pair a patient; an approximation here). This is its 5 % quantile; 0 where there
    are too few patients for a bound.
    """
    from scipy.stats import beta

    cut = int((1.0 - coverage) * (patients + 1) + _ROUNDING)
    return float(beta.ppf(0.05, patients + 1 - cut, cut)) if cut else 0.0


def lower_bound(doubt: float, left_out: Sequence[LeftOut], coverage: float) -> float | None:
    """Dice that a new patient's structure has or exceeds, with a stated coverage.

    With f_i the line fitted without patient i and R_ij = f_i(U_ij) − D_ij its errors on that patient's
    m_i pairs, the bound is the α-quantile of f_i(u) − R_ij with weights 1 / (m_i (n + 1)), and weight
    1 / (n + 1) at −∞ for the new patient. With one pair a patient that is the ⌊α(n + 1)⌋-th smallest,
    or, where all f_i agree, f(u) minus the ⌈(1 − α)(n + 1)⌉-th smallest residual.

    **Guaranteed**, if calibration patients and the new one are exchangeable (as if drawn from the
    same pool in random order) and for a pair drawn at random from the new patient: coverage of at
    least 1 − 2α whatever the distribution (Barber et al. 2021, theorem 1; Lee et al. 2023), and close
    to 1 − α where one patient hardly moves the line. **Not guaranteed**: coverage for one particular
    patient, group of patients or value of the doubt; for all structures of a patient at once; for
    each structure where the pairs of several were pooled; for another scanner, protocol, disease or
    software; and for structures that were not found.

    Args:
        doubt: of the new structure.
        left_out: of :func:`leave_out`.
        coverage: 1 − α, in (0, 1).

    Returns:
        The bound in [0, 1], or None where there are too few patients (:func:`patients_needed`).
    """
    n = len(left_out)
    if n < patients_needed(coverage):
        return None
    values, weights = [], []
    for entry in left_out:
        predicted = entry.line.predict(doubt)
        values += [predicted - residual for residual in entry.residuals]
        weights += [1.0 / ((n + 1) * len(entry.residuals))] * len(entry.residuals)
    order = np.argsort(values, kind="stable")
    sorted_values, sorted_weights = np.array(values)[order], np.array(weights)[order]
    below = 1.0 / (n + 1) + np.cumsum(sorted_weights) - sorted_weights
    allowed = np.flatnonzero(below <= 1.0 - coverage + _ROUNDING)
    return float(np.clip(sorted_values[allowed[-1]], 0.0, 1.0))

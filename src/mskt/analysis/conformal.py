"""A lower bound on Dice that holds for a stated part of new patients.

The bound is the one-sided jackknife+ of Barber, Candès, Ramdas and Tibshirani 2021, in the form for
several measurements a patient of Lee, Barber and Willett 2023 (hierarchical jackknife+): every
patient has the same weight, however many sides and structures he brings.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mskt.analysis.curves import EDGE, LeftOut, dice_of

_ROUNDING = 1e-9


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

    With f_i the structure's curve fitted without patient i, in logarithms of the odds
    y = ln(D / (1 − D)), and R_ij = f_i(U_ij) − y_ij its errors on that patient's m_i pairs, the bound is
    the Dice at the α-quantile of f_i(u) − R_ij with weights 1 / (m_i (n + 1)), and weight 1 / (n + 1) at
    −∞ for the new patient. With one pair a patient that is the ⌊α(n + 1)⌋-th smallest, or, where
    all f_i agree, f(u) minus the ⌈(1 − α)(n + 1)⌉-th smallest residual. Errors are larger where the
    Dice is poor; in logarithms of the odds they are about alike.

    **Guaranteed**, if calibration patients and the new one are exchangeable (as if drawn from the
    same pool in random order) and for a pair drawn at random from the new patient: coverage of at
    least 1 − 2α whatever the distribution (Barber et al. 2021, theorem 1; Lee et al. 2023), and close
    to 1 − α where one patient hardly moves the curve. **Not guaranteed**: coverage for one particular
    patient, group of patients or value of the doubt; for all structures of a patient at once; for
    each structure where the pairs of several were pooled; for another scanner, protocol, disease or
    software; and for structures that were not found.

    Args:
        doubt: of the new structure.
        left_out: of :func:`mskt.analysis.curves.leave_out`.
        coverage: 1 − α, in (0, 1).

    Returns:
        The bound in [0, 1), or None where there are too few patients (:func:`patients_needed`).
    """
    n = len(left_out)
    if n < patients_needed(coverage):
        return None
    values, weights = [], []
    for entry in left_out:
        predicted = entry.curve.log_odds(doubt)
        values += [predicted - residual for residual in entry.residuals]
        weights += [1.0 / ((n + 1) * len(entry.residuals))] * len(entry.residuals)
    order = np.argsort(values, kind="stable")
    sorted_values, sorted_weights = np.array(values)[order], np.array(weights)[order]
    below = 1.0 / (n + 1) + np.cumsum(sorted_weights) - sorted_weights
    allowed = np.flatnonzero(below <= 1.0 - coverage + _ROUNDING)
    bound = dice_of(sorted_values[allowed[-1]])
    return bound if bound > EDGE else 0.0  # true Dice below it counted as it

"""How well two measurements of the same patients agree: x measured, y the reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mskt.analysis import failure
from mskt.analysis.failure import Score
from mskt.analysis.statistics.figure import (
    LEVEL,
    Figure,
    Floats,
    all_equal,
    differences,
    rounded,
    two_columns,
    with_interval,
)

MIN_PATIENTS = 4
"""Fisher's interval of r divides by √(n − 3)."""
ALMOST_ONE = 1 - 1e-12
"""A coefficient nearer to 1 is 1 but for rounding, and z and F would make huge numbers of the rest."""
PERFECT = "a coefficient of 1 or −1 has no interval"
LIMITS = 1.96
"""Limits of agreement lie so many standard deviations from the bias (Bland & Altman 1986)."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """All measures of agreement of one quantity; the unit of bias, limits and mae is the quantity's.

    Attributes:
        n: patients.
        ccc: Lin's concordance correlation coefficient, in [−1, 1].
        icc_agreement, icc_consistency: ICC(2,1) and ICC(3,1), at most 1.
        pearson: in [−1, 1].
        spearman: in [−1, 1], no interval.
        bias: mean of measured − reference.
        loa_lower, loa_upper: limits of agreement.
        mae: mean of |measured − reference|; interval of a bootstrap over patients.
        reason: why there is nothing at all; empty otherwise.
    """

    n: int
    ccc: Figure
    icc_agreement: Figure
    icc_consistency: Figure
    pearson: Figure
    spearman: Score
    bias: Figure
    loa_lower: Figure
    loa_upper: Figure
    mae: Figure
    reason: str = ""


def agreement(
    measured: ArrayLike, reference: ArrayLike, *, draws: int = 1000, seed: int = 0
) -> Agreement:
    """All measures of agreement of two columns.

    Args:
        measured: x, shape (n,), finite; row i is patient i.
        reference: y, of the same patients in the same order.
        draws: resamples of the bootstrap for the mean absolute error.
        seed: the same seed gives the same interval.

    Raises:
        ValueError: lengths differ, or a value is not finite.
    """
    x, y = two_columns(measured, reference)
    if x.size < MIN_PATIENTS:
        reason = f"{x.size} patients; at least {MIN_PATIENTS} are needed"
        none = Figure(None, reason=reason)
        return Agreement(
            x.size, none, none, none, none, Score(None, reason), none, none, none, none, reason
        )
    bias, lower, upper = bland_altman(x, y)
    return Agreement(
        x.size,
        ccc(x, y),
        icc_agreement(x, y),
        icc_consistency(x, y),
        pearson(x, y),
        failure.spearman(_ties(x), _ties(y)),
        bias,
        lower,
        upper,
        mean_absolute_error(x, y, draws=draws, seed=seed),
    )


def pearson(measured: ArrayLike, reference: ArrayLike) -> Figure:
    """Pearson's r, interval by Fisher's z: tanh(atanh r ± 1.96/√(n − 3)).

    Args:
        measured: x, shape (n,), finite; row i is patient i.
        reference: y, of the same patients in the same order.
    """
    x, y = two_columns(measured, reference)
    found = failure.pearson(_ties(x), _ties(y))
    if found.value is None:
        return Figure(None, reason=found.reason)
    if abs(found.value) > ALMOST_ONE:
        return Figure(float(np.sign(found.value)), reason=PERFECT)
    if x.size < MIN_PATIENTS:
        return Figure(found.value, reason=f"no interval of {x.size} patients")
    return _by_z(found.value, 1 / np.sqrt(x.size - 3))


def ccc(measured: ArrayLike, reference: ArrayLike) -> Figure:
    """Lin's concordance correlation coefficient (Lin 1989, eq. 2), with its interval by z.

    ρ_c = 2 s_xy / (s_x² + s_y² + (x̄ − ȳ)²), moments with 1/n as in the paper. The variance of
    atanh ρ_c is the corrected one (Lin 2000):
    [(1 − r²) ρ_c² / ((1 − ρ_c²) r²) + 2 ρ_c³ (1 − ρ_c) u² / (r (1 − ρ_c²)²)
    − ρ_c⁴ u⁴ / (2 r² (1 − ρ_c²)²)] / (n − 2) with u = (x̄ − ȳ)/√(s_x s_y).

    Args:
        measured: x, shape (n,), finite; row i is patient i.
        reference: y, of the same patients in the same order.
    """
    x, y = two_columns(measured, reference)
    r = failure.pearson(_ties(x), _ties(y))
    if r.value is None:
        return Figure(None, reason=r.reason)
    covariance = float(np.mean((x - x.mean()) * (y - y.mean())))
    shift = float(x.mean() - y.mean())
    value = 2 * covariance / (x.var() + y.var() + shift**2)
    if not np.any(differences(x, y)) or abs(value) > ALMOST_ONE:
        return Figure(float(value), reason=PERFECT)
    if abs(r.value) < 1e-9:
        return Figure(float(value), reason="no interval where nothing is correlated")
    u2, rest = shift**2 / (x.std() * y.std()), 1 - value**2
    variance = (
        (1 - r.value**2) * value**2 / (rest * r.value**2)
        + 2 * value**3 * (1 - value) * u2 / (r.value * rest**2)
        - value**4 * u2**2 / (2 * r.value**2 * rest**2)
    ) / (x.size - 2)
    if variance <= 0:
        return Figure(float(value), reason="no interval: the variance formula does not hold here")
    return _by_z(float(value), float(np.sqrt(variance)))


def _by_z(value: float, error: float) -> Figure:
    """A coefficient with the interval tanh(atanh value ± 1.96·error)."""
    from scipy.stats import norm

    middle, reach = np.arctanh(value), norm.ppf((1 + LEVEL) / 2) * error
    return with_interval(value, float(np.tanh(middle - reach)), float(np.tanh(middle + reach)))


@dataclass(frozen=True, slots=True)
class _Squares:
    """Mean squares of the two-way table, n patients × 2 measurements (McGraw & Wong 1996, table 2)."""

    n: int
    rows: float
    columns: float
    error: float


def _squares(x: Floats, y: Floats) -> _Squares:
    half = (x + y) / 2
    return _Squares(
        x.size,
        float(2 * half.var(ddof=1)),
        float(x.size * (x.mean() - y.mean()) ** 2 / 2),
        float((x - y).var(ddof=1) / 2),
    )


def icc_agreement(measured: ArrayLike, reference: ArrayLike) -> Figure:
    """ICC(2,1), two-way random, absolute agreement, single: ICC(A,1) of McGraw & Wong 1996.

    (MSR − MSE) / (MSR + MSE + 2 (MSC − MSE)/n); interval of their table 7. A constant difference
    between the two makes it smaller.

    Args:
        measured: x, shape (n,), finite; row i is patient i.
        reference: y, of the same patients in the same order.
    """
    return _icc(measured, reference, _agreement_value, _agreement_interval)


def icc_consistency(measured: ArrayLike, reference: ArrayLike) -> Figure:
    """ICC(3,1), two-way mixed, consistency, single: ICC(C,1) of McGraw & Wong 1996.

    (MSR − MSE) / (MSR + MSE); interval of their table 7. A constant difference does not matter.

    Args:
        measured: x, shape (n,), finite; row i is patient i.
        reference: y, of the same patients in the same order.
    """
    return _icc(measured, reference, _consistency_value, _consistency_interval)


def _icc(
    measured: ArrayLike,
    reference: ArrayLike,
    value: Callable[[_Squares], float],
    interval: Callable[[_Squares], tuple[float, float]],
) -> Figure:
    x, y = two_columns(measured, reference)
    if x.size < 3:
        return Figure(None, reason="fewer than 3 patients")
    if all_equal(_ties(x)) and all_equal(_ties(y)):
        return Figure(None, reason="patients do not differ")
    found = _squares(x, y)
    if all_equal(differences(x, y)):
        reason = "no interval where all differences are equal"
        return Figure(value(_Squares(found.n, found.rows, found.columns, 0.0)), reason=reason)
    if value(found) > ALMOST_ONE:
        return Figure(value(found), reason=PERFECT)
    return with_interval(value(found), *interval(found))


def _agreement_value(m: _Squares) -> float:
    return (m.rows - m.error) / (m.rows + m.error + 2 * (m.columns - m.error) / m.n)


def _consistency_value(m: _Squares) -> float:
    return (m.rows - m.error) / (m.rows + m.error)


def _consistency_interval(m: _Squares) -> tuple[float, float]:
    """(F_L − 1)/(F_L + 1) to (F_U − 1)/(F_U + 1) with F = MSR/MSE."""
    from scipy.stats import f

    ratio, quantile = m.rows / m.error, f.ppf((1 + LEVEL) / 2, m.n - 1, m.n - 1)
    low, high = ratio / quantile, ratio * quantile
    return float((low - 1) / (low + 1)), float((high - 1) / (high + 1))


def _agreement_interval(m: _Squares) -> tuple[float, float]:
    """Their table 7 with k = 2; v are Satterthwaite's degrees of freedom."""
    from scipy.stats import f

    n, icc = m.n, _agreement_value(m)
    a = 2 * icc / (n * (1 - icc))
    b = 1 + 2 * icc * (n - 1) / (n * (1 - icc))
    weighted = a * m.columns + b * m.error
    spread = (a * m.columns) ** 2 + (b * m.error) ** 2 / (n - 1)
    if (
        not spread
    ):  # each patient's two values mirror the mean of all: no patient differs from another
        return float("nan"), float("nan")
    v = weighted**2 / spread
    below, above = (float(f.ppf((1 + LEVEL) / 2, *df)) for df in ((n - 1, v), (v, n - 1)))
    rest = 2 * m.columns + (n - 2) * m.error
    low = n * (m.rows - below * m.error) / (below * rest + n * m.rows)
    high = n * (above * m.rows - m.error) / (rest + n * above * m.rows)
    return low, high


def bland_altman(measured: ArrayLike, reference: ArrayLike) -> tuple[Figure, Figure, Figure]:
    """Bias and limits of agreement of measured − reference (Bland & Altman 1986, 1999).

    The limits are bias ± 1.96·sd; all three intervals are of Student's t with n − 1 degrees of
    freedom, standard errors sd/√n and sd·√(1/n + 1.96²/(2(n − 1))) (1999, section 2.1).

    Args:
        measured: x, shape (n,), finite; row i is patient i.
        reference: y, of the same patients in the same order.

    Returns:
        Bias, lower limit, upper limit, in the unit of the values.
    """
    from scipy.stats import t

    x, y = two_columns(measured, reference)
    n = x.size
    if n < 2:
        none = Figure(None, reason="fewer than 2 patients")
        return none, none, none
    found = differences(x, y)
    if all_equal(found):
        same = Figure(float(found[0]), reason="no interval where all differences are equal")
        none = Figure(None, reason="all differences are equal")
        return same, none, none
    bias, sd = float((x - y).mean()), float((x - y).std(ddof=1))
    quantile = float(t.ppf((1 + LEVEL) / 2, n - 1))
    reach = quantile * sd * float(np.sqrt(1 / n + LIMITS**2 / (2 * (n - 1))))

    def limit(value: float) -> Figure:
        return Figure(value, value - reach, value + reach)

    near = quantile * sd / float(np.sqrt(n))
    return (
        Figure(bias, bias - near, bias + near),
        limit(bias - LIMITS * sd),
        limit(bias + LIMITS * sd),
    )


def mean_absolute_error(
    measured: ArrayLike, reference: ArrayLike, *, draws: int = 1000, seed: int = 0
) -> Figure:
    """Mean of |measured − reference|, interval by a bootstrap over patients.

    Args:
        measured: x, shape (n,), finite; row i is patient i.
        reference: y, of the same patients in the same order.
        draws: resamples.
        seed: the same seed gives the same interval.
    """
    x, y = two_columns(measured, reference)
    if not x.size:
        return Figure(None, reason="no patients")
    error = np.abs(differences(x, y))

    def figure(rows: NDArray[np.intp]) -> float:
        return float(error[rows].mean())

    names = np.arange(x.size).astype(str)
    interval = failure.bootstrap(figure, names, draws=draws, level=LEVEL, seed=seed)
    return Figure(float(error.mean()), interval.low, interval.high, interval.reason)


def _ties(values: Floats) -> Floats:
    return rounded(values, float(np.abs(values).max(initial=0.0)))

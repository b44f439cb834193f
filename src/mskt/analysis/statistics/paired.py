"""Two methods on the same patients: which test, its p value, how large the difference is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from mskt.analysis.failure import bootstrap
from mskt.analysis.statistics.figure import (
    ALPHA,
    LEVEL,
    Figure,
    Floats,
    all_equal,
    differences,
    two_columns,
)

MIN_PATIENTS = 6
"""The p value of the signed-rank test of n differences is at least 2/2ⁿ: below 6 never under 0.05."""
SHAPIRO_MOST = 5000
"""Patients up to which the p value of Shapiro and Wilk's test is known (Royston 1995)."""
T_TEST, SIGNED_RANK = "paired t", "Wilcoxon signed-rank"
COHEN, BISERIAL = "d_z", "r_rb"


@dataclass(frozen=True, slots=True)
class Paired:
    """A paired comparison; one value a patient and method.

    Attributes:
        n: patients.
        mean_first, mean_second: of the methods; None without patients.
        difference: mean of first − second with its interval: of Student's t beside the t test, of a
            bootstrap over patients beside the signed-rank test.
        test: :data:`T_TEST` or :data:`SIGNED_RANK`; empty where none was done.
        why: why this test.
        statistic: t, or the smaller of the two sums of ranks.
        p: two-sided.
        effect: Cohen's d_z = mean/sd of the differences, or the matched-pairs rank-biserial r =
            (R⁺ − R⁻)/(R⁺ + R⁻) in [−1, 1]; positive where the first method has the larger values.
        effect_name: :data:`COHEN` or :data:`BISERIAL`.
        reason: why there is no test; empty where there is one.
    """

    n: int
    mean_first: float | None
    mean_second: float | None
    difference: Figure
    test: str = ""
    why: str = ""
    statistic: float | None = None
    p: float | None = None
    effect: float | None = None
    effect_name: str = ""
    reason: str = ""


def paired(first: ArrayLike, second: ArrayLike, *, draws: int = 1000, seed: int = 0) -> Paired:
    """Compare two methods on the same patients.

    Shapiro and Wilk's test of the differences decides at 0.05 between Student's paired t test and
    Wilcoxon's signed-rank test (Soufi 2024).

    Args:
        first: shape (n,), finite; row i is patient i, and each patient has one row.
        second: of the same patients in the same order.
        draws: resamples of the bootstrap.
        seed: the same seed gives the same interval.

    Raises:
        ValueError: lengths differ, or a value is not finite.
    """
    one, other = two_columns(first, second)
    if not one.size:
        return Paired(0, None, None, Figure(None, reason="no patients"), reason="no patients")
    exact, tied = one - other, differences(one, other)
    blank = Paired(one.size, float(one.mean()), float(other.mean()), Figure(None))
    if reason := _refusal(tied):
        return replace(blank, difference=Figure(None, reason=reason), reason=reason)
    normal, why = _normal(exact)
    return _t_test(blank, exact, why) if normal else _signed_rank(blank, tied, why, draws, seed)


def _refusal(found: Floats) -> str:
    """Why these differences cannot be tested; empty if they can."""
    if found.size < MIN_PATIENTS:
        return f"{found.size} patients; at least {MIN_PATIENTS} are needed"
    if all_equal(found):
        return (
            "all differences are equal" if found[0] else "both methods are equal in every patient"
        )
    if np.count_nonzero(found) < MIN_PATIENTS:
        return f"the methods differ in {np.count_nonzero(found)} patients only; {MIN_PATIENTS} are needed"
    return ""


def _normal(found: Floats) -> tuple[bool, str]:
    """Whether nothing speaks against normal differences, and the evidence in words."""
    from scipy.stats import shapiro

    if found.size > SHAPIRO_MOST:
        return False, f"normality is not tested with more than {SHAPIRO_MOST} patients"
    p = float(shapiro(found).pvalue)
    if p < ALPHA:
        return False, f"differences not normal (Shapiro–Wilk p = {p:.2g})"
    return True, f"nothing against normal differences (Shapiro–Wilk p = {p:.2g})"


def _t_test(blank: Paired, found: Floats, why: str) -> Paired:
    """Student's paired t test, the interval of t and Cohen's d_z (Cohen 1988, section 2.3.5)."""
    from scipy.stats import ttest_1samp

    result = ttest_1samp(found, 0.0)
    interval = result.confidence_interval(LEVEL)
    return replace(
        blank,
        difference=Figure(float(found.mean()), float(interval.low), float(interval.high)),
        test=T_TEST,
        why=why,
        statistic=float(result.statistic),
        p=float(result.pvalue),
        effect=float(found.mean() / found.std(ddof=1)),
        effect_name=COHEN,
    )


def _signed_rank(blank: Paired, found: Floats, why: str, draws: int, seed: int) -> Paired:
    """Wilcoxon's signed-rank test without the zeros, and the rank-biserial r (Kerby 2014).

    Exact up to 50 differences without ties, and with ties up to 13 (all signs are tried); beyond,
    the normal approximation with corrections for ties and continuity.
    """
    from scipy.stats import rankdata, wilcoxon

    apart = found[found != 0]
    result = wilcoxon(apart, correction=True)
    ranks = rankdata(np.abs(apart))
    interval = bootstrap(
        lambda rows: float(found[rows].mean()),
        np.arange(found.size).astype(str),
        draws=draws,
        level=LEVEL,
        seed=seed,
    )
    return replace(
        blank,
        difference=Figure(float(found.mean()), interval.low, interval.high, interval.reason),
        test=SIGNED_RANK,
        why=why,
        statistic=float(result.statistic),
        p=float(result.pvalue),
        effect=float(np.sign(apart) @ ranks / ranks.sum()),
        effect_name=BISERIAL,
    )

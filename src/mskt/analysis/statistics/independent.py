"""Two groups of different patients."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import ArrayLike

from mskt.analysis.statistics.figure import ALPHA, floats, rounded


@dataclass(frozen=True, slots=True)
class Independent:
    """Mann and Whitney's test of two groups; one value a patient.

    Attributes:
        n_first, n_second: patients.
        u: the first group's U: pairs in which its value is the larger, ties one half.
        p: two-sided.
        common_language: U/(n₁·n₂), in [0, 1]: how often a patient of the first group has the larger
            value (McGraw & Wong 1992; ties: Vargha & Delaney 2000).
        rank_biserial: 2·common_language − 1, in [−1, 1] (Wendt 1972).
        reason: why there is no test; empty where there is one.
    """

    n_first: int
    n_second: int
    u: float | None = None
    p: float | None = None
    common_language: float | None = None
    rank_biserial: float | None = None
    reason: str = ""


def mann_whitney(first: ArrayLike, second: ArrayLike) -> Independent:
    """Compare two groups of patients.

    Exact where the smaller group has at most 8 patients and nothing is tied, else by the normal
    approximation with corrections for ties and continuity.

    Args:
        first: shape (n₁,), finite; each patient once.
        second: shape (n₂,), finite; other patients.

    Returns:
        The test, or a reason where no data of so few patients could give p < 0.05 (p is at least
        2/C(n₁ + n₂, n₁)), and where all values are equal.

    Raises:
        ValueError: a value is not finite.
    """
    from scipy.stats import mannwhitneyu

    one, other = floats(first), floats(second)
    if reason := _too_few(one.size, other.size):
        return Independent(one.size, other.size, reason=reason)
    both = np.concatenate([one, other])
    both = rounded(both, float(np.abs(both).max()))
    if np.ptp(both) == 0:
        return Independent(one.size, other.size, reason="all values are equal")
    result = mannwhitneyu(both[: one.size], both[one.size :])
    larger = float(result.statistic) / (one.size * other.size)
    return Independent(
        one.size,
        other.size,
        float(result.statistic),
        float(result.pvalue),
        larger,
        2 * larger - 1,
    )


def _too_few(first: int, second: int) -> str:
    if not first or not second:
        return "no patients in one of the two" if first or second else "no patients"
    if 2 / comb(first + second, first) > ALPHA:
        return f"{first} and {second} patients: too few"
    return ""


def common_language(first: ArrayLike, second: ArrayLike) -> float | None:
    """How often a value of the first group is the larger, ties one half; None if one is empty.

    Says nothing of chance: for rows that are not independent it needs a bootstrap over patients.
    """
    from scipy.stats import rankdata

    one, other = floats(first), floats(second)
    if not one.size or not other.size:
        return None
    ranks = rankdata(np.concatenate([one, other]))[: one.size].sum()
    return float((ranks - one.size * (one.size + 1) / 2) / (one.size * other.size))

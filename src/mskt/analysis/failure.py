"""How well a doubt tells bad segmentations from good ones: pure functions on arrays.

A *doubt* is any number that is larger where the method is less certain. Everything here is undefined
for some data (one class only, no spread): such a figure is None with the reason in words, never the
value that chance or perfection would have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

MAD_TO_SD = 1.4826
"""The median absolute deviation times this is the standard deviation of a normal distribution."""
INACCURATE, FAILED = -2.0, -3.0
"""k of :func:`dice_threshold` (Soufi 2024)."""


@dataclass(frozen=True, slots=True)
class Score:
    """A figure, or the reason why there is none."""

    value: float | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Interval:
    """A percentile interval of a bootstrap.

    Attributes:
        low, high: None where it is undefined; ``reason`` then says why.
        defined: resamples in which the figure was defined; the others do not count.
        draws: resamples in all.
    """

    low: float | None
    high: float | None
    defined: int
    draws: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of a reliability diagram: ``low`` < predicted ≤ ``high``, and the means in it."""

    low: float
    high: float
    n: int
    predicted: float
    observed: float


def dice_threshold(dice: ArrayLike, k: float) -> float:
    """Dice below which a segmentation stands out: median + 1.4826·k·MAD (Soufi 2024).

    Args:
        dice: shape (n,), n ≥ 1; of one structure, or of several pooled.
        k: −2 for inaccurate, −3 for failed.

    Raises:
        ValueError: no value is given.
    """
    values = np.asarray(dice, np.float64)
    if not values.size:
        raise ValueError("a threshold needs at least one Dice")
    median = np.median(values)
    return float(median + MAD_TO_SD * k * np.median(np.abs(values - median)))


def auroc(doubt: ArrayLike, bad: ArrayLike) -> Score:
    """Probability that a bad case has a larger doubt than a good one; ties count one half.

    Mann and Whitney's statistic, equal to the area under the ROC curve.

    Args:
        doubt: shape (n,).
        bad: shape (n,), true for what should have been doubted.
    """
    from scipy.stats import rankdata

    scores, wrong = np.asarray(doubt, np.float64), np.asarray(bad, bool)
    positive, negative = int(wrong.sum()), int((~wrong).sum())
    if not wrong.size:
        return Score(None, "no pairs")
    if not positive or not negative:
        return Score(None, "none is bad" if not positive else "all are bad")
    ranks = rankdata(scores)[wrong].sum()
    return Score(float((ranks - positive * (positive + 1) / 2) / (positive * negative)))


def pearson(x: ArrayLike, y: ArrayLike) -> Score:
    """Pearson's r of two arrays (n,), n ≥ 3; None where one of them does not vary."""
    first, second = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if first.size < 3:
        return Score(None, "fewer than 3 pairs")
    if not (varies(first) and varies(second)):
        return Score(None, "one of the two does not vary")
    first, second = first - first.mean(), second - second.mean()
    r = (first @ second) / np.sqrt((first @ first) * (second @ second))
    return Score(float(np.clip(r, -1.0, 1.0)))


def spearman(x: ArrayLike, y: ArrayLike) -> Score:
    """Spearman's rank correlation of two arrays (n,): Pearson's r of the mid-ranks."""
    from scipy.stats import rankdata

    return pearson(rankdata(x), rankdata(y))


def varies(values: ArrayLike) -> bool:
    """Tell whether values differ by more than the rounding of float64."""
    array = np.asarray(values, np.float64)
    return bool(array.size and np.ptp(array) > 1e-12 * np.abs(array).max())


def risk_coverage(doubt: ArrayLike, risk: ArrayLike) -> tuple[Floats, Floats]:
    """Risk–coverage curve (Geifman & El-Yaniv 2018): keep what is doubted least, see what is lost.

    At each doubt θ that occurs, coverage(θ) = #{i: u_i ≤ θ} / n, and the selective risk
    r(θ) = mean of ρ_i over u_i ≤ θ. Equal doubts are accepted together, so the order of the rows does
    not matter.

    Args:
        doubt: u, shape (n,), n ≥ 1.
        risk: ρ, shape (n,), at least 0; of a segmentation 1 − Dice.

    Returns:
        Coverage in (0, 1], rising, and selective risk; one entry for each distinct doubt.
    """
    n, accepted, lost = _accepted(doubt, risk)
    return accepted / n, lost / accepted


def _accepted(doubt: ArrayLike, risk: ArrayLike) -> tuple[int, Floats, Floats]:
    """Return n, and at each distinct doubt how many are accepted and the sum of their risks."""
    doubts, risks = np.asarray(doubt, np.float64), np.asarray(risk, np.float64)
    if not doubts.size:
        raise ValueError("a risk–coverage curve needs at least one value")
    _, place, counts = np.unique(doubts, return_inverse=True, return_counts=True)
    sums = np.bincount(place.ravel(), risks, len(counts))
    return doubts.size, np.cumsum(counts).astype(np.float64), np.cumsum(sums)


def aurc(doubt: ArrayLike, risk: ArrayLike) -> float:
    """Area under the risk–coverage curve: AURC = (1/n) Σ_i r(u_i) (Geifman et al. 2018).

    Arguments as in :func:`risk_coverage`. Without information (all doubts equal) it is the mean risk.
    """
    n, accepted, lost = _accepted(doubt, risk)
    return float(np.diff(accepted, prepend=0.0) @ (lost / accepted) / n)


def e_aurc(doubt: ArrayLike, risk: ArrayLike) -> float:
    """Excess AURC: AURC minus that of the best order, by the risk itself; at least 0.

    E-AURC = AURC − (1/n) Σ_i (1/i) Σ_{j ≤ i} ρ_(j) with ρ sorted (Geifman et al. 2018; their closed
    form r̂ + (1 − r̂) ln(1 − r̂) approximates the second term for risks of 0 and 1 only).
    """
    best = np.sort(np.asarray(risk, np.float64))
    ideal = np.mean(np.cumsum(best) / np.arange(1, best.size + 1))
    return max(0.0, float(aurc(doubt, risk) - ideal))


def augrc(doubt: ArrayLike, risk: ArrayLike) -> float:
    """Area under the generalised risk–coverage curve (Traub et al. 2024): what slips through unseen.

    The generalised risk at θ is (1/n) Σ_{i: u_i ≤ θ} ρ_i, the loss of what is accepted as a part of
    *all*; integrated over coverage by trapezoids from (0, 0). For risks of 0 and 1 with error rate e
    it equals (1 − AUROC)·e·(1 − e) + e²/2.
    """
    n, accepted, lost = _accepted(doubt, risk)
    coverage, joint = np.r_[0.0, accepted] / n, np.r_[0.0, lost] / n
    return float(np.diff(coverage) @ (joint[1:] + joint[:-1]) / 2)


def mean_absolute_error(predicted: ArrayLike, dice: ArrayLike) -> Score:
    """Mean of |predicted − Dice| over the pairs in which both are numbers; arrays (n,)."""
    error = np.abs(np.asarray(predicted, np.float64) - np.asarray(dice, np.float64))
    error = error[np.isfinite(error)]
    return Score(float(error.mean())) if error.size else Score(None, "no predicted Dice")


def empirical_coverage(lower: ArrayLike, dice: ArrayLike) -> Score:
    """Part of the pairs whose Dice is at least its lower bound; those without a bound do not count."""
    bound, true = np.asarray(lower, np.float64), np.asarray(dice, np.float64)
    known = np.isfinite(bound)
    return Score(float((true >= bound)[known].mean())) if known.any() else Score(None, "no bound")


def reliability(predicted: ArrayLike, dice: ArrayLike, bins: int = 10) -> list[Bin]:
    """Points of a reliability diagram: predicted Dice against the mean Dice that came true.

    Args:
        predicted: shape (n,); rows with NaN do not count.
        dice: shape (n,).
        bins: wanted; cut at the quantiles of ``predicted``, so that each holds about as many pairs.
            Equal predictions stay together: there may be fewer.
    """
    guess, true = np.asarray(predicted, np.float64), np.asarray(dice, np.float64)
    guess, true = guess[np.isfinite(guess)], true[np.isfinite(guess)]
    if not guess.size:
        return []
    edges = np.unique(np.quantile(guess, np.linspace(0.0, 1.0, bins + 1)))
    place = np.searchsorted(edges[1:-1], guess, side="left")
    upper = edges[1:] if edges.size > 1 else edges
    return [
        Bin(
            float(edges[b]),
            float(upper[b]),
            int((place == b).sum()),
            float(guess[place == b].mean()),
            float(true[place == b].mean()),
        )
        for b in np.unique(place)
    ]


def calibration_error(bins: Sequence[Bin]) -> Score:
    """Mean distance of the diagram's points from the diagonal: Σ n_b |predicted_b − observed_b| / n."""
    n = sum(b.n for b in bins)
    if not n:
        return Score(None, "no predicted Dice")
    return Score(sum(b.n * abs(b.predicted - b.observed) for b in bins) / n)


def bootstrap(
    figure: Callable[[NDArray[np.intp]], float | None],
    patients: Sequence[str] | NDArray[np.str_],
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a figure, resampling whole patients.

    The structures of a patient are not independent: drawn one by one they would make the interval
    too narrow.

    Args:
        figure: takes the numbers of the rows drawn, repeated as often as their patient; None where
            it is undefined for them.
        patients: whose each row is, shape (n,).
        draws: resamples.
        level: of the interval.
        seed: the same seed gives the same interval.

    Returns:
        The interval over the resamples that define the figure; None with a reason where there are
        fewer than 2 patients or fewer than half of the resamples do.
    """
    names, place = np.unique(np.asarray(patients), return_inverse=True)
    if names.size < 2:
        return Interval(None, None, 0, draws, "fewer than 2 patients")
    rows = [np.flatnonzero(place.ravel() == number) for number in range(names.size)]
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        chosen = generator.integers(names.size, size=names.size)
        value = figure(np.concatenate([rows[number] for number in chosen]))
        if value is not None:
            found.append(value)
    if 2 * len(found) < draws or not found:
        return Interval(None, None, len(found), draws, "undefined in most resamples")
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), len(found), draws)


def bootstrap_difference(
    first: Callable[[NDArray[np.intp]], float | None],
    second: Callable[[NDArray[np.intp]], float | None],
    patients: Sequence[str] | NDArray[np.str_],
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval of first − second over the same patients in every resample; as :func:`bootstrap`."""

    def difference(rows: NDArray[np.intp]) -> float | None:
        one, other = first(rows), second(rows)
        return None if one is None or other is None else one - other

    return bootstrap(difference, patients, draws=draws, level=level, seed=seed)

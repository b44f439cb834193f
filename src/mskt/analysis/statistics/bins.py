"""Dice against uncertainty in bins of equal width, neighbours tested (Hiasa 2020, figure 6a)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mskt.analysis.failure import bootstrap
from mskt.analysis.pairs import Pairs
from mskt.analysis.statistics.correction import Correction, adjust
from mskt.analysis.statistics.figure import LEVEL, Figure, Floats, all_equal
from mskt.analysis.statistics.independent import common_language, mann_whitney
from mskt.analysis.statistics.methods import ALL, patient_means
from mskt.analysis.statistics.paired import MIN_PATIENTS

POOLED = "all structures, pooled"
NO_TEST = "structures of one patient are not independent: see the interval"


@dataclass(frozen=True, slots=True)
class Step:
    """A bin of uncertainty, and the test against the next one.

    Attributes:
        low, high: the bin, in the estimator's unit; the last one includes ``high``.
        n: values in it; patients, or of :data:`POOLED` structures.
        patients: that they are of.
        mean, median: Dice; None in an empty bin.
        u, p, p_adjusted: Mann–Whitney against the next bin; None where there is no test.
        larger: how often the Dice here is larger than in the next bin, ties one half, in [0, 1]; of
            :data:`POOLED` with the interval of a bootstrap over patients, where both bins have
            structures of enough of them.
        reason: why there is no test.
    """

    low: float
    high: float
    n: int
    patients: int
    mean: float | None
    median: float | None
    u: float | None
    p: float | None
    p_adjusted: float | None
    larger: Figure
    reason: str


@dataclass(frozen=True, slots=True)
class Set:
    """The bins of one structure, of the patients' means, or of all structures pooled.

    Attributes:
        reason: why there are no bins; empty otherwise.
    """

    structure: str
    n: int
    steps: tuple[Step, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Bins:
    """What came of it; ``tests`` is the number that the correction counts."""

    correction: Correction
    tests: int
    sets: tuple[Set, ...]


def bins_of(
    pairs: Pairs,
    *,
    bins: int = 10,
    by_structure: bool = False,
    correction: Correction = "holm",
    draws: int = 1000,
    seed: int = 0,
) -> Bins:
    """Cut the range of the uncertainty into bins of equal width and compare neighbours in Dice.

    Tests take one value a patient: the mean over sides of a structure, or the mean over all. Pooled,
    a patient has many structures, in several bins: no test holds there, and the common-language
    effect has an interval by a bootstrap over patients.

    Args:
        pairs: Dice and doubt; missed structures have no doubt and are left out.
        bins: 2 or more.
        by_structure: each structure too.
        correction: of the p values of all bins and structures together.
        draws: of each bootstrap.
        seed: the same seed gives the same intervals.

    Raises:
        ValueError: fewer than 2 bins.
    """
    if bins < 2:
        raise ValueError("neighbours need at least 2 bins")
    found = pairs.where(pairs.found)
    patients, names = [str(p) for p in found.patient], [str(s) for s in found.structure]
    sets = [_pooled(found, bins, draws, seed)]
    for structure in (ALL, *(found.structures if by_structure else ())):
        dice, doubt = (
            np.array([*patient_means(patients, names, values, structure).values()], np.float64)
            for values in (found.dice, found.doubt)
        )
        sets.append(_tested(structure, doubt, dice, bins))
    return _corrected(sets, correction)


def _places(doubt: Floats, bins: int) -> tuple[Floats, NDArray[np.intp]]:
    """Edges, shape (bins + 1,), and the bin of each value, shape (n,)."""
    edges = np.linspace(doubt.min(), doubt.max(), bins + 1)
    return edges, np.searchsorted(edges[1:-1], doubt, side="right")


def _tested(structure: str, doubt: Floats, dice: Floats, bins: int) -> Set:
    """Bins with one value a patient."""
    if all_equal(doubt):
        return Set(structure, doubt.size, (), "the uncertainty does not vary")
    edges, place = _places(doubt, bins)
    steps = []
    for b in range(bins):
        here, following = dice[place == b], dice[place == b + 1]
        step = _step(edges, b, here, here.size)
        if b + 1 < bins:
            test = mann_whitney(here, following)
            larger = Figure(test.common_language, reason=test.reason)
            step = replace(step, u=test.u, p=test.p, larger=larger, reason=test.reason)
        steps.append(step)
    return Set(structure, doubt.size, tuple(steps))


def _pooled(found: Pairs, bins: int, draws: int, seed: int) -> Set:
    """Bins of all structures: no test, an interval over patients."""
    if all_equal(found.doubt):
        return Set(POOLED, len(found), (), "the uncertainty does not vary")
    edges, place = _places(found.doubt, bins)
    steps = []
    for b in range(bins):
        here = place == b
        step = _step(edges, b, found.dice[here], len(set(map(str, found.patient[here]))))
        if b + 1 < bins:
            step = replace(step, larger=_larger(found, place, b, draws, seed), reason=NO_TEST)
        steps.append(step)
    return Set(POOLED, len(found), tuple(steps))


def _larger(found: Pairs, place: NDArray[np.intp], b: int, draws: int, seed: int) -> Figure:
    """Common-language effect of bin b over the next; whole patients are drawn."""

    def effect(rows: NDArray[np.intp]) -> float | None:
        dice, bin_of = found.dice[rows], place[rows]
        return common_language(dice[bin_of == b], dice[bin_of == b + 1])

    value = effect(np.arange(len(found)))
    if value is None:
        return Figure(None, reason="an empty bin")
    patients = min(len(set(map(str, found.patient[place == k]))) for k in (b, b + 1))
    if patients < MIN_PATIENTS:
        return Figure(value, reason=f"no interval of {patients} patients")
    interval = bootstrap(effect, found.patient, draws=draws, level=LEVEL, seed=seed)
    return Figure(value, interval.low, interval.high, interval.reason)


def _step(edges: Floats, b: int, dice: Floats, patients: int) -> Step:
    return Step(
        float(edges[b]),
        float(edges[b + 1]),
        int(dice.size),
        patients,
        float(dice.mean()) if dice.size else None,
        float(np.median(dice)) if dice.size else None,
        None,
        None,
        None,
        Figure(None, reason="the last bin"),
        "the last bin",
    )


def _corrected(sets: Sequence[Set], correction: Correction) -> Bins:
    adjusted = iter(adjust([step.p for found in sets for step in found.steps], correction))
    done = [
        replace(
            found, steps=tuple(replace(step, p_adjusted=next(adjusted)) for step in found.steps)
        )
        for found in sets
    ]
    tests = sum(step.p is not None for found in done for step in found.steps)
    return Bins(correction, tests, tuple(done))

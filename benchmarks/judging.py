"""How statements of doubt are judged: curves from calibration scans, scores and intervals on others.

For benchmarks/uncertainty.py, which makes the scans, runs the sources and prints the tables.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mskt.analysis.calibration import Thresholds
from mskt.analysis.conformal import lower_bound
from mskt.analysis.curves import Curve, LeftOut, fit_curves, leave_out
from mskt.analysis.failure import aurc, auroc, pearson

REPEATS = 1000
COVERAGE = 0.9
LEAST_SCANS = 10
LOW = 0.7
"""Dice that nobody would use, whatever is usual."""


@dataclass(frozen=True)
class Group:
    """Scans of one person and preset.

    Attributes:
        calibrates: the thresholds come from it.
        shifted: not like what the weights were trained on.
    """

    name: str
    person: str
    preset: str
    count: int
    seed: int
    calibrates: bool = False
    shifted: bool = False


@dataclass(frozen=True)
class Item:
    """One structure and side of one scan.

    Attributes:
        patient: the same seed is the same person, pose and view under every shift.
        doubts: by measure and aggregation.
    """

    scan: str
    patient: str
    structure: str
    group: Group
    dice: float
    doubts: Mapping[str, float]


@dataclass(frozen=True)
class Ranked:
    """One way to state doubt, and what it found.

    Attributes:
        scans: which each item is of; all arrays have one value an item.
        patients: whose.
        shifted: the item's group is beyond training.
        doubt: as stated.
        predicted: Dice by the structure's curve of the calibration half.
        below: how far that is below the structure's median, in robust standard deviations: failed
            and inaccurate are defined so, and structures differ in what is usual.
        lower: bound of it with nominal coverage 90 %; NaN where there is none.
        known_aurc: AURC of the predicted Dice on the calibration half itself: what could be known
            before the test, and so a fair way to choose among many.
    """

    source: str
    name: str
    scans: NDArray[np.str_]
    patients: NDArray[np.str_]
    group: NDArray[np.str_]
    shifted: NDArray[np.bool_]
    dice: NDArray[np.float64]
    failed: NDArray[np.bool_]
    inaccurate: NDArray[np.bool_]
    doubt: NDArray[np.float64]
    predicted: NDArray[np.float64]
    below: NDArray[np.float64]
    lower: NDArray[np.float64]
    known_aurc: float


def ranked(source: str, items: Sequence[Item], name: str, least: int = LEAST_SCANS) -> Ranked:
    """Fit a curve for each structure on the calibration half, and judge the other half by it.

    Structures that fewer than ``least`` calibration scans show are left out.
    """
    known = [item for item in items if item.group.calibrates and name in item.doubts]
    test = [item for item in items if not item.group.calibrates and name in item.doubts]
    curves = fit(known, name, least)
    test = [item for item in test if item.structure in curves]
    seen = [item for item in known if item.structure in curves]
    own = [-curves[item.structure].curve.predict(item.doubts[name]) for item in seen]
    doubt = np.array([item.doubts[name] for item in test])
    fits = [curves[item.structure] for item in test]
    dice = np.array([item.dice for item in test])
    return Ranked(
        source,
        name,
        np.array([item.scan for item in test]),
        np.array([item.patient for item in test]),
        np.array([item.group.name for item in test]),
        np.array([item.group.shifted for item in test]),
        dice,
        dice < np.array([one.limits.failed for one in fits]),
        dice < np.array([one.limits.inaccurate for one in fits]),
        doubt,
        np.array([one.curve.predict(d) for one, d in zip(fits, doubt, strict=True)]),
        np.array([one.below(d) for one, d in zip(fits, doubt, strict=True)]),
        np.array([one.bound(d) for one, d in zip(fits, doubt, strict=True)]),
        aurc(own, [1 - item.dice for item in seen]),
    )


@dataclass(frozen=True)
class StructureFit:
    """Dice thresholds, curve and what leaving each scan out missed by."""

    limits: Thresholds
    curve: Curve
    left_out: tuple[LeftOut, ...]

    def below(self, doubt: float) -> float:
        """Robust standard deviations that the predicted Dice lies below the median."""
        step = self.limits.inaccurate - self.limits.failed  # 1.4826 MAD
        return (self.limits.median - self.curve.predict(doubt)) / step

    def bound(self, doubt: float) -> float:
        """Lower bound of the Dice, 90 % nominal."""
        found = lower_bound(doubt, self.left_out, COVERAGE)
        return np.nan if found is None else min(found, self.curve.predict(doubt))


def fit(items: Sequence[Item], name: str, least: int = LEAST_SCANS) -> dict[str, StructureFit]:
    """Curves as ``mskt calibrate`` fits them, of structures that ``least`` calibration scans show.

    Structures that rise are not taken out of the common exponent here: each way of stating doubt is
    judged as it is.
    """
    shown: dict[str, set[str]] = defaultdict(set)
    for item in items:
        shown[item.structure].add(item.scan)
    items = [item for item in items if len(shown[item.structure]) >= least]
    scans, structures = (
        np.array([getattr(item, field) for item in items]) for field in ("scan", "structure")
    )
    dice = np.array([item.dice for item in items])
    doubt = np.array([item.doubts[name] for item in items])
    left_out = leave_out(doubt, dice, scans, structures)
    limits = {name: Thresholds.of(dice[structures == name]) for name in set(structures)}
    return {
        name: StructureFit(known, curve, left_out[name])
        for name, curve in fit_curves(doubt, dice, structures).items()
        if (known := limits[name]) is not None
    }


def figures(one: Ranked, rows: NDArray[np.intp]) -> tuple[float, ...]:
    """AUROC of failed, inaccurate (relative to the structure), of Dice below 0.7; r; AURC."""
    bad, poor = one.failed[rows], one.inaccurate[rows]
    risk = 1 - one.dice[rows]
    return (
        auroc(one.below[rows], bad).value or np.nan,
        auroc(one.below[rows], poor).value or np.nan,
        auroc(-one.predicted[rows], one.dice[rows] < LOW).value or np.nan,
        pearson(one.dice[rows], one.doubt[rows]).value or np.nan,
        aurc(-one.predicted[rows], risk),
    )


def resamples(
    one: Ranked, rows: NDArray[np.intp], names: NDArray[np.str_]
) -> Iterator[NDArray[np.intp]]:
    """Rows of resampled patients, the same ones for every way of stating doubt."""
    place = {name: rows[one.patients[rows] == name] for name in names}
    rng = np.random.default_rng(0)
    for _ in range(REPEATS):
        yield np.concatenate([place[name] for name in rng.choice(names, len(names))])


def draws_of(one: Ranked) -> NDArray[np.float64]:
    """AUROC of failed structures under shift in every resample."""
    rows = np.flatnonzero(one.shifted)
    names = np.unique(one.patients[rows])
    return np.array(
        [
            auroc(one.below[again], one.failed[again]).value or np.nan
            for again in resamples(one, rows, names)
        ]
    )


def span(values: NDArray[np.float64], sign: str = "") -> str:
    """The percentile interval as text."""
    low, high = np.nanquantile(values, (0.025, 0.975))
    return f"{low:{sign}.3f} to {high:{sign}.3f}"

"""How a calibration fares: on its own cases, each judged without its patient, or on other cases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mskt.analysis import failure
from mskt.analysis.calibration import ALL, Calibration, Fit, Thresholds
from mskt.analysis.failure import Bin, Floats, Interval, Score
from mskt.analysis.fitting import fit_all
from mskt.analysis.flags import judge
from mskt.analysis.pairs import Pairs

CASES = "mean of a case"


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of one structure, of all pooled (:data:`ALL`), or of case means (:data:`CASES`).

    Attributes:
        pairs, patients: with Dice and doubt.
        missed: structures that were not found; in no figure, since they have no doubt, but flagged.
        inaccurate, failed: pairs (without missed ones) below the calibration's Dice thresholds.
        r, rank_r: Pearson's and Spearman's correlation of Dice and doubt.
        auroc_inaccurate, auroc_failed: of the doubt.
        mae: of the predicted Dice.
        coverage: part of the pairs with a lower bound whose Dice is at least that.
        bounded: how many of the pairs have a lower bound.
    """

    structure: str
    pairs: int
    patients: int
    missed: int
    inaccurate: int
    failed: int
    r: Score
    rank_r: Score
    auroc_inaccurate: Score
    auroc_failed: Score
    mae: Score
    coverage: Score
    bounded: int


@dataclass(frozen=True, slots=True)
class Trial:
    """All figures of one set of cases.

    Attributes:
        cases: with a Dice.
        structures: in the order of the tables.
        pooled: over all pairs; AUROC of the raw doubt against the thresholds of all Dice together.
        case_means: of mean Dice and mean doubt of each case.
        aurc, e_aurc, augrc: of the doubt over all pairs, risk = 1 − Dice.
        risk_coverage: coverage and selective risk, at most 101 points of the curve.
        reliability: bins of predicted Dice; ``calibration_error`` their mean distance from the truth.
        intervals: 95 % bootstrap intervals over patients of figures of ``pooled``, by name.
    """

    cases: int
    structures: tuple[Figures, ...]
    pooled: Figures
    case_means: Figures
    aurc: Score
    e_aurc: Score
    augrc: Score
    risk_coverage: tuple[tuple[float, float], ...]
    reliability: tuple[Bin, ...]
    calibration_error: Score
    intervals: dict[str, Interval]


def leave_one_patient_out(calibration: Calibration, pairs: Pairs, *, draws: int = 1000) -> Trial:
    """Judge each patient by a calibration made without them.

    Lines and bounds are those of the other patients. The Dice thresholds, which only name what counts
    as inaccurate or failed, are those of all.

    Args:
        calibration: made of ``pairs``.
        pairs: its cases.
        draws: resamples of the bootstrap.
    """
    predicted, lower = np.full(len(pairs), np.nan), np.full(len(pairs), np.nan)
    for patient in np.unique(pairs.patient):
        mine = pairs.patient == patient
        others = fit_all(
            pairs.where(~mine), calibration.metric, calibration.coverage, calibration.provenance
        )
        predicted[mine], lower[mine] = _predictions(others, pairs.where(mine))
    return _trial(calibration, pairs, predicted, lower, draws)


def on_other_cases(calibration: Calibration, pairs: Pairs, *, draws: int = 1000) -> Trial:
    """Judge other cases, by the finished calibration.

    Args:
        calibration: made of other patients.
        pairs: of the cases to judge.
        draws: resamples of the bootstrap.
    """
    return _trial(calibration, pairs, *_predictions(calibration, pairs), draws)


def _predictions(calibration: Calibration, pairs: Pairs) -> tuple[Floats, Floats]:
    """Predicted Dice and lower bound of each pair; NaN where there is none."""
    found = np.full((2, len(pairs)), np.nan)
    for row in np.flatnonzero(pairs.found):
        judged = judge(calibration, str(pairs.structure[row]), float(pairs.doubt[row]))
        for place, value in enumerate((judged.predicted_dice, judged.lower_bound)):
            if value is not None:
                found[place, row] = value
    return found[0], found[1]


def _trial(
    calibration: Calibration, pairs: Pairs, predicted: Floats, lower: Floats, draws: int
) -> Trial:
    def figures(name: str, fit: Fit | None, mine: NDArray[np.bool_]) -> Figures:
        limits = None if fit is None else fit.dice
        return _figures(name, pairs.where(mine), limits, predicted[mine], lower[mine])

    found = pairs.found
    risk, doubt = 1.0 - pairs.dice[found], pairs.doubt[found]

    def area(of: Callable[[Floats, Floats], float]) -> Score:
        return Score(of(doubt, risk)) if doubt.size else Score(None, "no pairs")

    bins = failure.reliability(predicted[found], pairs.dice[found])
    return Trial(
        cases=np.unique(pairs.case_id).size,
        structures=tuple(
            figures(name, calibration.fit_of(name), pairs.structure == name)
            for name in pairs.structures
        ),
        pooled=figures(ALL, calibration.pooled, np.ones(len(pairs), bool)),
        case_means=_case_means(calibration, pairs),
        aurc=area(failure.aurc),
        e_aurc=area(failure.e_aurc),
        augrc=area(failure.augrc),
        risk_coverage=_curve(doubt, risk),
        reliability=tuple(bins),
        calibration_error=failure.calibration_error(bins),
        intervals=_intervals(calibration, pairs, predicted, lower, draws),
    )


def _curve(doubt: Floats, risk: Floats) -> tuple[tuple[float, float], ...]:
    """Points of the risk–coverage curve, evenly along it; its last one is there."""
    if not doubt.size:
        return ()
    coverage, selective = failure.risk_coverage(doubt, risk)
    chosen = np.unique(np.linspace(0, len(coverage) - 1, 101).round().astype(int))
    return tuple((float(coverage[n]), float(selective[n])) for n in chosen)


def _figures(
    name: str, pairs: Pairs, limits: Thresholds | None, predicted: Floats, lower: Floats
) -> Figures:
    found = pairs.found
    dice, doubt = pairs.dice[found], pairs.doubt[found]

    def against(limit: float | None) -> Score:
        if limit is None:
            return Score(None, "the calibration has no Dice threshold for it")
        return failure.auroc(doubt, dice < limit)

    return Figures(
        structure=name,
        pairs=int(found.sum()),
        patients=np.unique(pairs.patient[found]).size,
        missed=int((~found).sum()),
        inaccurate=0 if limits is None else int((dice < limits.inaccurate).sum()),
        failed=0 if limits is None else int((dice < limits.failed).sum()),
        r=failure.pearson(doubt, dice),
        rank_r=failure.spearman(doubt, dice),
        auroc_inaccurate=against(None if limits is None else limits.inaccurate),
        auroc_failed=against(None if limits is None else limits.failed),
        mae=failure.mean_absolute_error(predicted[found], dice),
        coverage=failure.empirical_coverage(lower[found], dice),
        bounded=int(np.isfinite(lower[found]).sum()),
    )


def _case_means(calibration: Calibration, pairs: Pairs) -> Figures:
    """Average over the structures of each case: Dice with misses as 0, doubt of those found."""
    names = [case for case in np.unique(pairs.case_id) if pairs.found[pairs.case_id == case].any()]
    rows = [pairs.case_id == case for case in names]
    means = replace(
        pairs,
        case_id=np.array(names, np.str_),
        patient=np.array([pairs.patient[mine][0] for mine in rows], np.str_),
        structure=np.full(len(names), CASES),
        side=np.full(len(names), "both"),
        dice=np.array([pairs.dice[mine].mean() for mine in rows]),
        doubt=np.array([pairs.doubt[mine & pairs.found].mean() for mine in rows]),
    )
    nothing = np.full(len(names), np.nan)
    return _figures(CASES, means, calibration.case_means, nothing, nothing)


def _intervals(
    calibration: Calibration, pairs: Pairs, predicted: Floats, lower: Floats, draws: int
) -> dict[str, Interval]:
    found = pairs.found
    dice, doubt = pairs.dice[found], pairs.doubt[found]
    predicted, lower = predicted[found], lower[found]
    wanted: dict[str, Callable[[NDArray[np.intp]], float | None]] = {
        "r": lambda rows: failure.pearson(doubt[rows], dice[rows]).value,
        "mae": lambda rows: failure.mean_absolute_error(predicted[rows], dice[rows]).value,
        "coverage": lambda rows: failure.empirical_coverage(lower[rows], dice[rows]).value,
    }
    limits = calibration.pooled.dice
    if limits is not None:
        wanted["auroc_inaccurate"] = lambda rows: (
            failure.auroc(doubt[rows], dice[rows] < limits.inaccurate).value
        )
        wanted["auroc_failed"] = lambda rows: (
            failure.auroc(doubt[rows], dice[rows] < limits.failed).value
        )
    return {
        name: failure.bootstrap(figure, pairs.patient[found], draws=draws)
        for name, figure in wanted.items()
    }

"""What cases with references say of one more: curves, thresholds and bounds are fitted.

Thresholds are Soufi 2024's, curves those of :mod:`mskt.analysis.curves`, the bound that of
:mod:`mskt.analysis.conformal`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from mskt.analysis.calibration import (
    ALL,
    MIN_CASES,
    MIN_PAIRS,
    SCHEMA,
    Calibration,
    Fit,
    Provenance,
    Thresholds,
)
from mskt.analysis.conformal import patients_needed
from mskt.analysis.curves import Curve, LeftOut, fit_curves, leave_out
from mskt.analysis.failure import spearman
from mskt.analysis.pairs import Pairs
from mskt.core.errors import InputError, UsageError

_CLEAR = 1.645
"""Standard deviations that chance exceeds once in twenty."""


def calibrate(pairs: Pairs, metric: str, coverage: float, provenance: Provenance) -> Calibration:
    """Fit curves, thresholds and bounds.

    Args:
        pairs: of cases with references.
        metric: which doubt they hold.
        coverage: wanted of the lower bound, in (0, 1).
        provenance: of the cases; the numbers of cases, patients and pairs are filled in here.

    Raises:
        UsageError: ``coverage`` is not between 0 and 1.
        InputError: there are fewer than :data:`MIN_CASES` cases with a Dice.
    """
    if not 0.0 < coverage < 1.0:
        raise UsageError("--coverage", f"{coverage} is not between 0 and 1.", "Usual is 0.9.")
    cases, patients = np.unique(pairs.case_id).size, np.unique(pairs.patient).size
    if min(cases, patients) < MIN_CASES:
        what = f"{cases} case{'s' * (cases != 1)} of {patients} patient{'s' * (patients != 1)}"
        raise InputError(
            "calibration",
            f"needs at least {MIN_CASES} patients with reference labels, there are {what}",
            "With fewer, a curve through doubt and Dice says nothing about the next patient. Add "
            "cases with references; folds of a cross-validation may be given together.",
        )
    filled = replace(
        provenance,
        cases=cases,
        patients=patients,
        pairs=int(pairs.found.sum()),
        rows_sha256=pairs.sha256,
    )
    return fit_all(pairs, metric, coverage, filled)


def fit_all(pairs: Pairs, metric: str, coverage: float, provenance: Provenance) -> Calibration:
    """Do the work of :func:`calibrate` without asking whether there are enough cases."""
    own = {name: pairs.where(pairs.structure == name) for name in pairs.structures}
    enough = {name: its for name, its in own.items() if its.found.sum() >= MIN_PAIRS}
    rising = [name for name, its in enough.items() if _rises(its.where(its.found))]
    sharing = [name for name in enough if name not in rising]
    fitted = _Fitted.of(pairs.where(np.isin(pairs.structure, sharing)))
    for name in rising:  # what the others have in common does not hold for it
        fitted = fitted.with_own(enough[name])
    together = _Fitted.of(replace(pairs, structure=np.full(len(pairs), ALL)))
    return Calibration(
        SCHEMA,
        metric,
        coverage,
        tuple(_fit(name, its, fitted, coverage) for name, its in own.items()),
        _fit(ALL, pairs, together, coverage),
        Thresholds.of([pairs.dice[pairs.case_id == c].mean() for c in np.unique(pairs.case_id)]),
        provenance,
    )


@dataclass(frozen=True)
class _Fitted:
    """Curves of structures, and without each patient."""

    curves: Mapping[str, Curve]
    left_out: Mapping[str, tuple[LeftOut, ...]]

    @classmethod
    def of(cls, pairs: Pairs) -> _Fitted:
        there = pairs.where(pairs.found)
        return cls(
            fit_curves(there.doubt, there.dice, there.structure),
            leave_out(there.doubt, there.dice, there.patient, there.structure),
        )

    def with_own(self, pairs: Pairs) -> _Fitted:
        """The same and the curve of one structure with an exponent of its own, for no bound."""
        there = pairs.where(pairs.found)
        own = fit_curves(there.doubt, there.dice, there.structure)
        return replace(self, curves={**self.curves, **own})


def _fit(name: str, pairs: Pairs, fitted: _Fitted, coverage: float) -> Fit:
    """Describe one structure; what cannot be known is None and stands in the notes."""
    there = pairs.where(pairs.found)
    curve = fitted.curves.get(name) if len(there) >= MIN_PAIRS else None
    limits = Thresholds.of(pairs.dice)
    left_out = fitted.left_out.get(name, ()) if curve is not None else ()
    enough = len(left_out) >= patients_needed(coverage)
    return Fit(
        structure=name,
        pairs=len(there),
        patients=np.unique(there.patient).size,
        missed=len(pairs) - len(there),
        inaccurate=0 if limits is None else int((pairs.dice < limits.inaccurate).sum()),
        failed=0 if limits is None else int((pairs.dice < limits.failed).sum()),
        dice=limits,
        curve=curve,
        doubt_inaccurate=_doubt(curve, None if limits is None else limits.inaccurate),
        doubt_failed=_doubt(curve, None if limits is None else limits.failed),
        doubt_range=(float(there.doubt.min()), float(there.doubt.max())) if len(there) else None,
        left_out=left_out if enough else (),
        notes=tuple(_notes(there, curve, limits, pairs, enough)),
    )


def _rises(there: Pairs) -> bool:
    """A larger doubt clearly meant a higher Dice: Spearman's correlation, one-sided, at 5 %."""
    r = spearman(there.doubt, there.dice).value
    return r is not None and r * math.sqrt(len(there) - 1) > _CLEAR


def _notes(
    there: Pairs, curve: Curve | None, limits: Thresholds | None, pairs: Pairs, enough: bool
) -> Iterator[str]:
    """Say what a structure's figures cannot tell."""
    if len(there) < MIN_PAIRS:
        yield f"{len(there)} pairs: judged like all structures together"
    elif curve is None:
        yield "the doubt never varies: predicted by the curve of all structures"
    elif not enough:
        yield f"{np.unique(there.patient).size} patients: lower bound of all structures"
    if curve is not None and not curve.falls:
        yield "a larger doubt did not mean a lower Dice: no doubt threshold"
    if limits is None:
        yield "more than half of the Dice are equal: no thresholds"
    elif not (pairs.dice < limits.inaccurate).any():
        yield "none was inaccurate: how failures look is unknown"


def _doubt(curve: Curve | None, dice: float | None) -> float | None:
    """Doubt at which the predicted Dice meets a threshold."""
    return None if curve is None or dice is None else curve.doubt_at(dice)

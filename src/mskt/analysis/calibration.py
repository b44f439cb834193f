"""What a doubt means: predicted Dice, a lower bound and a flag for structures without a reference.

Soufi 2024: Dice = a·U + b over cases with references, per structure and over all of them; a structure
stands out below median + 1.4826·k·MAD of the Dice (k = −2 inaccurate, −3 failed), and the line inverted
there gives the doubt above which it is flagged. The lower bound is conformal
(:func:`mskt.analysis.conformal.lower_bound`, which says what it promises and what not).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal

import numpy as np

from mskt.analysis import strict_json
from mskt.analysis.conformal import (
    LeftOut,
    Line,
    fit_line,
    leave_out,
    lower_bound,
    patients_needed,
)
from mskt.analysis.failure import FAILED, INACCURATE, dice_threshold
from mskt.analysis.pairs import DOUBT, Pairs, own_sides
from mskt.core.errors import InputError, UsageError
from mskt.core.records import Record, Status

SCHEMA = 1
MIN_CASES = 10
MIN_PAIRS = 10
"""Below it a structure takes the line and thresholds of all structures together."""
ALL = "all structures"
FAR = 0.25
"""A doubt is far outside when it is this part of the range seen beyond its end: nothing is known
there, and a straight line may not go on."""
PREDICTED, LOWER = "predicted_dice", "predicted_dice_lower"

Flag = Literal["ok", "inaccurate", "failed", "unknown"]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Median of the Dice, and the Dice below which it is inaccurate (k = −2) or failed (k = −3)."""

    median: float
    inaccurate: float
    failed: float

    @classmethod
    def of(cls, dice: Sequence[float] | np.ndarray) -> Thresholds | None:
        """Thresholds of some Dice, shape (n,); None without any or where more than half are equal.

        With a MAD of 0 all that differs from the median would count as failed.
        """
        values = np.asarray(dice, np.float64)
        if not values.size or not np.median(np.abs(values - np.median(values))) > 0:
            return None
        return cls(
            float(np.median(values)),
            dice_threshold(values, INACCURATE),
            dice_threshold(values, FAILED),
        )


@dataclass(frozen=True, slots=True)
class Fit:
    """What the calibration cases say of one structure, or of all (:data:`ALL`).

    Attributes:
        pairs, patients: with Dice and doubt; left and right of a patient are two pairs.
        missed: structures that the method did not find though the reference has them (Dice 0).
        inaccurate, failed: pairs and misses below the Dice thresholds; failed ones are both.
        dice: thresholds, missed structures included; None where more than half of the Dice are equal.
        line: None where there are too few pairs or the doubt never varies.
        doubt_inaccurate, doubt_failed: the line inverted at the thresholds; None where it cannot be.
        doubt_range: smallest and largest doubt seen.
        left_out: for the lower bound; empty where there are too few patients for an own one.
        notes: what is missing and why, in words.
    """

    structure: str
    pairs: int
    patients: int
    missed: int
    inaccurate: int
    failed: int
    dice: Thresholds | None
    line: Line | None
    doubt_inaccurate: float | None
    doubt_failed: float | None
    doubt_range: tuple[float, float] | None
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse a line of which nobody knows where it was seen to hold."""
        if self.line is not None and self.doubt_range is None:
            raise ValueError("has a line but no doubt_range")


@dataclass(frozen=True, slots=True)
class Provenance:
    """Which data and which method a calibration is of.

    Attributes:
        weights, weights_sha256: names and checksums; several for the folds of a cross-validation,
            none for a method without weights.
        aggregation: how the doubts of voxels become one of the structure.
        draws: samples a voxel.
        cases, patients, pairs: with a Dice; ``pairs`` without missed structures.
        synthetic_cases: how many of the cases are phantoms and no patients.
        rows_sha256: checksum of the rows used.
        date: ISO 8601.
        mskt: version that made the calibration.
    """

    segmenter: str
    weights: tuple[str, ...]
    weights_sha256: tuple[str, ...]
    estimator: str
    measure: str
    aggregation: str
    draws: int
    label_set: str
    cases: int
    patients: int
    pairs: int
    synthetic_cases: int
    rows_sha256: str
    date: str
    mskt: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a calibration says of one structure.

    Attributes:
        predicted_dice, lower_bound: in [0, 1]; None where nothing can be said.
        flag: ``ok``, ``inaccurate``, ``failed`` or ``unknown``.
        reason: of the flag, in words.
    """

    predicted_dice: float | None
    lower_bound: float | None
    flag: Flag
    reason: str


@dataclass(frozen=True, slots=True)
class FlagRow:
    """One line of ``flags.tsv``."""

    structure: str
    side: str
    flag: Flag
    predicted_dice: float | None
    lower_bound: float | None
    doubt: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Calibration:
    """From the doubt of a structure to predicted Dice, lower bound and flag.

    Attributes:
        schema: of the file.
        metric: which row of the results is the doubt.
        coverage: of the lower bound, in (0, 1).
        structures: one entry for each structure with a Dice in the calibration cases.
        pooled: over all of them; for structures with too few pairs, and unknown ones.
        case_means: thresholds of the mean Dice of a case.
    """

    schema: int
    metric: str
    coverage: float
    structures: tuple[Fit, ...]
    pooled: Fit
    case_means: Thresholds | None
    provenance: Provenance

    def __post_init__(self) -> None:
        """Refuse another schema and a coverage that is none."""
        if self.schema != SCHEMA:
            raise ValueError(f"has schema {self.schema}, this mskt reads {SCHEMA}")
        if not 0.0 < self.coverage < 1.0:
            raise ValueError(f"coverage {self.coverage} is not between 0 and 1")

    def to_json(self) -> str:
        """Write it as indented JSON that :meth:`from_json` reads back to the last bit."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, file: str = "calibration.json") -> Calibration:
        """Read what :meth:`to_json` wrote.

        Args:
            text: the document.
            file: its name, for errors.

        Raises:
            InputError: no JSON, another schema, or a field missing, unknown or of the wrong type.
        """
        return strict_json.read(cls, text, file)

    def fit_of(self, structure: str) -> Fit | None:
        """Look a structure up; None if no calibration case had a reference of it."""
        return next((fit for fit in self.structures if fit.structure == structure), None)

    def judge(self, structure: str, doubt: float | None, status: str = "ok") -> Judgement:
        """Say how good a structure probably is.

        Args:
            structure: canonical name, without side.
            doubt: its value of :attr:`metric`; None where there is none.
            status: of that row. ``absent_prediction`` is failed; ``truncated`` is judged with a remark.
        """
        if status == "absent_prediction":
            return Judgement(None, None, "failed", "not found")
        if doubt is None:
            gone = "outside the scan, or not found where the scan cuts it off"
            return Judgement(
                None, None, "unknown", gone if status == "truncated" else "no doubt was measured"
            )
        own = self.fit_of(structure)
        fit = own if own is not None and own.line is not None else self.pooled
        if fit.line is None:
            return Judgement(None, None, "unknown", "the calibration has no line to judge by")
        remarks = _remarks(own, fit, status)
        predicted = fit.line.predict(doubt)
        lower = self._lower(fit, doubt, predicted)
        if lower is None:
            remarks.append(
                f"no lower bound: it needs {patients_needed(self.coverage)} calibration patients"
            )
        flag, reason = _flag(fit, self._thresholds(own), doubt)
        return Judgement(predicted, lower, flag, "; ".join([reason, *remarks]))

    def _thresholds(self, own: Fit | None) -> Thresholds | None:
        enough = own is not None and own.pairs >= MIN_PAIRS
        return own.dice if own is not None and enough else self.pooled.dice

    def _lower(self, fit: Fit, doubt: float, predicted: float) -> float | None:
        """Find the structure's own bound, else that of all structures; never above the prediction."""
        own = lower_bound(doubt, fit.left_out, self.coverage)
        bound = lower_bound(doubt, self.pooled.left_out, self.coverage) if own is None else own
        return None if bound is None else min(bound, predicted)

    def check_fits(
        self,
        segmenter: str,
        weights_sha256: str | Sequence[str],
        estimator: str,
        measure: str,
        label_set: str,
        *,
        aggregation: str | None = None,
        draws: int | None = None,
        force: bool = False,
    ) -> str:
        """Refuse a method other than the one calibrated: its doubts mean something else.

        Args:
            segmenter: name, as the user gives it.
            weights_sha256: of the weights in use, several for an ensemble; empty if there are none.
            estimator: name of the uncertainty, as the user gives it.
            measure: what it computes, as ``run.json`` names it.
            label_set: name.
            aggregation: how voxels become the ``uncertainty`` of a structure; None leaves it
                unchecked, as does a calibration of another metric, which names its own.
            draws: samples a voxel; None leaves them unchecked.
            force: go on all the same.

        Returns:
            Empty if all agrees; with ``force`` a sentence to be shown with the results.

        Raises:
            UsageError: something differs and ``force`` is false.
        """
        known = self.provenance
        used = {weights_sha256} if isinstance(weights_sha256, str) else {*weights_sha256}
        strange = sorted(map(_short, used - {"", *known.weights_sha256}))
        asked = {
            "segmenter": (known.segmenter, segmenter),
            "uncertainty": (known.estimator, estimator),
            "measure": (known.measure, measure),
            "label set": (known.label_set, label_set),
            "draws": (known.draws, known.draws if draws is None else draws),
        }
        if aggregation is not None and self.metric == DOUBT:
            asked["aggregation"] = (known.aggregation, aggregation)
        different = [f"{name} {a}, here {b}" for name, (a, b) in asked.items() if a != b]
        if strange or (known.weights_sha256 and not used - {""}):
            of = ", ".join(map(_short, known.weights_sha256)) or "none"
            different.append(f"weights {of}, here {', '.join(strange) or 'none'}")
        if not different:
            return ""
        told = "; ".join(different)
        if force:
            return (
                f"The calibration was made for another method ({told}): its figures may be wrong."
            )
        raise UsageError(
            "calibration",
            f"was made for another method: {told}.",
            "Calibrate with results of this method, or run with the method that was calibrated.",
        )


def _short(checksum: str) -> str:
    """The first digits of a checksum; of an ensemble those of each member."""
    return "+".join(part[:12] for part in checksum.split("+"))


def calibrate(pairs: Pairs, metric: str, coverage: float, provenance: Provenance) -> Calibration:
    """Fit lines, thresholds and bounds.

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
            "With fewer, a line through doubt and Dice says nothing about the next patient. Add "
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
    return Calibration(
        SCHEMA,
        metric,
        coverage,
        tuple(
            _fit(name, pairs.where(pairs.structure == name), coverage) for name in pairs.structures
        ),
        _fit(ALL, pairs, coverage),
        Thresholds.of([pairs.dice[pairs.case_id == c].mean() for c in np.unique(pairs.case_id)]),
        provenance,
    )


def _fit(name: str, pairs: Pairs, coverage: float) -> Fit:
    """Describe one structure; what cannot be known is None and stands in the notes."""
    there = pairs.where(pairs.found)
    line = fit_line(there.doubt, there.dice) if len(there) >= MIN_PAIRS else None
    limits = Thresholds.of(pairs.dice)
    left_out = () if line is None else leave_out(there.doubt, there.dice, there.patient)
    enough = len(left_out) >= patients_needed(coverage)
    return Fit(
        structure=name,
        pairs=len(there),
        patients=np.unique(there.patient).size,
        missed=len(pairs) - len(there),
        inaccurate=0 if limits is None else int((pairs.dice < limits.inaccurate).sum()),
        failed=0 if limits is None else int((pairs.dice < limits.failed).sum()),
        dice=limits,
        line=line,
        doubt_inaccurate=_inverse(line, None if limits is None else limits.inaccurate),
        doubt_failed=_inverse(line, None if limits is None else limits.failed),
        doubt_range=(float(there.doubt.min()), float(there.doubt.max())) if len(there) else None,
        left_out=left_out if enough else (),
        notes=tuple(_notes(there, line, limits, pairs, enough)),
    )


def _notes(
    there: Pairs, line: Line | None, limits: Thresholds | None, pairs: Pairs, enough: bool
) -> Iterator[str]:
    """Say what a structure's figures cannot tell."""
    if len(there) < MIN_PAIRS:
        yield f"{len(there)} pairs: judged like all structures together"
    elif line is None:
        yield "the doubt never varies: predicted by the line of all structures"
    elif not enough:
        yield f"{np.unique(there.patient).size} patients: lower bound of all structures"
    if line is not None and line.slope >= 0:
        yield "a larger doubt did not mean a lower Dice: no doubt threshold"
    if limits is None:
        yield "more than half of the Dice are equal: no thresholds"
    elif not (pairs.dice < limits.inaccurate).any():
        yield "none was inaccurate: how failures look is unknown"


def _inverse(line: Line | None, dice: float | None) -> float | None:
    """Doubt at which a falling line meets a Dice threshold."""
    if line is None or dice is None or line.slope >= 0:
        return None
    return (dice - line.intercept) / line.slope


def _remarks(own: Fit | None, fit: Fit, status: str) -> list[str]:
    remarks = []
    if status == "truncated":
        remarks.append("the scan cuts it off: only the part in view is judged")
    if own is None:
        remarks.append("no calibration case had a reference of it: judged like all structures")
    elif own is not fit:
        few = own.pairs < MIN_PAIRS
        why = "too few calibration cases" if few else "its doubt never varied in calibration"
        remarks.append(f"{why}: predicted like all structures")
    return remarks


def _flag(fit: Fit, limits: Thresholds | None, doubt: float) -> tuple[Flag, str]:
    """Compare the prediction with the thresholds, as far as the line can be believed."""
    assert fit.line is not None
    predicted = fit.line.at(doubt)
    if limits is None:
        return "unknown", "its Dice was the same in most calibration cases: there is no threshold"
    if fit.line.slope >= 0:
        return "unknown", "in the calibration cases a larger doubt did not mean a lower Dice"
    beyond, far = _outside(fit, doubt)
    note = f"; the doubt is {beyond} than in any calibration case" if beyond else ""
    if predicted < limits.failed:
        return "failed", f"predicted Dice below {max(limits.failed, 0.0):.2f}: probably wrong{note}"
    if far:
        return "unknown", f"the doubt is far {beyond} than in any calibration case"
    if predicted < limits.inaccurate:
        limit = max(limits.inaccurate, 0.0)
        return "inaccurate", f"predicted Dice below {limit:.2f}: look at its outline{note}"
    return "ok", f"as good as usual{note}"


def _outside(fit: Fit, doubt: float) -> tuple[str, bool]:
    """Say on which side of the range seen a doubt lies, and whether far."""
    assert fit.doubt_range is not None
    low, high = fit.doubt_range
    margin = FAR * (high - low)
    if doubt > high:
        return "larger", doubt > high + margin
    if doubt < low:
        return "smaller", doubt < low - margin
    return "", False


def apply(
    calibration: Calibration, records: Iterable[Record]
) -> tuple[list[Record], list[FlagRow]]:
    """Judge every structure of a case, or of many.

    Args:
        calibration: that fits the method of the rows (:meth:`Calibration.check_fits`).
        records: rows of results tables; those of :attr:`Calibration.metric` are used.

    Returns:
        Rows ``predicted_dice`` and ``predicted_dice_lower`` (unit 1) with the keys of the rows they
        come from, and the flags, both in the order of the rows. Where a structure has left and right,
        these are judged and ``both`` is left out: sides were calibrated, not their sum. A value that
        cannot be known is None with the row's own status, or ``no_reference`` where the calibration
        cannot tell.

    Raises:
        InputError: no row has the calibration's metric.
    """
    rows = own_sides(row for row in records if row.metric == calibration.metric)
    if not rows:
        raise InputError(
            "results",
            f"have no {calibration.metric!r}, which the calibration needs",
            "Run with the uncertainty that was calibrated, or calibrate with another --metric.",
        )
    found, flags = [], []
    for row in rows:
        judged = calibration.judge(row.structure, row.value, row.status)
        for metric, value in ((PREDICTED, judged.predicted_dice), (LOWER, judged.lower_bound)):
            status: Status | str = row.status
            if value is None and status == "ok":
                status = "no_reference"
            found.append(replace(row, metric=metric, value=value, unit="1", status=status))
        flags.append(
            FlagRow(
                row.structure,
                row.side,
                judged.flag,
                judged.predicted_dice,
                judged.lower_bound,
                row.value,
                judged.reason,
            )
        )
    return found, flags


def flags_tsv(flags: Iterable[FlagRow]) -> str:
    """Write ``flags.tsv``: one line a structure and side, empty where there is no number."""
    names = [field.name for field in fields(FlagRow)]
    lines = ["\t".join(names)]
    for row in flags:
        cells = (getattr(row, name) for name in names)
        lines.append("\t".join(_cell(cell) for cell in cells))
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    if value is None:
        return ""
    return format(value, ".6g") if isinstance(value, float) else " ".join(str(value).split())

"""Structures without a reference are judged by a calibration: predicted Dice, lower bound and flag."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Literal

from mskt.analysis.calibration import MIN_PAIRS, Calibration, Fit, Thresholds
from mskt.analysis.conformal import lower_bound, patients_needed
from mskt.analysis.pairs import own_sides
from mskt.core.errors import InputError
from mskt.core.records import Record, Status

FAR = 0.25
"""A doubt is far outside when it is this part of the range seen beyond its end: nothing is known
there, and a curve may not go on."""
POOR = 0.7
"""A predicted Dice below it is never *ok*, however usual it is. Overlap above 0.7 is what the field calls
good (Zijdenbos et al. 1994, IEEE Trans Med Imaging 13:716)."""
NEARLY_ALL, AT_LEAST = 2 / 3, 6
"""Where more than this part of what could be judged has *failed*, of at least so many rows, the scan
itself is in question. Measured (docs/experiments/0010): 0.93 and 0.95 with front and back exchanged, at
most 0.49 in 21 scans turned, cut, thickened, or with noise or metal."""
OUTSIDE = "outside the scan, or not found where the scan cuts it off"
"""Reason of a structure that nobody could judge, and that nobody expects."""
PREDICTED, LOWER = "predicted_dice", "predicted_dice_lower"

Flag = Literal["ok", "inaccurate", "failed", "unknown"]


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


def judge(
    calibration: Calibration, structure: str, doubt: float | None, status: str = "ok"
) -> Judgement:
    """Say how good a structure probably is.

    Args:
        calibration: made with cases of the same method.
        structure: canonical name, without side.
        doubt: its value of :attr:`Calibration.metric`; None where there is none.
        status: of that row. ``absent_prediction`` is failed; ``truncated`` is judged with a remark.
    """
    if status == "absent_prediction":
        return Judgement(None, None, "failed", "not found")
    if doubt is None:
        why = OUTSIDE if status == "truncated" else "no doubt was measured"
        return Judgement(None, None, "unknown", why)
    own = calibration.fit_of(structure)
    fit = own if own is not None and own.curve is not None else calibration.pooled
    if fit.curve is None:
        return Judgement(None, None, "unknown", "the calibration has no curve to judge by")
    remarks = _remarks(own, fit, status)
    assert fit.doubt_range is not None  # goes with a curve
    least = max(doubt, fit.doubt_range[0])  # nobody has seen how much better less doubt is
    predicted = fit.curve.predict(least)
    lower = _lower(calibration, fit, least, predicted)
    if lower is None:
        remarks.append(
            f"no lower bound: it needs {patients_needed(calibration.coverage)} calibration patients"
        )
    flag, reason = _flag(fit, _thresholds(calibration, own), predicted, doubt)
    return Judgement(predicted, lower, flag, "; ".join([reason, *remarks]))


def _thresholds(calibration: Calibration, own: Fit | None) -> Thresholds | None:
    enough = own is not None and own.pairs >= MIN_PAIRS
    return own.dice if own is not None and enough else calibration.pooled.dice


def _lower(calibration: Calibration, fit: Fit, doubt: float, predicted: float) -> float | None:
    """Find the structure's own bound, else that of all structures; never above the prediction."""
    own = lower_bound(doubt, fit.left_out, calibration.coverage)
    bound = (
        lower_bound(doubt, calibration.pooled.left_out, calibration.coverage)
        if own is None
        else own
    )
    return None if bound is None else min(bound, predicted)


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


def _flag(fit: Fit, limits: Thresholds | None, predicted: float, doubt: float) -> tuple[Flag, str]:
    """Compare the prediction with the thresholds, as far as the curve can be believed."""
    assert fit.curve is not None
    if limits is None:
        return "unknown", "its Dice was the same in most calibration cases: there is no threshold"
    if not fit.curve.falls:
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
    if predicted < POOR:
        usual = "as good as usual, but not good"
        return "inaccurate", f"predicted Dice below {POOR:.2f}: {usual}{note}"
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
        judged = judge(calibration, row.structure, row.value, row.status)
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


def scan_in_question(flags: Iterable[FlagRow]) -> str | None:
    """Say what to look at where nearly everything failed: no single structure is the reason then.

    Args:
        flags: of one case; sides count each, what is not in view does not count.

    Returns:
        One sentence, or None where no more than :data:`NEARLY_ALL` of at least :data:`AT_LEAST` rows
        failed.
    """
    judged = [row.flag for row in flags if row.reason != OUTSIDE]
    failed = judged.count("failed")
    if len(judged) < AT_LEAST or failed <= NEARLY_ALL * len(judged):
        return None
    return (
        f"{failed} of {len(judged)} structures are probably wrong: look in the preview whether front, "
        "back, right and left are where the letters say, and whether it is a hip or thigh at all"
    )

"""The rows of one case as a reader wants them: one line a structure and side, most doubtful first."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mskt.core.records import Record
from mskt.report.flagged import WORST_FIRST
from mskt.report.outputs import own_sides
from mskt.report.outputs import statistics as case_statistics

if TYPE_CHECKING:
    from mskt.analysis.flags import FlagRow

FIRST_LOOKS = 3
_DOUBTFUL = 1.5
_QUANTITIES = ("volume", "mean_hu", "fat_fraction", "uncertainty", "dice")


@dataclass(frozen=True)
class Line:
    """One structure and side.

    Attributes:
        volume_cm3, mean_hu, fat_percent, uncertainty, dice: None where there is no value.
        ratio: uncertainty over the median of all structures of the case.
        flags: what a reader should know of it, in words.
        predicted, lower: Dice that a calibration predicts, and its lower bound; None where there is
            none.
        judged: flag of the calibration; empty without one.
    """

    structure: str
    side: str
    volume_cm3: float | None
    mean_hu: float | None
    fat_percent: float | None
    uncertainty: float | None
    dice: float | None
    ratio: float | None
    status: str
    flags: tuple[str, ...]
    predicted: float | None = None
    lower: float | None = None
    judged: str = ""


def lines(records: Sequence[Record], judged: Sequence[FlagRow] = ()) -> list[Line]:
    """All structures of one case, those with the highest relative uncertainty first.

    Args:
        records: of the case.
        judged: what a calibration says of them. Failed structures then come first, next inaccurate
            and unknown ones; among those of a kind the order is that of the uncertainty.
    """
    table: dict[tuple[str, str], dict[str, Record]] = {}
    for record in own_sides(records):
        if record.metric in _QUANTITIES:
            table.setdefault((record.structure, record.side), {})[record.metric] = record
    known = [u for row in table.values() if (u := _value(row, "uncertainty")) is not None]
    middle = statistics.median(known) if known else 0.0
    found = [_line(key, row, middle) for key, row in table.items()]
    # Stable: structures without a value keep the order of the label set, at the end.
    found.sort(key=lambda line: -1.0 if line.ratio is None else line.ratio, reverse=True)
    marked = [_marked(line, place) for place, line in enumerate(found)]
    by_key = {(row.structure, row.side): row for row in judged}
    told = [_judged(line, by_key.get((line.structure, line.side))) for line in marked]
    ranks = {flag: rank for rank, flag in enumerate(WORST_FIRST)}
    return sorted(told, key=lambda line: ranks.get(line.judged, len(ranks)))


def _judged(line: Line, row: FlagRow | None) -> Line:
    """Add what a calibration says; the flag comes first among the remarks, ``ok`` is none."""
    if row is None:
        return line
    words = (row.flag, *line.flags) if row.flag in WORST_FIRST else line.flags
    return replace(
        line, predicted=row.predicted_dice, lower=row.lower_bound, judged=row.flag, flags=words
    )


def _value(row: Mapping[str, Record], metric: str) -> float | None:
    return row[metric].value if metric in row else None


def _line(key: tuple[str, str], row: Mapping[str, Record], middle: float) -> Line:
    fat, doubt = _value(row, "fat_fraction"), _value(row, "uncertainty")
    described = row.get("volume") or next(iter(row.values()))
    return Line(
        *key,
        _value(row, "volume"),
        _value(row, "mean_hu"),
        None if fat is None else 100 * fat,
        doubt,
        _value(row, "dice"),
        doubt / middle if doubt is not None and middle > 0 else None,
        described.status,
        (),
    )


def _marked(line: Line, place: int) -> Line:
    flags = []
    if line.status == "truncated":
        flags.append("cut by the field of view")
    elif line.status == "absent_prediction":
        flags.append("not found")
    if place < FIRST_LOOKS and line.ratio is not None and line.ratio >= _DOUBTFUL:
        flags.append("look here first")
    return replace(line, flags=tuple(flags))


def as_json(
    out: Path,
    done: Mapping[str, Sequence[Record]],
    failed: Mapping[str, str],
    skipped: Sequence[str],
    *,
    flags: Mapping[str, Sequence[FlagRow]],
    calibration: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What ``mskt run --json`` prints.

    Args:
        out: folder of the run.
        done: rows of each case.
        failed: reasons by case.
        skipped: cases that were done before.
        flags: by case; told only if there is a calibration.
        calibration: what it is; None without one.
    """

    def told(case_id: str) -> dict[str, Any]:
        return {} if calibration is None else {"flags": [asdict(row) for row in flags[case_id]]}

    return {
        "out": str(out),
        **({} if calibration is None else {"calibration": calibration}),
        "cases": [
            *(
                {
                    "case_id": case_id,
                    "status": "done",
                    "statistics": case_statistics(records),
                    **told(case_id),
                }
                for case_id, records in done.items()
            ),
            *({"case_id": case_id, "status": "done earlier"} for case_id in skipped),
            *(
                {"case_id": case_id, "status": "failed", "reason": reason}
                for case_id, reason in failed.items()
            ),
        ],
    }

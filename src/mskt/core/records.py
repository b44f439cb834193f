"""The one results table: every run, evaluation and benchmark writes these columns and no others.

A value that does not exist is empty and has a status that says why; it is never 0, 1, inf or -1 by
convention.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from mskt.core.errors import InputError

Status = Literal[
    "ok",
    "absent_reference",
    "absent_prediction",
    "absent_both",
    "truncated",
    "not_in_label_set",
    "no_reference",
    "undefined",
]
STATUSES: tuple[str, ...] = get_args(Status)
SIDES = ("left", "right", "both")
SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Record:
    """One row: one metric of one structure and side of one case.

    Attributes:
        value: the number, or None where there is none; ``status`` then says why.
        unit: ``1``, ``mm``, ``cm3``, ``cm3/m2``, ``HU``, ``%`` or the estimator's.
    """

    case_id: str
    dataset: str
    segmenter: str
    uncertainty: str
    run_id: str
    structure: str
    side: str
    metric: str
    value: float | None
    unit: str
    status: str

    def __post_init__(self) -> None:
        """Hold the schema: known side and status, and a missing value is None, not NaN or inf."""
        if self.status not in STATUSES:
            raise ValueError(f"status {self.status!r} is not one of {STATUSES}")
        if self.side not in SIDES:
            raise ValueError(f"side {self.side!r} is not one of {SIDES}")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(
                f"{self.metric} of {self.structure}: {self.value} is no value; use None"
            )


COLUMNS: tuple[str, ...] = tuple(field.name for field in fields(Record))


def to_csv(records: Iterable[Record]) -> str:
    """The table as text: header, one line a record, Unix line ends, 9 significant digits.

    The same records give the same bytes on every machine.
    """
    out = io.StringIO()
    plain = csv.writer(out, lineterminator="\n")
    # Before Python 3.13 csv forgets to quote a carriage return (a case named after a strange file).
    quoting = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    plain.writerow(COLUMNS)
    for record in records:
        row = [getattr(record, column) for column in COLUMNS]
        row[COLUMNS.index("value")] = "" if record.value is None else format(record.value, ".9g")
        writer = quoting if any("\r" in cell for cell in row) else plain
        writer.writerow(row)
    return out.getvalue()


def read_csv(path: Path) -> list[Record]:
    """Read a table written by :func:`to_csv`.

    Raises:
        InputError: the file is no text, columns are missing, or a value is no number.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            path.name,
            f"cannot be read as a results table ({type(error).__name__})",
            "Give a results.csv that mskt wrote.",
        ) from error
    with io.StringIO(text, newline="") as file:
        reader = csv.DictReader(file)
        missing = [column for column in COLUMNS if column not in (reader.fieldnames or [])]
        if missing:
            raise InputError(
                path.name,
                f"lacks the columns {', '.join(missing)}",
                f"A results table has the columns {', '.join(COLUMNS)}.",
            )
        try:
            return [_record(row) for row in reader]
        except ValueError as error:
            raise InputError(
                path.name, f"line {reader.line_num}: {error}", "Restore the file as mskt wrote it."
            ) from error


def _record(row: dict[str, str]) -> Record:
    value = float(row["value"]) if row["value"] else None
    return Record(**{**{column: row[column] for column in COLUMNS}, "value": value})  # type: ignore[arg-type]


def sort_key(record: Record) -> Sequence[str]:
    """Order of rows that does not depend on the order of computation: cases by name."""
    return (record.case_id, record.segmenter, record.uncertainty)

"""The one results table: every run, evaluation and benchmark writes these columns and no others.

A value that does not exist is empty and has a status that says why; it is never 0, 1, inf or -1 by
convention.
"""

from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

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


def read_csv(path: Path, metrics: Container[str] | None = None) -> list[Record]:
    """Read a table written by :func:`to_csv`.

    Args:
        path: of the table.
        metrics: rows of others are passed over; all rows without it. Tables of thousands of cases
            have millions of rows, of which most readers need a few.

    Raises:
        InputError: the file is no text, columns are missing, or a value is no number.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(_records(file, path.name, metrics))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            path.name,
            f"cannot be read as a results table ({type(error).__name__})",
            "Give a results.csv that mskt wrote.",
        ) from error


def _records(lines: Iterable[str], name: str, metrics: Container[str] | None) -> Iterator[Record]:
    reader = csv.reader(lines)
    header = next(reader, [])
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        raise InputError(
            name,
            f"lacks the columns {', '.join(missing)}",
            f"A results table has the columns {', '.join(COLUMNS)}.",
        )
    places = [header.index(column) for column in COLUMNS]
    metric, value = header.index("metric"), COLUMNS.index("value")
    for row in reader:
        if not row:
            continue
        try:
            if metrics is not None and row[metric] not in metrics:
                continue
            # The same few words stand in every row: kept once, they take a fifth of the memory.
            cells: list[Any] = [sys.intern(row[place]) for place in places]
            cells[value] = float(cells[value]) if cells[value] else None
            yield Record(*cells)
        except (ValueError, IndexError) as error:
            reason = "cells are missing" if isinstance(error, IndexError) else error
            raise InputError(
                name, f"line {reader.line_num}: {reason}", "Restore the file as mskt wrote it."
            ) from error


def sort_key(record: Record) -> Sequence[str]:
    """Order of rows that does not depend on the order of computation: cases by name."""
    return (record.case_id, record.segmenter, record.uncertainty)

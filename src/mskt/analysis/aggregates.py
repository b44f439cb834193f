"""Results of many cases put together: how many values went in, how many did not, and why."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from mskt.core.records import STATUSES, Record
from mskt.core.volume import Grid

MISSING = tuple(status for status in STATUSES if status not in ("ok", "truncated"))
COLUMNS = (
    "structure",
    "side",
    "metric",
    "unit",
    "cases",
    "defined",
    "truncated",
    *MISSING,
    "mean",
    "sd",
    "median",
    "mean_misses_as_diagonal",
)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One metric of one structure and side over all cases.

    Attributes:
        cases, defined: rows there are, rows with a value.
        statuses: number of rows of each status but ``ok``.
        mean, sd, median: over the defined values; sd with n − 1; None where undefined.
        mean_misses_as_diagonal: of distances: the mean in which a structure that the prediction
            missed counts as the diagonal of its image. None for other metrics.
    """

    structure: str
    side: str
    metric: str
    unit: str
    cases: int
    defined: int
    statuses: Mapping[str, int]
    mean: float | None
    sd: float | None
    median: float | None
    mean_misses_as_diagonal: float | None


def diagonal_mm(grid: Grid) -> float:
    """Measure the diagonal of an image: no distance inside it is longer."""
    return float(np.linalg.norm(np.asarray(grid.shape) * np.asarray(grid.spacing_mm)))


def aggregate(records: Iterable[Record], diagonals_mm: Mapping[str, float]) -> list[Aggregate]:
    """Aggregate the rows of many cases by structure, side and metric, in order of appearance.

    Args:
        records: of any number of cases.
        diagonals_mm: image diagonal of each case (:func:`diagonal_mm`), for distances.
    """
    groups: dict[tuple[str, str, str, str], list[Record]] = {}
    for record in records:
        key = (record.structure, record.side, record.metric, record.unit)
        groups.setdefault(key, []).append(record)
    return [_aggregate(key, rows, diagonals_mm) for key, rows in groups.items()]


def _aggregate(
    key: tuple[str, str, str, str], rows: list[Record], diagonals_mm: Mapping[str, float]
) -> Aggregate:
    values = [row.value for row in rows if row.value is not None]
    statuses = Counter(row.status for row in rows if row.status != "ok")
    missed = [
        diagonals_mm.get(row.case_id)
        for row in rows
        if row.value is None and row.status == "absent_prediction"
    ]
    penalised = None
    if key[3] == "mm" and None not in missed and values + missed:
        penalised = statistics.fmean([*values, *(d for d in missed if d is not None)])
    return Aggregate(
        *key,
        len(rows),
        len(values),
        statuses,
        statistics.fmean(values) if values else None,
        statistics.stdev(values) if len(values) > 1 else None,
        statistics.median(values) if values else None,
        penalised,
    )


def to_tsv(aggregates: Iterable[Aggregate]) -> str:
    """Write the table as text: tab-separated, 9 significant digits, empty where undefined."""
    lines = ["\t".join(COLUMNS)]
    for row in aggregates:
        cells = [
            getattr(row, name) if name not in STATUSES else row.statuses.get(name, 0)
            for name in COLUMNS
        ]
        lines.append("\t".join(_cell(cell) for cell in cells))
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    if value is None:
        return ""
    return format(value, ".9g") if isinstance(value, float) else str(value)

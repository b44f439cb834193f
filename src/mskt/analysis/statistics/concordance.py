"""Agreement structure by structure: measured against reference, or left against right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mskt.analysis.statistics.agreement import Agreement, agreement
from mskt.analysis.statistics.comparison import nothing_left
from mskt.analysis.statistics.methods import (
    ALL,
    Method,
    Pairing,
    SideChoice,
    pair,
    patient_pairs,
)
from mskt.core.errors import InputError
from mskt.core.records import Record

IMPLIED = "reference (from ravd)"


@dataclass(frozen=True, slots=True)
class Line:
    """Agreement of one structure, one value a patient.

    Attributes:
        structure: a name, or :data:`~mskt.analysis.statistics.methods.ALL`, the patients' means.
        rows: structures and sides that went into the patients' values.
        result: unit of bias, limits and mae as in the tables.
    """

    measured: str
    reference: str
    structure: str
    rows: int
    result: Agreement


@dataclass(frozen=True)
class Concordance:
    """What came of it; lines by method, of each the structures and last all of them."""

    metric: str
    unit: str
    lines: tuple[Line, ...]
    pairings: tuple[Pairing, ...]


def concordance(
    measured: Sequence[Method],
    reference: Sequence[Method],
    metric: str,
    *,
    side: SideChoice = "mean",
    truncated: bool = False,
    draws: int = 1000,
    seed: int = 0,
) -> Concordance:
    """Hold each method against its reference.

    Args:
        measured: one or more.
        reference: one of each of them.
        metric: its name for the table.
        side: as in :func:`~mskt.analysis.statistics.methods.pair`.
        truncated: count structures cut by the field of view too.
        draws: of each bootstrap.
        seed: the same seed gives the same intervals.

    Raises:
        InputError: units differ, or different data sets have cases of one name.
    """
    lines, pairings = [], []
    for one, other in zip(measured, reference, strict=True):
        pairing = pair(one, other, side=side, truncated=truncated)
        pairings.append(pairing)
        for structure in (*pairing.structures, ALL):
            rows = sum(structure in (ALL, name) for name in pairing.structure)
            result = agreement(*patient_pairs(pairing, structure), draws=draws, seed=seed)
            if not rows:
                result = replace(result, reason=nothing_left(pairing, structure))
            lines.append(Line(one.name, other.name, structure, rows, result))
    return Concordance(metric, measured[0].unit, tuple(lines), tuple(pairings))


def left_and_right(method: Method) -> tuple[Method, Method]:
    """The two sides of one method, as two methods whose rows are of the whole structure.

    Raises:
        InputError: no structure has rows for both sides.
    """
    left, right = (
        replace(
            method,
            name=side,
            rows={
                (key[0], key[1], "both"): row for key, row in method.rows.items() if key[2] == side
            },
        )
        for side in ("left", "right")
    )
    if not left.rows.keys() & right.rows.keys():
        raise InputError(method.name, "has no structure with rows for left and right", "")
    return left, right


def implied_reference(method: Method, records: Sequence[Record]) -> Method:
    """Reference volumes out of ``volume`` and ``ravd`` = 100·(V − V_reference)/V_reference.

    Args:
        method: its volumes.
        records: the rows of the same method, ``ravd`` among them.

    Raises:
        InputError: no volume has a ``ravd`` beside it: the cases had no reference labels.
    """
    errors = {
        (row.case_id, row.structure, row.side): row.value
        for row in records
        if row.metric == "ravd"
        and row.value is not None
        and row.value > -100
        and (row.segmenter, row.uncertainty, row.run_id) in _keys_of(method)
    }
    rows = {key: _implied(row, errors.get(key)) for key, row in method.rows.items()}
    if all(row.value is None for row in rows.values()):
        raise InputError(
            method.name,
            "has no volumes with a reference: no row of ravd stands beside them",
            "Give the reference values with --reference.",
        )
    return replace(method, name=IMPLIED, rows=rows)


def _implied(row: Record, error: float | None) -> Record:
    """The reference's row; what the measured one lacks, this one lacks for the same reason."""
    if row.value is None:
        return row
    if error is None:
        return replace(row, value=None, status="no_reference")
    return replace(row, value=row.value / (1 + error / 100))


def _keys_of(method: Method) -> set[tuple[str, str, str]]:
    return {(row.segmenter, row.uncertainty, row.run_id) for row in method.rows.values()}

"""Out of results tables: the methods in them, and what two methods say of the same structures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, get_args

import numpy as np

from mskt.analysis.pairs import patient_of
from mskt.analysis.statistics.figure import Floats
from mskt.core.errors import InputError, UsageError
from mskt.core.records import Record

Key = tuple[str, str, str]
"""(case, structure, side)."""
SideChoice = Literal["mean", "left", "right", "both"]
SIDE_CHOICES: tuple[str, ...] = get_args(SideChoice)
MISSED = "absent_prediction"
ALL = "all structures"


@dataclass(frozen=True)
class Method:
    """One metric by one method.

    Attributes:
        name: tells it from the others in the same call.
        rows: by case, structure and side; those without a value included.
        unit: of the metric.
        synthetic: cases that are phantoms and no patients.
    """

    name: str
    rows: Mapping[Key, Record]
    unit: str
    synthetic: frozenset[str]

    @property
    def cases(self) -> tuple[str, ...]:
        """Names in order of appearance."""
        return tuple(dict.fromkeys(case for case, _, _ in self.rows))


def methods_of(
    tables: Sequence[tuple[str, Sequence[Record]]],
    metric: str,
    dataset_mark: str = "",
    *,
    by_table: bool = False,
) -> list[Method]:
    """Tell the methods of tables apart.

    A table holds one method for each segmenter and uncertainty in it; one for each run, where a case
    occurs more than once under the same two names. Tables of the same name belong together (the
    folds of a cross-validation).

    Args:
        tables: name and rows of each.
        metric: of which rows are taken.
        dataset_mark: what ``dataset`` says of cases that are phantoms.
        by_table: call methods by their tables, not by segmenter and uncertainty, where that does.

    Raises:
        UsageError: no table has the metric; similar names are suggested.
        InputError: a case occurs twice in the same run, or its unit changes.
    """
    joined: dict[str, list[Record]] = {}
    for name, records in tables:
        joined.setdefault(name, []).extend(records)
    check_metric([row for rows in joined.values() for row in rows], metric)
    groups: dict[tuple[str, ...], list[Record]] = {}
    for name, records in joined.items():
        rows = [row for row in records if row.metric == metric]
        if not rows:
            raise UsageError(name, f"has no row of {metric}.", "Compare what all tables have.")
        for (segmenter, uncertainty), part in _split(rows).items():
            for run, own in _runs(part).items():
                groups[name, segmenter, uncertainty, run] = own
    names = _names(list(groups), by_table)
    return [
        _method(name, rows, dataset_mark) for name, rows in zip(names, groups.values(), strict=True)
    ]


def check_metric(records: Iterable[Record], metric: str) -> None:
    """Refuse a metric that no row has a value of, with names that are like it."""
    there = Counter(row.metric for row in records if row.value is not None)
    if metric in there:
        return
    near = get_close_matches(metric, there, n=3, cutoff=0.5) or sorted(there)
    raise UsageError(
        "--metric",
        f"no row of the results has a value of {metric!r}.",
        f"Did you mean {' or '.join(near)}?" if near else "The tables have no values at all.",
    )


def _split(rows: Iterable[Record]) -> dict[tuple[str, str], list[Record]]:
    found: dict[tuple[str, str], list[Record]] = {}
    for row in rows:
        found.setdefault((row.segmenter, row.uncertainty), []).append(row)
    return found


def _runs(rows: list[Record]) -> dict[str, list[Record]]:
    """All rows as one method if no case comes twice, else by run."""
    keys = Counter(_key(row) for row in rows)
    if max(keys.values()) == 1:
        return {"": rows}
    found: dict[str, list[Record]] = {}
    for row in rows:
        found.setdefault(row.run_id, []).append(row)
    return found


def _key(row: Record) -> Key:
    return row.case_id, row.structure, row.side


def _names(parts: Sequence[tuple[str, ...]], by_table: bool) -> list[str]:
    """Name methods by what differs between them; the segmenter where nothing does."""
    if len(parts) == 1:
        return [parts[0][1] or parts[0][0]]
    columns = [c for c in zip(*parts, strict=True)]
    # Segmenter and uncertainty are said first, and the table only where they do not tell all apart.
    first = ((0,),) if by_table else ()
    for chosen in (*first, (1,), (1, 2), (0,), (0, 1), (0, 1, 2), (0, 1, 2, 3)):
        told = [tuple(part[k] for k in chosen) for part in parts]
        if len(set(told)) == len(parts) and all(any(t) for t in told):
            used = [k for k in chosen if len(set(columns[k])) > 1]
            return ["/".join(part[k] for k in used if part[k]) for part in parts]
    raise AssertionError("keys of a dictionary differ")


def _method(name: str, records: Sequence[Record], mark: str) -> Method:
    rows: dict[Key, Record] = {}
    for row in records:
        key = _key(row)
        if key in rows:
            raise InputError(
                f"case {row.case_id!r}",
                f"has two rows of {row.metric} for {row.structure} ({row.side}) in {name}",
                "A case counts once: give each table once, and cases of different patients "
                "different names.",
            )
        rows[key] = row
    units = sorted({row.unit for row in records if row.value is not None})
    if len(units) > 1:
        raise InputError(name, f"has {records[0].metric} in {' and '.join(units)}", "")
    phantoms = frozenset(row.case_id for row in records if mark and row.dataset == mark)
    return Method(name, rows, units[0] if units else "", phantoms)


@dataclass(frozen=True)
class Pairing:
    """What two methods say of the same structures, one row a case, structure and side.

    Attributes:
        first, second: names of the methods.
        patient, structure: of each row.
        x, y: values of the two, shape (rows,).
        only_first, only_second: cases that the other method has not.
        structures: that both methods know, in order of appearance, also those that no row is left of.
        excluded: rows that at least one method has no usable value of, by structure and status.
        missed_first, missed_second: structures that were not found by the one or by the other, whether
            they could be counted (``dice`` 0) or not (a distance).
        lone_rows: rows of common cases that only one of the two has.
        synthetic: cases among the rows that are phantoms.
        cases: among the rows.
    """

    first: str
    second: str
    patient: tuple[str, ...]
    structure: tuple[str, ...]
    x: Floats
    y: Floats
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    structures: tuple[str, ...]
    excluded: Mapping[tuple[str, str], int]
    missed_first: int
    missed_second: int
    lone_rows: int
    synthetic: int
    cases: int

    def left_out(self, structure: str = ALL) -> dict[str, int]:
        """Rows that do not count, by status."""
        found: Counter[str] = Counter()
        for (name, status), count in self.excluded.items():
            if structure in (ALL, name):
                found[status] += count
        return dict(found)


def pair(
    first: Method, second: Method, *, side: SideChoice = "mean", truncated: bool = False
) -> Pairing:
    """Put the values of two methods for the same case, structure and side together.

    A row counts if both have a value and neither is ``truncated``; a missed structure counts where
    its value is defined (``dice`` 0).

    Args:
        first: one method.
        second: another.
        side: ``mean`` takes left and right where both methods have them, else the whole structure;
            any other takes rows of that side only.
        truncated: count structures cut by the field of view too.

    Raises:
        InputError: units differ, or the same case is of two data sets.
    """
    _check_same(first, second)
    keys = _common_keys(first.rows, second.rows, side)
    excluded: Counter[tuple[str, str]] = Counter()
    kept = []
    for key in keys:
        one, other = first.rows[key], second.rows[key]
        why = _unusable(one, truncated) or _unusable(other, truncated)
        if why:
            excluded[key[1], why] += 1
        else:
            kept.append((key, one.value, other.value))
    mine, yours = set(first.cases), set(second.cases)
    cases = {key[0] for key, _, _ in kept}
    return Pairing(
        first.name,
        second.name,
        tuple(patient_of(key[0]) for key, _, _ in kept),
        tuple(key[1] for key, _, _ in kept),
        np.array([x for _, x, _ in kept], np.float64),
        np.array([y for _, _, y in kept], np.float64),
        tuple(case for case in first.cases if case not in yours),
        tuple(case for case in second.cases if case not in mine),
        tuple(dict.fromkeys(key[1] for key in keys)),
        excluded,
        sum(first.rows[key].status == MISSED for key in keys),
        sum(second.rows[key].status == MISSED for key in keys),
        _lone(first.rows, second.rows, mine & yours, side),
        len(cases & (first.synthetic | second.synthetic)),
        len(cases),
    )


def _check_same(first: Method, second: Method) -> None:
    if first.unit and second.unit and first.unit != second.unit:
        raise InputError(
            f"{first.name} and {second.name}",
            f"have different units: {first.unit} and {second.unit}",
            "Numbers of different units are not compared.",
        )
    sets = {key[0]: row.dataset for key, row in first.rows.items()}
    for key, row in second.rows.items():
        mine = sets.get(key[0], "")
        if mine and row.dataset and mine != row.dataset:
            raise InputError(
                f"case {key[0]!r}",
                f"is of {mine!r} in {first.name} and of {row.dataset!r} in {second.name}",
                "Give cases of different patients different names.",
            )


def _common_keys(
    first: Mapping[Key, Record], second: Mapping[Key, Record], side: SideChoice
) -> list[Key]:
    common = [key for key in first if key in second]
    if side != "mean":
        return [key for key in common if key[2] == side]
    sided = {key[:2] for key in common if key[2] != "both"}
    return [key for key in common if key[2] != "both" or key[:2] not in sided]


def _lone(
    first: Mapping[Key, Record], second: Mapping[Key, Record], cases: set[str], side: SideChoice
) -> int:
    """Structures of common cases that one of the two does not know at all."""
    names = [
        {key[:2] for key in rows if key[0] in cases and side in ("mean", key[2])}
        for rows in (first, second)
    ]
    return len(names[0] ^ names[1])


def _unusable(row: Record, truncated: bool) -> str:
    """Why a row does not count; empty if it does."""
    if row.status == "truncated" and not truncated:
        return row.status
    if row.value is None:
        return row.status if row.status != "ok" else "undefined"
    usable = row.status in ("ok", "truncated", MISSED)
    return "" if usable else row.status


def patient_means(
    patients: Sequence[str], structures: Sequence[str], values: Floats, wanted: str = ALL
) -> dict[str, float]:
    """One value a patient.

    Args:
        patients: of each row.
        structures: of each row.
        values: shape (rows,).
        wanted: a structure: mean over its sides and the patient's cases; :data:`ALL`: the mean of
            these means over the patient's structures, each counting once.

    Returns:
        By patient, in the order of their names.
    """
    rows: dict[str, dict[str, list[int]]] = {}
    for number, (patient, name) in enumerate(zip(patients, structures, strict=True)):
        if wanted in (ALL, name):
            rows.setdefault(patient, {}).setdefault(name, []).append(number)
    return {
        patient: float(np.mean([values[own].mean() for own in rows[patient].values()]))
        for patient in sorted(rows)
    }


def patient_pairs(pairing: Pairing, structure: str = ALL) -> tuple[Floats, Floats]:
    """One value a patient of either method, as :func:`patient_means`; shape (patients,) each."""
    columns = [
        patient_means(pairing.patient, pairing.structure, values, structure)
        for values in (pairing.x, pairing.y)
    ]
    first, second = (np.array(list(column.values()), np.float64) for column in columns)
    return first, second

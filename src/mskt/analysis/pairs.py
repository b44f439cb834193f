"""Dice and doubt of the same structure, out of results tables with references."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from mskt.core.errors import InputError, UsageError
from mskt.core.records import Record, to_csv

DICE, DOUBT = "dice", "uncertainty"
_BIDS = re.compile(r"sub-[A-Za-z0-9]+")


@dataclass(frozen=True)
class Pairs:
    """One row for each structure and side of each case that has a Dice.

    Attributes:
        patient: whose; names of cases ``sub-X_…`` are one patient's, any other case is its own.
        dice: in [0, 1]; 0 for a structure that was missed.
        doubt: NaN for a structure that was missed: there is nothing to be uncertain about.
        without_doubt: rows with a Dice above which no doubt stood though the structure was found;
            they are not among the pairs.
        sha256: of the rows of the tables that went in, in an order of their own.
    """

    case_id: NDArray[np.str_]
    patient: NDArray[np.str_]
    structure: NDArray[np.str_]
    side: NDArray[np.str_]
    dice: NDArray[np.float64]
    doubt: NDArray[np.float64]
    without_doubt: int
    sha256: str

    def __len__(self) -> int:
        """Rows, missed structures included."""
        return len(self.dice)

    @property
    def found(self) -> NDArray[np.bool_]:
        """Rows with a doubt."""
        return np.isfinite(self.doubt)

    @property
    def structures(self) -> tuple[str, ...]:
        """Names in order of appearance in the tables."""
        return tuple(dict.fromkeys(map(str, self.structure)))

    def where(self, rows: NDArray[np.bool_]) -> Pairs:
        """Only the rows chosen by a mask."""
        names = ("case_id", "patient", "structure", "side", "dice", "doubt")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})


def patient_of(case_id: str) -> str:
    """Whose case it is: ``sub-07`` for ``sub-07_ses-2_ct`` (BIDS), else the case itself."""
    match = _BIDS.match(case_id)
    return match.group() if match else case_id


def own_sides(records: Iterable[Record]) -> list[Record]:
    """Leave out rows of ``both`` where the structure has rows for left or right in that case."""
    rows = list(records)
    sided = {(row.case_id, row.structure) for row in rows if row.side != "both"}
    return [r for r in rows if r.side != "both" or (r.case_id, r.structure) not in sided]


def pairs_of(records: Sequence[Record], metric: str = DOUBT) -> Pairs:
    """Put Dice and doubt of each case, structure and side together.

    Args:
        records: tables of runs with references; any metrics.
        metric: the doubt, larger where less certain.

    Raises:
        InputError: there is no Dice, or two rows speak of the same structure of the same case.
        UsageError: no row has that metric; similar names are suggested.
    """
    _check_metric(records, metric)
    dice, doubts = (_values(records, name) for name in (DICE, metric))
    if not dice:
        raise InputError(
            "results",
            "have no Dice: the cases had no reference labels, or none of the same structures",
            "Run the cases with reference labels beside them (see docs/inputs.md), then calibrate.",
        )
    kept, used, without = [], [], 0
    for key, row in dice.items():
        doubt = doubts.get(key)
        missed = row.status == "absent_prediction"
        if not missed and (doubt is None or doubt.value is None):
            without += 1
            continue
        value = None if missed or doubt is None else doubt.value
        kept.append((*key, row.value, np.nan if value is None else value))
        used += [row] if doubt is None else [row, doubt]
    columns = list(zip(*kept, strict=True)) if kept else [()] * 5
    case_id, structure, side = (np.array(column, np.str_) for column in columns[:3])
    patient = np.array([patient_of(str(name)) for name in case_id], np.str_)
    value_of, doubt_of = (np.array(column, np.float64) for column in columns[3:])
    return Pairs(case_id, patient, structure, side, value_of, doubt_of, without, _sha256(used))


def _values(records: Sequence[Record], metric: str) -> dict[tuple[str, str, str], Record]:
    """Rows of one metric by case, structure and side; of Dice those only that have a value."""
    rows = own_sides(r for r in records if r.metric == metric)
    if metric == DICE:
        rows = [row for row in rows if row.value is not None]
    found: dict[tuple[str, str, str], Record] = {}
    for row in rows:
        key = (row.case_id, row.structure, row.side)
        if key in found:
            raise InputError(
                f"case {row.case_id!r}",
                f"has two rows of {metric} for {row.structure} ({row.side})",
                "A case counts once: give each results folder once, and give cases of different "
                "patients different names.",
            )
        found[key] = row
    return found


def _check_metric(records: Iterable[Record], metric: str) -> None:
    there = Counter(row.metric for row in records if row.value is not None)
    if metric in there or not there:
        return
    doubts = [name for name in there if name.split(":")[0] == DOUBT]
    near = get_close_matches(metric, doubts, n=3, cutoff=0.5) or doubts
    raise UsageError(
        "--metric",
        f"no row of the results is called {metric!r}.",
        f"Did you mean {' or '.join(near)}?" if near else "The runs wrote no uncertainty.",
    )


def _sha256(rows: Iterable[Record]) -> str:
    """Checksum of rows that does not depend on the order of tables, folders or cases."""
    ordered = sorted(rows, key=lambda r: (r.case_id, r.structure, r.side, r.metric, r.run_id))
    return hashlib.sha256(to_csv(ordered).encode()).hexdigest()

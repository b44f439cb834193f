"""All pairs of methods, structure by structure, with one correction for all tests that were done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from mskt.analysis.statistics.correction import Correction, adjust
from mskt.analysis.statistics.methods import (
    ALL,
    Method,
    Pairing,
    SideChoice,
    pair,
    patient_pairs,
)
from mskt.analysis.statistics.paired import Paired, paired


@dataclass(frozen=True, slots=True)
class Line:
    """One comparison of two methods.

    Attributes:
        structure: a name, or :data:`~mskt.analysis.statistics.methods.ALL`, the patients' means.
        rows: structures and sides that went into the patients' values.
        result: of one value a patient.
        p_adjusted: for all tests of the table; None where there was no test.
    """

    first: str
    second: str
    structure: str
    rows: int
    result: Paired
    p_adjusted: float | None


@dataclass(frozen=True)
class Comparison:
    """What came of comparing methods.

    Attributes:
        tests: done, the number that the correction counts.
        lines: pairs of methods in order, of each the structures and last all of them.
        pairings: of each pair of methods, what went in and what did not.
    """

    metric: str
    unit: str
    correction: Correction
    tests: int
    lines: tuple[Line, ...]
    pairings: tuple[Pairing, ...]


def compare(
    methods: Sequence[Method],
    metric: str,
    *,
    by_structure: bool = False,
    correction: Correction = "holm",
    side: SideChoice = "mean",
    truncated: bool = False,
    draws: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare every pair of methods on the patients that both have.

    Args:
        methods: two or more.
        metric: their name for the table.
        by_structure: a line for each structure too, not only for the patients' means over all.
        correction: of the p values of all lines together.
        side: as in :func:`~mskt.analysis.statistics.methods.pair`.
        truncated: count structures cut by the field of view too.
        draws: of each bootstrap.
        seed: the same seed gives the same intervals.

    Raises:
        InputError: two methods have different units, or different data sets under one name.
    """
    pairings = [
        pair(one, other, side=side, truncated=truncated) for one, other in combinations(methods, 2)
    ]
    found = []
    for pairing in pairings:
        for structure in (*(pairing.structures if by_structure else ()), ALL):
            rows = sum(structure in (ALL, name) for name in pairing.structure)
            result = paired(*patient_pairs(pairing, structure), draws=draws, seed=seed)
            if not rows:
                result = replace(result, reason=nothing_left(pairing, structure))
            found.append((pairing, structure, rows, result))
    adjusted = adjust([result.p for *_, result in found], correction)
    lines = [
        Line(pairing.first, pairing.second, structure, rows, result, p)
        for (pairing, structure, rows, result), p in zip(found, adjusted, strict=True)
    ]
    tests = sum(p is not None for p in adjusted)
    return Comparison(metric, methods[0].unit, correction, tests, tuple(lines), tuple(pairings))


def nothing_left(pairing: Pairing, structure: str) -> str:
    """Say why no patient is left."""
    why = ", ".join(
        f"{count} {status.replace('_', ' ')}"
        for status, count in pairing.left_out(structure).items()
    )
    return f"no patients ({why or 'no case in common'})"

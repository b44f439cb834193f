"""Order methods by a metric on what all of them have, and say which differences are more than chance.

A method that fails in difficult cases must not look better for it. So methods are compared on the
cases, structures and sides of which each of them has a value, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mskt.analysis.failure import Interval, bootstrap
from mskt.analysis.statistics.correction import adjust
from mskt.analysis.statistics.methods import MISSED, Key, Method, pair, patient_means, patient_pairs
from mskt.analysis.statistics.paired import Paired, paired

LEAST_SHARE = 0.5
"""A method with values of fewer cases, counted in those of the fullest one, is not ranked."""
MARKS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))
BEST, NOT_SIGNIFICANT, NO_TEST = "best", "n.s.", "no test"
CUT = "truncated"
_SAME = 1e-12

Direction = Literal["higher", "lower"]


@dataclass(frozen=True)
class Place:
    """One method in the order.

    Attributes:
        rank: 1 for the best; equal means share a rank.
        mean: of the patients' values; ``interval`` of 95 %, by bootstrap over patients.
        by_patient: one value a patient: the mean over sides, then over structures.
        missed: rows among the compared that were not found.
        test: against the best, first minus second = this one minus the best; None for the best.
        p_adjusted: Holm, for the tests against the best; None where there is no test.
        mark: ``best``, ``*`` (p < 0.05), ``**`` (0.01), ``***`` (0.001), ``n.s.`` or ``no test``.
    """

    name: str
    rank: int
    mean: float
    interval: Interval
    by_patient: Mapping[str, float]
    missed: int
    test: Paired | None
    p_adjusted: float | None
    mark: str


@dataclass(frozen=True)
class Ranking:
    """Methods in their order.

    Attributes:
        places: best first; those that share a rank by name.
        cases, structures: that were compared, in order of appearance.
        rows: structures and sides of cases that were compared.
        tests: done, the number that the correction counts.
        left_out: methods that are not ranked, and why.
    """

    metric: str
    unit: str
    direction: Direction
    places: tuple[Place, ...]
    cases: tuple[str, ...]
    structures: tuple[str, ...]
    rows: int
    tests: int
    left_out: Mapping[str, str]

    def place(self, name: str) -> Place | None:
        """Where a method stands; None if it is not ranked."""
        return next((place for place in self.places if place.name == name), None)


def rank(
    methods: Sequence[Method],
    metric: str,
    direction: Direction,
    *,
    truncated: bool = False,
    draws: int = 1000,
    seed: int = 0,
) -> Ranking:
    """Compare methods on the rows of which all of them have a value.

    Each method is tested against the best (paired, one value a patient: :func:`paired`), with Holm's
    correction for the number of these tests.

    Args:
        methods: with different names.
        metric: their name for the table.
        direction: ``higher`` where more is better.
        truncated: count structures cut by the field of view too.
        draws: of each bootstrap.
        seed: the same seed gives the same intervals.
    """
    usable = {method.name: _usable(method, truncated) for method in methods}
    left_out = _too_few(usable, {method.name: _any_cut(method) for method in methods})
    kept = [method for method in methods if method.name not in left_out]
    shared = _shared(kept, usable, left_out)
    kept = [method for method in kept if method.name not in left_out]
    if not kept:
        return Ranking(metric, "", direction, (), (), (), 0, 0, left_out)
    same = [replace(method, rows={key: method.rows[key] for key in shared}) for method in kept]
    pairing = pair(same[0], same[0], truncated=truncated)
    places = _places(same, direction, draws, seed, truncated)
    return Ranking(
        metric,
        next((method.unit for method in kept if method.unit), ""),
        direction,
        tuple(places),
        tuple(dict.fromkeys(key[0] for key in shared)),
        pairing.structures,
        len(pairing.x),
        sum(place.p_adjusted is not None for place in places),
        left_out,
    )


def _usable(method: Method, truncated: bool) -> dict[Key, None]:
    """Rows with a value that counts, in their order; a missed structure counts where it has one."""
    counted = ("ok", MISSED, CUT) if truncated else ("ok", MISSED)
    return {
        key: None
        for key, row in method.rows.items()
        if row.value is not None and row.status in counted
    }


def _any_cut(method: Method) -> bool:
    return any(row.status == CUT for row in method.rows.values())


def _too_few(usable: Mapping[str, Mapping[Key, None]], cut: Mapping[str, bool]) -> dict[str, str]:
    """Methods that would leave too little of the others to compare."""
    cases = {name: len({key[0] for key in keys}) for name, keys in usable.items()}
    most = max(cases.values(), default=0)
    found = {}
    for name, count in cases.items():
        if not count:
            found[name] = (
                "every structure is cut by the field of view (--include-truncated counts them)"
                if cut[name]
                else "no case with a value"
            )
        elif count < LEAST_SHARE * most:
            found[name] = f"has values of {count} cases only, another one of {most}"
    return found


def _shared(
    methods: Sequence[Method], usable: Mapping[str, Mapping[Key, None]], left_out: dict[str, str]
) -> list[Key]:
    """What all have; the one with the fewest rows is left out as long as that is nothing."""
    kept = sorted(methods, key=lambda method: (-len(usable[method.name]), method.name))
    while kept:
        shared = [
            key
            for key in usable[kept[0].name]
            if all(key in usable[method.name] for method in kept[1:])
        ]
        if shared:
            return shared
        left_out[kept.pop().name] = "has no structure of the same case and side as the others"
    return []


def _places(
    methods: Sequence[Method], direction: Direction, draws: int, seed: int, truncated: bool
) -> list[Place]:
    values = {method.name: _by_patient(method, truncated) for method in methods}
    means = {name: float(np.mean(list(of.values()))) for name, of in values.items()}
    sign = -1.0 if direction == "higher" else 1.0
    order = sorted(methods, key=lambda method: (sign * means[method.name], method.name))
    best, *others = order
    tests = [
        paired(*patient_pairs(pair(method, best, truncated=truncated)), draws=draws, seed=seed)
        for method in others
    ]
    adjusted = adjust([test.p for test in tests], "holm")
    found = []
    for method, test, p in zip(order, (None, *tests), (None, *adjusted), strict=True):
        mean = means[method.name]
        before = sum(sign * other < sign * mean - _SAME for other in means.values())
        found.append(
            Place(
                method.name,
                before + 1,
                mean,
                _interval(values[method.name], draws, seed),
                values[method.name],
                sum(row.status == MISSED for row in method.rows.values()),
                test,
                p,
                _mark(test, p),
            )
        )
    return found


def _by_patient(method: Method, truncated: bool) -> dict[str, float]:
    own = pair(method, method, truncated=truncated)
    return patient_means(own.patient, own.structure, own.x)


def _interval(of: Mapping[str, float], draws: int, seed: int) -> Interval:
    values = np.array(list(of.values()))
    return bootstrap(lambda rows: float(values[rows].mean()), list(of), draws=draws, seed=seed)


def _mark(test: Paired | None, p: float | None) -> str:
    if test is None:
        return BEST
    if p is None:
        return NO_TEST
    return next((mark for limit, mark in MARKS if p < limit), NOT_SIGNIFICANT)

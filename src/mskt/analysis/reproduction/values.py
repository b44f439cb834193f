"""One value a patient: what every table, test and box plot here is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from mskt.analysis.reproduction.findings import Points, Row
from mskt.analysis.statistics.methods import (
    ALL,
    MISSED,
    Method,
    SideChoice,
    pair,
    patient_means,
)
from mskt.core.anatomy import atoms, elements_named, known_structures

MUSCLES, BONES = "all muscles", "all bones"
HIP, THIGH = "hip muscles", "thigh muscles"
_GROUPS = {HIP: "hip_muscle", THIGH: "thigh_muscle", BONES: "bone"}


@dataclass(frozen=True)
class Values:
    """One metric of one method.

    Attributes:
        by: structure to patient to value: mean over sides and over the patient's cases.
        left_out: rows without a usable value, by structure.
        missed: structures not found, by structure.
        unit: of the metric.
    """

    by: Mapping[str, Mapping[str, float]]
    left_out: Mapping[str, Mapping[str, int]]
    missed: Mapping[str, int]
    unit: str

    def of(self, structure: str) -> Mapping[str, float]:
        """Patients' values of a structure; empty if there are none."""
        return self.by.get(structure, {})

    def mean_of(self, structures: Iterable[str]) -> dict[str, float]:
        """Each patient's mean over some structures, each counting once; those that have none lack."""
        found: dict[str, list[float]] = {}
        for name in structures:
            for patient, value in self.of(name).items():
                found.setdefault(patient, []).append(value)
        return {patient: float(np.mean(own)) for patient, own in sorted(found.items())}

    def group(self, name: str) -> dict[str, float]:
        """Patients' means over a group of structures, or over all."""
        return self.mean_of(members(self.by, name))


def values_of(method: Method, *, side: SideChoice = "mean", truncated: bool = False) -> Values:
    """Take one value a patient and structure, under the same rules as ``mskt stats``.

    A row counts as :func:`mskt.analysis.statistics.methods.pair` counts it.

    Args:
        method: one metric.
        side: as there.
        truncated: count structures cut by the field of view.
    """
    own = pair(method, method, side=side, truncated=truncated)
    by = {
        name: patient_means(own.patient, own.structure, own.x, name)
        for name in ordered(own.structures)
    }
    missed = dict.fromkeys(own.structures, 0)
    sided = {key[:2] for key in method.rows if key[2] != "both"} if side == "mean" else set()
    for (case, name, own_side), row in method.rows.items():
        counts = (
            (case, name) not in sided or own_side != "both" if side == "mean" else own_side == side
        )
        if counts and row.status == MISSED and name in missed:
            missed[name] += 1
    return Values(by, {n: own.left_out(n) for n in own.structures}, missed, method.unit)


def ordered(names: Iterable[str]) -> list[str]:
    """Structures in the order of the label sets, those that none of these knows last."""
    places = {name: place for place, name in enumerate(known_structures())}
    return sorted(names, key=lambda name: places.get(name, len(places)))


def members(structures: Iterable[str], group: str) -> list[str]:
    """Those of some structures that belong to a group."""
    names = list(structures)
    if group == ALL:
        return names
    known = known_structures()
    if group == MUSCLES:
        return [name for name in names if _tissue(name) == "muscle"]
    if group == BONES:
        return [name for name in names if _tissue(name) == "bone"]
    return [name for name in names if name in known and known[name].group == _GROUPS[group]]


def _tissue(name: str) -> str:
    """``muscle``, ``bone``, or empty where nothing is known of the name."""
    found = {atoms()[atom].tissue for atom, _ in elements_named(name)}
    return found.pop() if len(found) == 1 else ""


def summary(values: Mapping[str, float], prefix: str = "") -> Row:
    """Describe patients' values: n, mean, sd (n − 1), median, quartiles, and why something lacks."""
    array = np.array(list(values.values()), np.float64)
    names = ("mean", "sd", "median", "q1", "q3")
    if not array.size:
        return {f"{prefix}patients": 0, **{prefix + name: None for name in names}}
    q1, median, q3 = np.quantile(array, [0.25, 0.5, 0.75])
    figures = (
        float(array.mean()),
        float(array.std(ddof=1)) if array.size > 1 else None,
        float(median),
        float(q1),
        float(q3),
    )
    return {
        f"{prefix}patients": array.size,
        **{prefix + name: figure for name, figure in zip(names, figures, strict=True)},
    }


def points(category: str, series: str, values: Mapping[str, float]) -> Points:
    """Patients' values as a distribution to be drawn."""
    return Points(category, series, tuple(values), tuple(values.values()))

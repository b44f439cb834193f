"""The synthetic patient as everybody meets it: a volume, its exact labels, and who it might be."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mskt.core.anatomy import LEFT_OFFSET, LabelSet, Structure, atoms, known_structures
from mskt.core.volume import Labels, Subject, Volume
from mskt.synthesis.cohort import Patient, draw_patient
from mskt.synthesis.config import SynthesisConfig
from mskt.synthesis.engine import PreparedSource, prepare, synthesise
from mskt.synthesis.parametric import canonical_labels

NOTE = "Synthetic phantom: no patient was scanned."
SPACING_MM = (2.5, 2.5, 3.0)
"""Of the built-in case: fine enough to recognise every muscle, made in seconds."""
_ANATOMY_MM = 2.0


@dataclass(frozen=True)
class Phantom:
    """A synthetic patient.

    Attributes:
        image: HU on the chosen grid.
        labels: exact, as sided atoms (:func:`atom_label_set`): right = index, left = index + 100.
        person: sex, age, height, weight and the affected side; the anatomy has the femur, the
            volumes and the fat that go with them.
        meta: what else was drawn, JSON-ready.
    """

    image: Volume
    labels: Labels
    person: dict[str, Any]
    meta: dict[str, Any]


def make_phantom(
    seed: int,
    *,
    spacing_mm: tuple[float, float, float] = SPACING_MM,
    thickness_mm: float | None = None,
    config: SynthesisConfig | None = None,
) -> Phantom:
    """Make one synthetic patient from the iliac crests to below the knees.

    Args:
        seed: the person; the same seed is the same person at every spacing.
        spacing_mm: in-plane spacing twice, then the distance of slices.
        thickness_mm: of the slices; by default drawn as scanners have it.
        config: what may vary beside the patient (:func:`draw_patient`); by default
            ``SynthesisConfig.phantom``.
    """
    patient = draw_patient(seed)
    config = config or SynthesisConfig.phantom()
    # Size and fat are the patient's.
    config = replace(config, scale=(1.0, 1.0), fat_mm=(patient.fat_mm, patient.fat_mm))
    if thickness_mm is not None:
        config = replace(config, slice_mm=(thickness_mm, thickness_mm))
    case = synthesise(
        _prepared(seed),
        seed=seed,
        spacing_mm=spacing_mm,
        config=config,
        densities=patient.densities,
    )
    image = Volume(
        case.image,
        case.affine,
        subject=Subject(patient.height_m, patient.weight_kg),
        notes=(NOTE,),
        source={"format": "synthetic"},
    )
    return Phantom(
        image,
        Labels(case.labels, case.affine, atom_label_set()),
        _who(patient),
        _finite(case.meta) | {"severity": patient.severity},
    )


def in_label_set(labels: Labels, target: LabelSet) -> Labels:
    """The exact labels of a phantom in the classes of a label set.

    Raises:
        ValueError: the labels are no sided atoms.
    """
    if labels.label_set.name != "atoms":
        raise ValueError(f"expected sided atoms, got the label set {labels.label_set.name!r}")
    if target.name == "atoms":
        return labels
    return Labels(target.from_atoms(labels.data), labels.affine, target)


def sides_of(labels: Labels) -> NDArray[np.uint8]:
    """0 unsided, 1 right, 2 left for every voxel of a map of sided atoms."""
    table = np.zeros(256, np.uint8)
    for atom in atoms().values():
        if not atom.midline:
            table[atom.index], table[atom.index + LEFT_OFFSET] = 1, 2
    return table[labels.data]


@cache
def atom_label_set() -> LabelSet:
    """All atoms with their sides as a label set; its colours are those of the structures they form."""
    structures = []
    for atom in atoms().values():
        for name, side in atom.elements:
            offset = LEFT_OFFSET if side == "left" else 0
            full = name if side == "midline" else f"{name}_{side}"
            structures.append(
                Structure(
                    atom.index + offset,
                    full,
                    tissue=atom.tissue,
                    side=side,  # type: ignore[arg-type]
                    elements=frozenset({(name, side)}),
                    color=_colour((name, side)),
                )
            )
    return LabelSet("atoms", tuple(sorted(structures, key=lambda structure: structure.index)))


def _colour(element: tuple[str, str]) -> str:
    holders = [s for s in known_structures().values() if element in s.elements]
    return min(holders, key=lambda s: len(s.elements)).color if holders else "#808080"


@lru_cache(maxsize=1)
def _prepared(seed: int) -> PreparedSource:
    """Anatomy at one fixed resolution, so that a person does not depend on the scanner's grid."""
    build = draw_patient(seed).build
    return prepare(canonical_labels(seed, spacing_mm=_ANATOMY_MM, build=build))


def _who(patient: Patient) -> dict[str, Any]:
    return {
        "sex": patient.sex,
        "age": patient.age,
        "height_m": patient.height_m,
        "weight_kg": patient.weight_kg,
        "affected_side": patient.affected,
    }


def _finite(value: Any) -> Any:
    """The same with None for what JSON cannot say (an infinite field of view)."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

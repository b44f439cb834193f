"""Dice and uncertainty of each patient and structure, as the experiments on doubt take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mskt.analysis.pairs import Pairs, pairs_of
from mskt.analysis.reproduction.inputs import Inputs, Model
from mskt.analysis.reproduction.values import ordered
from mskt.analysis.statistics.methods import ALL, patient_means


@dataclass(frozen=True)
class Doubts:
    """Pairs of Dice and doubt, one a patient.

    Attributes:
        patient: names.
        dice, doubt: finite, shape (n,).
    """

    patient: tuple[str, ...]
    dice: NDArray[np.float64]
    doubt: NDArray[np.float64]

    def __len__(self) -> int:
        """Patients."""
        return len(self.patient)


def pairs_in(model: Model, inputs: Inputs) -> tuple[Pairs, list[str]]:
    """All pairs of a model that count, and what did not.

    Raises:
        InputError: there is no Dice, or a case occurs twice.
        UsageError: no row has the doubt.
    """
    kept = [row for row in model.records if inputs.truncated or row.status != "truncated"]
    pairs = pairs_of(kept, inputs.doubt)
    cut = sum(
        row.metric == "dice" and row.value is not None and row.status == "truncated"
        for row in model.records
    )
    notes = []
    if cut and not inputs.truncated:
        notes.append(
            f"{model.name}: {cut} structures cut by the field of view are left out "
            "(--include-truncated counts them)."
        )
    if missed := int((~pairs.found).sum()):
        notes.append(
            f"{model.name}: {missed} structures were not found: they have no uncertainty and do not "
            "count here, though nothing failed worse."
        )
    if pairs.without_doubt:
        notes.append(f"{model.name}: {pairs.without_doubt} Dice without {inputs.doubt}: left out.")
    return pairs.where(pairs.found), notes


def by_structure(pairs: Pairs) -> Mapping[str, Doubts]:
    """One pair a patient and structure: means over the sides and over the patient's cases."""
    return {name: patients_of(pairs, name) for name in ordered(pairs.structures)}


def patients_of(pairs: Pairs, structure: str = ALL) -> Doubts:
    """One pair a patient: of a structure, or the means over the patient's structures."""
    who, names = [str(p) for p in pairs.patient], [str(s) for s in pairs.structure]
    dice = patient_means(who, names, pairs.dice, structure)
    doubt = patient_means(who, names, pairs.doubt, structure)
    return Doubts(
        tuple(dice), np.array([*dice.values()], np.float64), np.array([*doubt.values()], np.float64)
    )


def pooled(own: Sequence[Doubts]) -> Doubts:
    """All pairs of several structures; a patient occurs once for each."""
    return Doubts(
        tuple(name for one in own for name in one.patient),
        np.concatenate([one.dice for one in own] or [np.empty(0)]),
        np.concatenate([one.doubt for one in own] or [np.empty(0)]),
    )

"""What two label sets can both express: the finest structures that each side's can be put together to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mskt.core.anatomy import LabelSet, Side, Structure, anonymous_label_set, common_coarsening
from mskt.core.errors import UsageError
from mskt.core.volume import Labels

UNNAMED = "unnamed"
"""Name of the label set of a mask without a table."""


@dataclass(frozen=True)
class CommonStructures:
    """What two label sets share.

    Attributes:
        label_set: the shared structures, numbered 1 … n, in the order of the reference's set.
        of_prediction, of_reference: tables from the values of either map to those numbers.
        order: all names of the reference's side of the comparison, those not shared included.
        not_shared: structures of the reference that the prediction's set cannot express.
    """

    label_set: LabelSet
    of_prediction: NDArray[np.uint8]
    of_reference: NDArray[np.uint8]
    order: tuple[str, ...]
    not_shared: Mapping[str, Structure]


def common_structures(prediction: LabelSet, reference: LabelSet) -> CommonStructures:
    """Find what both label sets can express.

    Structures of known anatomy are matched by what they are made of, others by name.

    Raises:
        UsageError: one set has names and the other has none.
    """
    if (prediction.name == UNNAMED) != (reference.name == UNNAMED):
        which = "prediction" if prediction.name == UNNAMED else "reference"
        raise UsageError(
            which,
            "has no table that names its labels, the other mask has one.",
            "Put a _dseg.tsv beside the mask, or give --label-set (prediction) and "
            "--reference-label-set (reference): msk22, thigh10, thigh30, totalseg or FILE.tsv.",
        )
    groups = {g.first[0]: g for g in common_coarsening(reference, prediction)}
    grouped = {name for g in groups.values() for name in g.first}
    shared: list[Structure] = []
    of_prediction, of_reference = np.zeros(256, np.uint8), np.zeros(256, np.uint8)
    order: list[str] = []
    not_shared = {}
    for structure in reference.structures:
        twin = prediction.by_name.get(structure.name)
        if structure.name in groups:
            group = groups[structure.name]
            name, mine, theirs = group.name, group.second, group.first
            new = replace(
                structure, name=name, side=_side_of(group.elements), elements=group.elements
            )
        elif structure.name in grouped:
            continue
        elif twin is not None and not structure.elements and not twin.elements:
            new, mine, theirs = structure, (twin.name,), (structure.name,)
        else:
            order.append(structure.name)
            not_shared[structure.name] = structure
            continue
        new = replace(new, index=len(shared) + 1)
        shared.append(new)
        order.append(new.name)
        of_prediction[[prediction[name].index for name in mine]] = new.index
        of_reference[[reference[name].index for name in theirs]] = new.index
    return CommonStructures(
        LabelSet(reference.name, tuple(shared)),
        of_prediction,
        of_reference,
        tuple(order),
        not_shared,
    )


def _side_of(elements: Iterable[tuple[str, str]]) -> Side:
    sides = {side for _, side in elements}
    if sides == {"left"}:
        return "left"
    if sides == {"right"}:
        return "right"
    return "midline" if sides == {"midline"} else "both"


def numbered_alike(prediction: Labels, reference: Labels) -> tuple[Labels, Labels]:
    """Give two maps without names the values of both: a label that one lacks is absent there."""
    sets = (prediction.label_set, reference.label_set)
    if any(names.name != UNNAMED for names in sets):
        return prediction, reference
    union = anonymous_label_set({s.index for names in sets for s in names.structures})
    return replace(prediction, label_set=union), replace(reference, label_set=union)

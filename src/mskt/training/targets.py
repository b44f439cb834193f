"""From the classes of a label map to those that a network learns.

A structure of the target is *known* if the map's own structures fill it exactly. What overlaps a
target without that (TotalSegmentator's iliopsoas over iliacus and psoas major) cannot be told
apart: its voxels count for nothing, and the targets it touches are not known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mskt.core.anatomy import LabelSet, Structure
from mskt.training.losses import IGNORED

IGNORE_NAME = "ignore"
"""nnU-Net's name for voxels that nobody annotated."""


@dataclass(frozen=True, eq=False)
class Translation:
    """What label values of one set mean in another.

    Attributes:
        table: uint8 (256,), ``table[labels]`` are the target's indices, 255 where not to be told.
        known: names of the target's structures that are annotated, in the target's order.
        ignored: names of the source's structures whose voxels count for nothing.
    """

    table: NDArray[np.uint8]
    known: tuple[str, ...]
    ignored: tuple[str, ...]


def translate(source: LabelSet, target: LabelSet) -> Translation:
    """How a map with the classes ``source`` becomes a target for training.

    What lies in no structure of the target becomes background: it is certainly none of the known.

    Args:
        source: with anatomy (:func:`mskt.core.anatomy.with_anatomy`).
        target: the classes that the network learns; its structures do not overlap.
    """
    known = {
        structure.name: structure for structure in target.structures if _fills(source, structure)
    }
    table = np.zeros(256, np.uint8)
    ignored = []
    for structure in source.structures:
        touched = [one for one in target.structures if one.elements & structure.elements]
        if structure.name == IGNORE_NAME or any(one.name not in known for one in touched):
            table[structure.index] = IGNORED
            ignored.append(structure.name)
        elif touched:
            table[structure.index] = touched[0].index
    return Translation(table, tuple(known), tuple(ignored))


def _fills(source: LabelSet, wanted: Structure) -> bool:
    """True if a union of the source's structures is exactly ``wanted``."""
    parts = [one.elements for one in source.structures if one.elements & wanted.elements]
    return bool(parts) and frozenset().union(*parts) == wanted.elements

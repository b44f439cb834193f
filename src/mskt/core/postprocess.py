"""After labelling: one piece a structure and side, and what the scan cuts off."""

from __future__ import annotations

from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from mskt.core.anatomy import LabelSet
from mskt.core.foreground import (
    CONNECTIVITY,
    foreground_box,
    slabs,
    value_of_components,
    voxel_counts,
)
from mskt.core.sides import SIDE_NAMES, UNSIDED


def keep_largest(
    labels: NDArray[np.uint8], sides: NDArray[np.uint8], label_set: LabelSet
) -> dict[str, int]:
    """Keep the largest connected component of each structure and side; the rest is background.

    Works **in place**: both ``labels`` and ``sides`` are set to 0 where voxels are removed. Of
    components of equal size the first in memory stays.

    Args:
        labels: label map, changed.
        sides: what :func:`separate_sides` gave for it, changed.
        label_set: names the structures.

    Returns:
        Number of voxels removed, by name, for each structure that occurs in ``labels``.
    """
    box = foreground_box(labels)
    if box is None:
        return {}
    labels, sides = labels[box], sides[box]
    codes = _codes(labels, sides)
    image = cc3d.connected_components(codes, connectivity=CONNECTIVITY)
    code = value_of_components(image, codes)
    del codes
    voxels = voxel_counts(image)
    voxels[0] = 0
    by_size = np.argsort(voxels, kind="stable")[::-1]
    _, first = np.unique(code[by_size], return_index=True)
    drop = np.ones(code.size, bool)
    drop[by_size[first]] = False
    drop[0] = False
    if drop.any():
        for part in slabs(image):
            gone = drop[image[part]]
            labels[part][gone] = 0
            sides[part][gone] = UNSIDED
    removed = np.bincount(code // 3, weights=voxels * drop, minlength=256)
    present = set(np.unique(code // 3).tolist())
    return {s.name: int(removed[s.index]) for s in label_set.structures if s.index in present}


def truncated(
    labels: NDArray[np.uint8], sides: NDArray[np.uint8], label_set: LabelSet
) -> frozenset[tuple[int, str]]:
    """Find the structures that the field of view cuts: those with a voxel on its border.

    The border is the first and last slice and the edge of the image along every axis.

    Returns:
        ``(index, side)`` with the side ``left``, ``right`` or ``both``; a structure that is cut on
        one side is cut as a whole too, so ``both`` stands beside ``left`` or ``right``.
    """
    known = label_set.by_index
    found: set[tuple[int, str]] = set()
    for axis in range(3):
        for end in (0, -1):
            face = tuple(end if a == axis else slice(None) for a in range(3))
            codes = labels[face].astype(np.int64) * 3 + sides[face]
            for code in np.flatnonzero(np.bincount(codes.ravel())).tolist():
                if code // 3 in known:
                    found |= {(code // 3, "both"), (code // 3, SIDE_NAMES[code % 3])}
    return frozenset(found)


def _codes(labels: NDArray[np.uint8], sides: NDArray[np.uint8]) -> NDArray[Any]:
    """One number for structure and side, ``3·label + side``, in the smallest type that holds it."""
    dtype = np.uint8 if int(labels.max()) * 3 + 2 < 256 else np.uint16
    codes: NDArray[Any] = np.empty_like(labels, dtype=dtype)
    np.multiply(labels, 3, out=codes, dtype=dtype)
    np.add(codes, sides, out=codes, where=labels != 0)
    return codes

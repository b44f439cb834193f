"""Overlap and distance metrics straight from their definitions: every voxel against every voxel.

Slow, and so plain that it can be checked by reading. Surfaces are the voxels of a mask with at
least one of six neighbours outside it; beyond the image everything is outside.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

DEFINITIONS = {
    "dice": "dice = 2·|P∩R| / (|P|+|R|).",
    "assd": "assd = sum of all distances of both surfaces / number of voxels of both surfaces.",
    "hd": "hd = largest distance from a voxel of one surface to the other surface.",
    "hd95": "hd95 = larger of the 95th percentiles (linear) of the two directed distances.",
    "nsd": "nsd = part of the voxels of both surfaces within the tolerance of the other one.",
}


def surface(mask: Mask) -> Mask:
    """Voxels of a mask that have one of six neighbours outside."""
    padded = np.pad(mask, 1)
    inner = mask.copy()
    for axis in range(3):
        for step in (-1, 1):
            inner &= np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
    return mask & ~inner


def directed_distances_mm(
    first: Mask, second: Mask, spacing_mm: tuple[float, float, float]
) -> NDArray[np.float64]:
    """For each surface voxel of ``first``, the distance to the nearest one of ``second``."""
    a, b = (np.argwhere(surface(mask)) * np.asarray(spacing_mm) for mask in (first, second))
    squared = ((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=-1)
    return np.asarray(np.sqrt(squared.min(axis=1)), np.float64)


def all_of(
    prediction: Mask,
    reference: Mask,
    spacing_mm: tuple[float, float, float],
    tolerance_mm: float = 2.0,
) -> dict[str, float]:
    """All metrics of two masks that are not empty, by name."""
    there = directed_distances_mm(prediction, reference, spacing_mm)
    back = directed_distances_mm(reference, prediction, spacing_mm)
    both = np.concatenate([there, back])
    overlap = np.count_nonzero(prediction & reference)
    return {
        "dice": 2 * overlap / (np.count_nonzero(prediction) + np.count_nonzero(reference)),
        "assd": float(both.mean()),
        "hd": float(both.max()),
        "hd95": float(max(np.percentile(there, 95), np.percentile(back, 95))),
        "nsd": float((both <= tolerance_mm).mean()),
    }

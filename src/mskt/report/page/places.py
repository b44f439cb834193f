"""Where to look: for each structure and side a point in its middle, and its most doubtful one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, uniform_filter

from mskt.core.anatomy import LabelSet

_SMOOTH_VOXELS = 3


@dataclass(frozen=True)
class Place:
    """Points of one structure and side in RAS mm.

    Attributes:
        middle: a voxel of it near the centre of its largest axial slice.
        doubtful: where its uncertainty, averaged over the neighbours, is largest.
    """

    middle: tuple[float, float, float]
    doubtful: tuple[float, float, float]


def places(
    labels: NDArray[np.uint8],
    sides: NDArray[np.uint8],
    doubt: NDArray[np.float32],
    affine: NDArray[np.float64],
    label_set: LabelSet,
) -> dict[tuple[str, str], Place]:
    """By structure and side, as in the results table; ``both`` where there is one piece or no side.

    Args:
        labels: canonical label map as it is shown.
        sides: 1 right, 2 left, 0 neither.
        doubt: uncertainty at the same voxels.
        affine: voxel to RAS mm.
        label_set: of ``labels``.
    """
    found: dict[tuple[str, str], Place] = {}
    boxes = find_objects(labels)
    smooth = uniform_filter(doubt, _SMOOTH_VOXELS)
    for structure in label_set.structures:
        box = boxes[structure.index - 1] if structure.index <= len(boxes) else None
        if box is None:
            continue
        start = np.array([part.start for part in box])
        mine, side = labels[box] == structure.index, sides[box]
        own = structure.side if structure.side in ("left", "right") else "both"
        for name, mask in (
            (own, mine),
            ("right", mine & (side == 1)),
            ("left", mine & (side == 2)),
        ):
            if mask.any():
                points = (_middle(mask), _largest(smooth[box], mask))
                world = [affine[:3, :3] @ (point + start) + affine[:3, 3] for point in points]
                a, b = ((round(x, 1), round(y, 1), round(z, 1)) for x, y, z in world)
                found[structure.name, name] = Place(a, b)
    return found


def _middle(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    level = int(mask.sum(axis=(0, 1)).argmax())
    points = np.argwhere(mask[:, :, level])
    nearest = points[np.square(points - points.mean(axis=0)).sum(axis=1).argmin()]
    return np.array([*nearest, level])


def _largest(doubt: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.array(np.unravel_index(np.where(mask, doubt, -1.0).argmax(), mask.shape))

"""The grid of a leg: the femoral shaft is its z axis, the left leg is a mirrored right one.

Rotation and translation only: a voxel stays 2 × 2 × 2 mm, and volumes stay true. The grid is an
affine, so the way back needs nothing else; for the left leg its determinant is negative.

Which 360 mm: muscles of the thigh begin at the pelvis and end below the knee, 580 mm in the standard
person. :data:`LOWEST` is where the mean share of the ten muscles in the field of view is largest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mskt.core.regions import KNEE_MM, SliceLevels
from mskt.core.resample import AIR_HU, resample_image
from mskt.core.volume import FloatArray, Grid, Volume
from mskt.plugins.unet25d.femur import Shaft
from mskt.plugins.unet25d.legs import LEFT, Leg

LOWEST: Final = 0.09
"""Body coordinate of the lower end: a little above the knee joint."""
MEDIAL_MM, POSTERIOR_MM = 22.0, 4.0
"""From the shaft to the middle of the field of view: thigh muscles reach 98 mm inwards of the shaft
and 50 mm outwards, 78 mm behind it and 69 mm before it."""
SIZES: Final = (0.7, 1.35)
"""Length of a thigh, as a part of the standard person's, that is believed."""


@dataclass(frozen=True)
class FieldOfView:
    """Fixed size of a leg's grid.

    Attributes:
        shape: voxels along right, anterior, superior.
        spacing_mm: of them.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]

    @property
    def length_mm(self) -> float:
        """Along the femur."""
        return self.shape[2] * self.spacing_mm[2]


def lower_end_mm(levels: SliceLevels | None, grid: Grid, length_mm: float) -> float:
    """World height of the lower end of the field of view.

    Where body coordinates are known, they are fitted by a straight line over the thigh: single
    slices are off by some mm, and the lower end may lie outside the scan. Without them, the field of
    view is put in the middle of the image.
    """
    z = grid.affine[2, 3] + grid.affine[2, 2] * np.arange(grid.shape[2])
    if levels is None:
        return float((z[0] + z[-1] - length_mm) / 2)
    u = levels.coordinate
    known = np.isfinite(u) & (u > -0.3) & (u < 1.2)
    if known.sum() * grid.spacing_mm[2] >= 100:
        per_unit = float(np.polyfit(u[known], z[known], 1)[0])
    else:
        per_unit = -KNEE_MM
    per_unit = float(np.clip(per_unit, -KNEE_MM * SIZES[0], -KNEE_MM * SIZES[1]))
    near = known if known.any() else np.isfinite(u)
    return float(np.median(z[near] - per_unit * (u[near] - LOWEST)))


def leg_grid(shaft: Shaft, side: str, lower_mm: float, view: FieldOfView) -> Grid:
    """The grid along a femur.

    Args:
        shaft: of the femur.
        side: ``left`` is mirrored.
        lower_mm: world height of the lower end.
        view: size of the grid.
    """
    outwards = -1.0 if side == LEFT else 1.0
    up = shaft.direction
    right = np.array([1.0, 0.0, 0.0]) - up[0] * up
    right /= np.linalg.norm(right)
    front = np.cross(up, right)
    axes = np.stack([outwards * right, front, up], axis=1)
    affine = np.eye(4)
    affine[:3, :3] = axes * np.asarray(view.spacing_mm)
    middle = (np.asarray(view.shape) - 1) / 2
    foot = shaft.at(lower_mm) - MEDIAL_MM * axes[:, 0] - POSTERIOR_MM * axes[:, 1]
    first = np.array([-middle[0], -middle[1], 0.5]) * view.spacing_mm
    affine[:3, 3] = foot + axes @ first
    return Grid(view.shape, affine)


def in_image(grid: Grid, image: Grid) -> Grid:
    """The slices of a leg's grid that meet the image; all of them where none does."""
    to_index = np.linalg.inv(image.affine) @ grid.affine
    i, j = (np.array([0, n - 1]) for n in grid.shape[:2])
    k = np.arange(grid.shape[2])
    corners = np.stack(np.meshgrid(i, j, k, [1.0], indexing="ij"), axis=-1)[..., 0, :]
    index = corners @ to_index[:3].T  # (2, 2, slices, 3)
    low, high = index.min(axis=(0, 1)), index.max(axis=(0, 1))
    size = np.asarray(image.shape)
    meets = np.flatnonzero(((high > -0.5) & (low < size - 0.5)).all(axis=1))
    if not len(meets):
        return grid
    first, last = int(meets[0]), int(meets[-1]) + 1
    affine = grid.affine.copy()
    affine[:3, 3] += affine[:3, 2] * first
    return Grid((*grid.shape[:2], last - first), affine)


def on_grid(data: FloatArray, source: Grid, target: Grid, fill: float = AIR_HU) -> FloatArray:
    """The image on a leg's grid; only the part of it that is needed is read."""
    part, box = _around(source, target)
    return np.ascontiguousarray(resample_image(data[box], part, target, fill))


def _around(source: Grid, target: Grid) -> tuple[Grid, tuple[slice, slice, slice]]:
    """The box of the source that holds the target with a margin, and its grid."""
    ends = [np.array([-1, n]) for n in target.shape]
    corners = np.stack(np.meshgrid(*ends, [1.0], indexing="ij"), axis=-1).reshape(-1, 4)
    index = corners @ (np.linalg.inv(source.affine) @ target.affine)[:3].T
    margin = 2 + np.max(target.spacing_mm) / np.asarray(source.spacing_mm)
    low = np.clip(np.floor(index.min(axis=0) - margin), 0, np.asarray(source.shape) - 1)
    high = np.clip(np.ceil(index.max(axis=0) + margin) + 1, low + 1, source.shape)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    affine = source.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ low
    shape = tuple(s.stop - s.start for s in box)
    return Grid((shape[0], shape[1], shape[2]), affine), (box[0], box[1], box[2])


def aligned(image: Volume, leg: Leg, legs_on: Grid, grid: Grid) -> Volume:
    """The image of one leg on its grid; air outside it.

    Args:
        image: HU on any grid.
        leg: its mask lies on ``legs_on``.
        legs_on: canonical grid of the search.
        grid: of :func:`leg_grid`.
    """
    data = on_grid(image.data, image.grid, grid)
    mask: NDArray[np.bool_] = on_grid(leg.mask.astype(np.float32), legs_on, grid, fill=0.0) > 0.5
    np.copyto(data, np.float32(AIR_HU), where=~mask)
    return replace(image, data=data, affine=grid.affine, mask=mask)

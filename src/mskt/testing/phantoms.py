"""Small CT-like volumes for the checks: two thighs in HU, known at every point of the world.

The anatomy is a function of world coordinates, so the same two legs can be sampled on any grid:
odd sizes, LPS or permuted axes, oblique affines. Left and right differ, and so do front and back
and top and bottom: a flip that goes unnoticed shows in the values.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mskt.core.volume import Grid, Volume

AIR, FAT, MUSCLE, CORTEX, MARROW = -1000.0, -100.0, 55.0, 1100.0, 150.0
SHAPE = (44, 28, 9)
SPACING_MM = (8.0, 8.0, 6.0)
RAS = np.eye(3)
LPS = np.diag([-1.0, -1.0, 1.0])
SAGITTAL = np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""First axis towards the front, second down, third to the left."""


def oblique(degrees: float = 12.0) -> NDArray[np.float64]:
    """Directions turned about x, then about z by half the angle."""
    a, b = np.radians(degrees), np.radians(degrees / 2)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return np.asarray(about_z @ about_x, np.float64)


def centred_affine(
    shape: Sequence[int], spacing_mm: Sequence[float], directions: NDArray[np.float64] = RAS
) -> NDArray[np.float64]:
    """The affine of a grid whose centre is the origin of the world.

    Args:
        shape: number of voxels along i, j, k.
        spacing_mm: of the voxels along i, j, k.
        directions: 3×3, orthonormal; column ``a`` is the direction of array axis ``a`` in RAS.
    """
    affine = np.eye(4)
    affine[:3, :3] = directions * np.asarray(spacing_mm, float)
    affine[:3, 3] = -affine[:3, :3] @ ((np.asarray(shape, float) - 1) / 2)
    return affine


def world_mm(grid: Grid) -> NDArray[np.float64]:
    """RAS coordinates of all voxel centres, shape ``(3, i, j, k)``."""
    index = np.indices(grid.shape, dtype=float)
    turned = np.tensordot(grid.affine[:3, :3], index, axes=1)
    return np.asarray(turned + grid.affine[:3, 3, None, None, None], np.float64)


def tissue(grid: Grid) -> NDArray[np.uint8]:
    """0 air, 1 fat, 2 muscle, 3 cortical bone, 4 marrow; shape of the grid."""
    x, y, z = world_mm(grid)
    kind = np.zeros(grid.shape, np.uint8)
    taper = 1 + z / 600  # thighs get thicker upwards
    for centre_x, size in ((80.0, 1.0), (-75.0, 0.9)):
        dx, dy = (x - centre_x) / size, y / size / 0.85
        radius = np.hypot(dx, dy) / taper
        bone = np.hypot(dx - 4, dy - 12)  # the femur lies in front of the centre
        kind[radius < 72] = 1
        kind[radius < 60] = 2
        kind[bone < 17] = 3
        kind[bone < 9] = 4
    return kind


def hounsfield(grid: Grid) -> NDArray[np.float32]:
    """HU of the two legs on a grid: whole numbers, as a scanner stores them."""
    x, y, z = world_mm(grid)
    base = np.array([AIR, FAT, MUSCLE, CORTEX, MARROW])[tissue(grid)]
    texture = 6 * np.sin(x / 9) + 4 * np.cos(y / 7 + z / 11) + y / 20
    return np.asarray(np.rint(base + np.where(base > AIR, texture, 0)), np.float32)


def phantom(
    shape: tuple[int, int, int] = SHAPE,
    spacing_mm: tuple[float, float, float] = SPACING_MM,
    directions: NDArray[np.float64] = RAS,
) -> Volume:
    """Two thighs: about 350 × 220 × 54 mm at the default shape and spacing."""
    grid = Grid(shape, centred_affine(shape, spacing_mm, directions))
    kinds = tissue(grid)
    return Volume(hounsfield(grid), grid.affine, mask=kinds > 0)


def stored_as(image: Volume, order: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> Volume:
    """The same voxels at the same places, stored with permuted and reversed axes.

    Args:
        image: any volume; it is not changed.
        order: new axis ``a`` is the old axis ``order[a]``.
        flips: which of the new axes are then reversed.
    """
    step = tuple(slice(None, None, -1 if flip else None) for flip in flips)
    data = np.ascontiguousarray(np.transpose(image.data, order)[step])
    affine = image.affine.copy()
    affine[:3, :3] = affine[:3, list(order)]
    for axis, flip in enumerate(flips):
        if flip:
            affine[:3, 3] += affine[:3, axis] * (data.shape[axis] - 1)
            affine[:3, axis] *= -1
    mask = None
    if image.mask is not None:
        mask = np.ascontiguousarray(np.transpose(image.mask, order)[step])
    return Volume(data, affine, mask=mask)

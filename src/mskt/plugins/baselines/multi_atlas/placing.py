"""Where an atlas comes to lie before anything is registered: by the level of the body, then the skin.

Fields of view differ: a pelvis must meet the pelvis of a scan that goes on to the knees. The network
of the region check says at which level of the body each slice lies; a straight line through the
levels of both images places one on the other along z.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mskt.core.levelnet import LevelNet, slice_levels
from mskt.core.regions import LEVELS_MM
from mskt.core.volume import FloatArray, Grid
from mskt.plugins.baselines.multi_atlas.affine import Affine

SCALES = (0.8, 1.25)
"""Smallest and largest ratio of two people's sizes that is believed."""
CERTAIN_MM = 60.0
"""Levels whose standard deviation is greater say nothing."""
AROUND_MM = (0.0, -20.0, 20.0, -40.0, 40.0)
"""How far along z from where the levels put an atlas it is tried as well."""
_FEWEST_SLICES = 4


@dataclass(frozen=True, eq=False)
class Place:
    """What of an image is needed to lay another on it; lengths in mm from its first voxel.

    Attributes:
        height: along z, what ``slope · z + offset`` is: mm above the hip joint of the standard
            person; None if the levels are not known.
        rows: z of each slice.
        centre: (slices, 2), centroid of the body; NaN without body.
        spread: (slices, 2), standard deviation of the body along x and y.
    """

    height: tuple[float, float] | None
    rows: NDArray[np.float64]
    centre: NDArray[np.float64]
    spread: NDArray[np.float64]


def place(
    image: FloatArray,
    body: NDArray[np.bool_],
    spacing_mm: tuple[float, float, float],
    network: LevelNet | None,
) -> Place:
    """Measure an image.

    Args:
        image: HU, (x, y, z), canonical.
        body: True inside the skin.
        spacing_mm: of the voxels.
        network: of the region check; None does without levels.
    """
    x, y, slices = image.shape
    rows = np.arange(slices, dtype=np.float64) * spacing_mm[2]
    centre, spread = np.full((slices, 2), np.nan), np.full((slices, 2), np.nan)
    for axis, length in enumerate((x, y)):
        at = np.arange(length) * spacing_mm[axis]
        weight = body.sum(axis=1 - axis).astype(float)  # (length, slices)
        total = np.maximum(weight.sum(axis=0), 1e-9)
        mean = at @ weight / total
        seen = weight.sum(axis=0) > 0
        variance = at**2 @ weight / total - mean**2
        centre[:, axis] = np.where(seen, mean, np.nan)
        spread[:, axis] = np.where(seen, np.sqrt(np.maximum(variance, 1.0)), np.nan)
    return Place(_height(image, body, spacing_mm, rows, network), rows, centre, spread)


def _height(
    image: FloatArray,
    body: NDArray[np.bool_],
    spacing_mm: tuple[float, float, float],
    rows: NDArray[np.float64],
    network: LevelNet | None,
) -> tuple[float, float] | None:
    """Slope and offset of the line through the levels of the slices."""
    if network is None:
        return None
    grid = Grid((image.shape[0], image.shape[1], image.shape[2]), np.diag([*spacing_mm, 1.0]))
    levels = slice_levels(image, grid, body, network)
    if levels.body.sum() < _FEWEST_SLICES:
        return None
    probability = levels.probability[levels.body]
    mean = probability @ LEVELS_MM
    variance = np.maximum(probability @ LEVELS_MM**2 - mean**2, 0)
    if np.median(np.sqrt(variance)) > CERTAIN_MM:
        return None
    z = rows[levels.body]
    slope = float(np.clip(np.polyfit(z, mean, 1)[0], *SCALES))
    return slope, float(np.mean(mean - slope * z))


def starts(fixed: Place, moving: Place) -> list[Affine]:
    """Where the atlas may lie: by the levels if both are known, else middle on middle."""
    return [initial(fixed, moving, ahead) for ahead in AROUND_MM]


def initial(fixed: Place, moving: Place, ahead_mm: float = 0.0) -> Affine:
    """Scale and shift that take a place of the fixed image to one of the moving image.

    Args:
        fixed: of the patient.
        moving: of the atlas.
        ahead_mm: so much further up the atlas than the levels say.
    """
    scale, shift = np.ones(3), np.zeros(3)
    if fixed.height is not None and moving.height is not None:
        scale[2] = np.clip(fixed.height[0] / moving.height[0], *SCALES)
        middle = np.nanmean(np.where(np.isnan(fixed.centre[:, 0]), np.nan, fixed.rows))
        level = fixed.height[0] * middle + fixed.height[1]
        shift[2] = (level - moving.height[1]) / moving.height[0] - scale[2] * middle
    else:
        shift[2] = moving.rows.mean() - fixed.rows.mean()
    shift[2] += ahead_mm
    there = fixed.rows * scale[2] + shift[2]
    nearest = np.rint(np.interp(there, moving.rows, np.arange(len(moving.rows)))).astype(int)
    met = (there >= moving.rows[0]) & (there <= moving.rows[-1])
    for axis in (0, 1):
        both = ~np.isnan(fixed.centre[:, axis]) & ~np.isnan(moving.centre[nearest, axis])
        both = both & met if (both & met).any() else both
        if not both.any():
            continue
        ratio = moving.spread[nearest, axis][both] / fixed.spread[both, axis]
        scale[axis] = np.clip(np.median(ratio), *SCALES)
        ahead = moving.centre[nearest, axis][both] - scale[axis] * fixed.centre[both, axis]
        shift[axis] = np.median(ahead)
    return Affine(np.diag(scale), shift)

"""Shapes and affines as files have them: what is accepted, repaired or refused.

World coordinates of mskt are RAS millimetres (``mskt.core.volume``); ITK and DICOM count in LPS.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from mskt.core.errors import GeometryError, InputError
from mskt.core.interfaces import LoadOptions
from mskt.core.volume import repair_affine
from mskt.plugins.loaders.allowances import unless_allowed

Affine = NDArray[np.float64]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

LARGEST_REPAIR_DEG = 1.0
"""Rounding in converters shears axes by less than 0.1°; a tilted gantry by several degrees."""
PLAUSIBLE_SPACING_MM = (0.01, 100.0)


def single_volume(shape: Sequence[int], thing: str) -> tuple[int, int, int]:
    """The shape of the one volume in an array of three or more dimensions.

    Raises:
        InputError: fewer than three dimensions, no voxels, or more than one volume.
    """
    if len(shape) < 3:
        raise InputError(
            thing,
            f"is {len(shape)}-dimensional (shape {tuple(shape)})",
            "mskt needs a volume: give the whole series, not one picture of it.",
        )
    if any(size < 1 for size in shape):
        raise InputError(
            thing, f"has no voxels (shape {tuple(shape)})", "Convert it again from the original."
        )
    volumes = int(np.prod(shape[3:], dtype=np.int64))
    if volumes > 1:
        raise InputError(
            thing,
            f"holds {volumes} volumes (shape {tuple(shape)})",
            "Save the one to be segmented as a file of its own.",
        )
    return (int(shape[0]), int(shape[1]), int(shape[2]))


def settle_affine(
    affine: Affine, shape: tuple[int, int, int], thing: str, options: LoadOptions
) -> tuple[Affine, list[str]]:
    """The affine to work with: perpendicular axes, plausible spacing; and what was repaired.

    Args:
        affine: voxel index to RAS mm, as the file says.
        shape: of the volume; for the size of the repair at its far corner.
        thing: what the user calls the file.
        options: for ``sheared``.

    Raises:
        GeometryError: not invertible, implausible spacing, or axes too far from perpendicular.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) <= 1e-9 * spacing.prod():
        raise GeometryError(
            thing,
            f"its affine is not invertible (spacing {_mm(spacing)})",
            "Convert it again from the original DICOM series.",
        )
    low, high = PLAUSIBLE_SPACING_MM
    if spacing.min() < low or spacing.max() > high:
        raise GeometryError(
            thing,
            f"a voxel spacing of {_mm(spacing)} is not plausible for CT",
            "Its header probably names the wrong unit: correct the header (mm), or convert the "
            "file again from the original DICOM series.",
        )
    repaired, angle = repair_affine(affine)
    if angle == 0.0:
        return affine, []
    moved = _corner_shift_mm(affine, repaired, shape)
    if angle > LARGEST_REPAIR_DEG and "sheared" not in options.allow:
        raise GeometryError(
            thing,
            f"its axes are not perpendicular: the nearest perpendicular axes are "
            f"{angle:.2f}° away, {moved:.1f} mm at the far corner; probably a tilted gantry",
            "Resample the series to perpendicular axes when it is converted.\n"
            + unless_allowed("sheared"),
        )
    return repaired, [
        f"The axes of the file are not perpendicular; they were turned by up to {angle:.2g}° to "
        f"the nearest perpendicular axes, which moves the far corner by {moved:.2g} mm."
    ]


def _corner_shift_mm(first: Affine, second: Affine, shape: tuple[int, int, int]) -> float:
    corners = np.array([(*corner, 1) for corner in product(*((0, size - 1) for size in shape))])
    shifts = corners @ (first - second).T
    return float(np.linalg.norm(shifts[:, :3], axis=1).max())


def _mm(spacing: NDArray[np.float64]) -> str:
    return " × ".join(f"{value:.4g}" for value in spacing) + " mm"

"""Volumes small enough for a page: cropped to the body, coarser, and packed as NIfTI.

A clinical scan of hip and thigh has a hundred million voxels; a browser shows a tenth of them as well.
Only the pictures are made from these: no number of a page is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from isal import igzip
from numpy.typing import NDArray

from mskt.analysis.assessment import FAT_BELOW_HU, LEAN_ABOVE_HU
from mskt.core.foreground import foreground_box
from mskt.core.volume import Grid, to_canonical

T = TypeVar("T", bound=np.generic)

FAT, MIXED, LEAN = 1, 2, 3
"""Values of the tissue map."""
LARGEST_VOXELS = 9_000_000
_IN_PLANE_MM, _ALONG_MM = 1.4, 2.4
"""Voxels are made about so large, and larger only where there would be too many."""
_AROUND_MM = 40.0
_AIR_BELOW_HU, _AIR_HU, _LARGEST_HU, _STEP_HU = -700, -1000, 3071, 4
"""Noise of air and of the last bits is most of a compressed CT and shows nothing."""
_LEVELS = 255


@dataclass(frozen=True)
class Frame:
    """The part of a canonical grid that is shown, and how much coarser.

    Attributes:
        grid: canonical grid of the input.
        box: of that grid, along each axis a whole number of steps.
        steps: voxels of the input that one shown voxel spans along each axis.
    """

    grid: Grid
    box: tuple[slice, slice, slice]
    steps: tuple[int, int, int]

    @classmethod
    def around(cls, labels: NDArray[np.uint8], grid: Grid) -> Frame:
        """Frame the labels and a margin; the whole grid where there are none.

        Args:
            labels: label map as it is stored.
            grid: of ``labels``.
        """
        target = grid.canonical()
        box = foreground_box(to_canonical(labels, grid)) or tuple(slice(0, n) for n in target.shape)
        limits = []
        for part, size, mm in zip(box, target.shape, target.spacing_mm, strict=True):
            more = round(_AROUND_MM / mm)
            limits.append((max(0, part.start - more), min(size, part.stop + more)))
        steps = _steps([high - low for low, high in limits], target.spacing_mm)
        whole = [
            slice(low, low + max(1, (high - low) // step) * step)
            for (low, high), step in zip(limits, steps, strict=True)
        ]
        return cls(target, (whole[0], whole[1], whole[2]), steps)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels shown along each axis."""
        a, b, c = (
            (part.stop - part.start) // step
            for part, step in zip(self.box, self.steps, strict=True)
        )
        return (a, b, c)

    def affine(self, *, blocks: bool) -> NDArray[np.float64]:
        """Voxel shown to RAS mm.

        Args:
            blocks: true for the mean of all voxels that one shown voxel spans, false for one of them.
        """
        inside = [(s - 1) / 2 if blocks else s // 2 for s in self.steps]
        affine = self.grid.affine.copy()
        first = np.add([part.start for part in self.box], inside)
        affine[:3, 3] += affine[:3, :3] @ first
        affine[:3, :3] *= self.steps
        return affine

    def samples(self, values: NDArray[T], grid: Grid) -> NDArray[T]:
        """One voxel of each block: for what must not be averaged.

        Args:
            values: on ``grid``, as stored.
            grid: of the input.
        """
        view = to_canonical(values, grid)[self.box]
        a, b, c = self.steps
        return np.ascontiguousarray(view[a // 2 :: a, b // 2 :: b, c // 2 :: c])

    def means(self, values: NDArray[np.float32], grid: Grid) -> NDArray[np.float32]:
        """The mean of each block, layer by layer: no copy of the volume is made.

        Args:
            values: on ``grid``, as stored.
            grid: of the input.
        """
        view = to_canonical(values, grid)[self.box]
        (a, b, c), (x, y, z) = self.steps, self.shape
        found = np.empty((x, y, z), np.float32)
        for k in range(z):
            layer = np.asarray(view[:, :, k * c : (k + 1) * c], np.float32)
            found[:, :, k] = layer.reshape(x, a, y, b, c).mean(axis=(1, 3, 4))
        return found


def _steps(sizes: list[int], spacing_mm: tuple[float, float, float]) -> tuple[int, int, int]:
    """How many voxels become one: about ``_IN_PLANE_MM`` across and ``_ALONG_MM`` along the body."""
    scale = 1.0
    while True:
        wanted = (_IN_PLANE_MM * scale, _IN_PLANE_MM * scale, _ALONG_MM * scale)
        a, b, c = (
            min(size, max(1, round(target / mm)))
            for size, target, mm in zip(sizes, wanted, spacing_mm, strict=True)
        )
        if (sizes[0] // a) * (sizes[1] // b) * (sizes[2] // c) <= LARGEST_VOXELS:
            return (a, b, c)
        scale *= 1.08


def ct(hu: NDArray[np.float32], affine: NDArray[np.float64]) -> bytes:
    """A CT for looking at, in steps of 4 HU, air without noise.

    Args:
        hu: shown voxels.
        affine: voxel to RAS mm.
    """
    steps = np.rint(np.clip(hu, _AIR_HU, _LARGEST_HU) / _STEP_HU) * _STEP_HU
    steps[hu < _AIR_BELOW_HU] = _AIR_HU
    return _packed(steps.astype(np.int16), affine)


def label_map(labels: NDArray[np.uint8], affine: NDArray[np.float64]) -> bytes:
    """Whole numbers as they are: labels or tissues."""
    return _packed(labels, affine)


def doubt(values: NDArray[np.float32], top: float, affine: NDArray[np.float64]) -> bytes:
    """An uncertainty map in 255 levels from 0 to ``top``; larger values are shown as ``top``."""
    levels = np.rint(np.clip(values / top, 0, 1) * _LEVELS).astype(np.uint8)
    return _packed(levels, affine, slope=top / _LEVELS)


def tissue_map(
    hu: NDArray[np.float32], labels: NDArray[np.uint8], is_muscle: Callable[[int], bool]
) -> NDArray[np.uint8]:
    """Fat, mixed and lean tissue inside the muscles (Soufi 2024, Fig. 7), 0 elsewhere.

    Args:
        hu: of single voxels, not means of blocks: a mean of fat and muscle would count as mixed.
        labels: at the same voxels.
        is_muscle: of a label value.
    """
    muscle = np.array([value > 0 and is_muscle(value) for value in range(256)])
    found = np.full(labels.shape, MIXED, np.uint8)
    found[hu < FAT_BELOW_HU] = FAT
    found[hu > LEAN_ABOVE_HU] = LEAN
    found[~muscle[labels]] = 0
    return found


def _packed(values: NDArray[np.generic], affine: NDArray[np.float64], slope: float = 1.0) -> bytes:
    import nibabel as nib

    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(slope, 0.0)
    # Without a time in it the same case gives the same page to the byte.
    return igzip.compress(image.to_bytes(), compresslevel=3, mtime=0)

"""Images and label maps with a geometry that is never guessed.

Convention, everywhere in mskt: arrays are indexed ``(i, j, k)``; ``affine`` maps the centre of
voxel ``(i, j, k)`` to world coordinates in **RAS millimetres** (+x right, +y anterior, +z superior),
as in NIfTI. Spacing is the length of the affine's columns. DICOM's LPS is converted by the loader.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mskt.core.anatomy import LabelSet
from mskt.core.errors import GeometryError, InputError

FloatArray = NDArray[np.float32]
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Grid:
    """Where voxels are: a shape and an affine.

    Attributes:
        shape: number of voxels along i, j, k.
        affine: float64 4×4, voxel index to RAS mm; its columns are orthogonal.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxel centres along i, j, k in mm."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        return (float(lengths[0]), float(lengths[1]), float(lengths[2]))

    @property
    def voxel_volume_cm3(self) -> float:
        """Volume of one voxel in cm³."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    @cached_property
    def axis_order(self) -> tuple[int, int, int]:
        """For each world axis x, y, z: the array axis that is nearest to it."""
        directions = np.abs(self.affine[:3, :3]) / np.asarray(self.spacing_mm)
        best, order = -1.0, (0, 1, 2)
        for a, b, c in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
            score = directions[0, a] + directions[1, b] + directions[2, c]
            if score > best + 1e-9:
                best, order = score, (a, b, c)
        return order

    @cached_property
    def obliquity_deg(self) -> float:
        """Largest angle between an array axis and the world axis nearest to it, in degrees."""
        directions = self.affine[:3, :3] / np.asarray(self.spacing_mm)
        cosines = [abs(directions[world, axis]) for world, axis in enumerate(self.axis_order)]
        return float(np.degrees(np.arccos(np.clip(min(cosines), -1.0, 1.0))))

    def same_as(self, other: Grid, tolerance_mm: float = 1e-3) -> bool:
        """True if both grids have the same shape and every voxel the same place."""
        if self.shape != other.shape:
            return False
        corners = np.array(
            [
                [i, j, k, 1]
                for i in (0, self.shape[0])
                for j in (0, self.shape[1])
                for k in (0, self.shape[2])
            ],
            float,
        )
        return bool(np.abs(corners @ (self.affine - other.affine).T).max() <= tolerance_mm)

    def canonical(self) -> Grid:
        """The grid of :func:`to_canonical`: axes permuted and flipped to point right, anterior, up."""
        order = list(self.axis_order)
        affine = self.affine.copy()
        affine[:3, :3] = affine[:3, order]
        shape = tuple(self.shape[axis] for axis in order)
        for world in range(3):
            if affine[world, world] < 0:
                affine[:3, 3] += affine[:3, world] * (shape[world] - 1)
                affine[:3, world] *= -1
        return Grid((shape[0], shape[1], shape[2]), affine)


@dataclass(frozen=True)
class Subject:
    """What is known of the person, and no more: no name, no identifier, no date.

    Attributes:
        height_m: body height in metres, if known.
        weight_kg: body weight in kilograms, if known.
    """

    height_m: float | None = None
    weight_kg: float | None = None


@dataclass(frozen=True)
class Volume:
    """A CT image.

    Attributes:
        data: float32 Hounsfield units, shape ``(i, j, k)``.
        affine: float64 4×4, voxel index to RAS mm.
        mask: bool, same shape: where there is something to segment (inside the skin); None if that
            has not been determined.
        subject: height and weight, where known.
        notes: sentences about what was repaired or resampled on the way in, for report and log.
        source: what writing the result back needs (NIfTI codes, stored type), and ``case_id``, by
            which the run knows the case; never patient data.
    """

    data: FloatArray
    affine: NDArray[np.float64]
    mask: NDArray[np.bool_] | None = None
    subject: Subject = Subject()
    notes: tuple[str, ...] = ()
    source: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)

    def __post_init__(self) -> None:
        """Refuse what cannot be an image: other dimensions than three, no voxels, a broken affine."""
        if self.data.ndim != 3:
            raise InputError(
                "image",
                f"has {self.data.ndim} dimensions {self.data.shape}",
                "mskt reads three-dimensional volumes.",
            )
        if 0 in self.data.shape:
            raise InputError("image", f"has no voxels (shape {self.data.shape})")
        if (
            self.affine.shape != (4, 4)
            or not np.isfinite(self.affine).all()
            or abs(np.linalg.det(self.affine[:3, :3])) < 1e-9
        ):
            raise GeometryError(
                "image",
                "its affine is no invertible 4×4 matrix",
                "Convert it again from the original DICOM series.",
            )

    @property
    def grid(self) -> Grid:
        """Shape and affine."""
        i, j, k = self.data.shape
        return Grid((i, j, k), self.affine)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxel centres along i, j, k in mm."""
        return self.grid.spacing_mm


@dataclass(frozen=True)
class Labels:
    """A label map.

    Attributes:
        data: uint8, shape ``(i, j, k)``; 0 is background, other values are indices of ``label_set``.
        affine: float64 4×4, voxel index to RAS mm.
    """

    data: NDArray[np.uint8]
    affine: NDArray[np.float64]
    label_set: LabelSet

    @property
    def grid(self) -> Grid:
        """Shape and affine."""
        i, j, k = self.data.shape
        return Grid((i, j, k), self.affine)


def to_canonical(data: NDArray[Any], grid: Grid) -> NDArray[Any]:
    """A view of ``data`` whose axes point right, anterior, superior (no resampling, no copy)."""
    view = np.transpose(data, grid.axis_order)
    flips = tuple(
        slice(None, None, -1) if grid.affine[world, axis] < 0 else slice(None)
        for world, axis in enumerate(grid.axis_order)
    )
    return view[flips]


def repair_affine(affine: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """The nearest affine with orthogonal axes, and how far it moves the axes.

    Polar decomposition (Higham 1986) of the direction part: the rotation nearest to it in the
    Frobenius norm; spacing and origin are kept.

    Returns:
        The repaired affine and the largest angle in degrees by which an axis turned. An affine that
        is orthogonal within float32 rounding (0.01°) comes back unchanged, with 0.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / spacing
    if np.abs(directions.T @ directions - np.eye(3)).max() < 2e-4:
        return affine, 0.0
    left, _, right = np.linalg.svd(directions)
    rotation = left @ right
    angle = np.degrees(np.arccos(np.clip((rotation * directions).sum(axis=0), -1, 1)).max())
    repaired = affine.copy()
    repaired[:3, :3] = rotation * spacing
    return repaired, float(angle)

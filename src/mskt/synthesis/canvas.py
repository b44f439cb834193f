"""Unlabelled voxels inside the skin, and what may be painted on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mskt.synthesis.lattice import Axes, FloatArray, NoiseField

Mask = NDArray[np.bool_]
Knots = Sequence[float] | NDArray[np.floating]


@dataclass(frozen=True)
class Canvas:
    """Unlabelled voxels inside the skin, as flat lists.

    Attributes:
        voxel: flat index into the output grid.
        x, y, z: source coordinates (mm).
        trunk, ring: signed distances (mm) to trunk envelope and pelvic ring.
        gap_mm: distance to the nearest labelled voxel.
        tissue: material per voxel; painted in place.
        shape: output grid.
    """

    voxel: NDArray[np.intp]
    x: FloatArray
    y: FloatArray
    z: FloatArray
    trunk: FloatArray
    ring: FloatArray
    gap_mm: FloatArray
    tissue: NDArray[np.uint8]
    axes: Axes
    right: float  # +1, or -1 when the person is mirrored: the liver stays on the right

    @cached_property
    def _half_mm(self) -> tuple[FloatArray, NDArray[np.intp]]:
        """Heights every half millimetre, and which of them is nearest to each voxel."""
        low = float(self.z.min()) if len(self.z) else 0.0
        level = np.rint((self.z - np.float32(low)) * 2).astype(np.intp)
        count = int(level.max()) + 1 if len(level) else 1
        return (low + 0.5 * np.arange(count)).astype(np.float32), level

    def along_z(self, knots: Knots, values: Knots) -> FloatArray:
        """Piecewise-linear function of height at each voxel; much faster than np.interp on all."""
        heights, level = self._half_mm
        return np.asarray(np.interp(heights, knots, values).astype(np.float32)[level])

    def noise(
        self, rng: np.random.Generator, step_mm: float | tuple[float, float, float]
    ) -> FloatArray:
        """Evaluate a smooth field (unit variance) at the canvas's voxels."""
        return NoiseField.draw(rng, step_mm).at(self.axes).ravel()[self.voxel]

    def wobbled(self, rng: np.random.Generator, mm: float) -> Canvas:
        """Return the canvas with uneven coordinates: nothing alive is a perfect ellipse."""
        x, y, z = (v + np.float32(mm) * self.noise(rng, 24.0) for v in (self.x, self.y, self.z))
        return replace(self, x=x, y=y, z=z)

    def part(self, at: NDArray[np.intp]) -> Canvas:
        """Some of the voxels; what is painted on the part has to be written back."""
        names = ("voxel", "x", "y", "z", "trunk", "ring", "gap_mm", "tissue")
        return replace(self, **{name: getattr(self, name)[at] for name in names})

    def paint(self, where: Mask, code: int) -> None:
        """Set the material of the chosen voxels."""
        self.tissue[where] = code


def ellipsoid(
    c: Canvas, centre: tuple[float, float, float], semi: tuple[float, float, float]
) -> FloatArray:
    """Squared distance from the centre in units of the semi-axes: below 1 inside."""
    return np.asarray(
        ((c.x - centre[0]) / semi[0]) ** 2
        + ((c.y - centre[1]) / semi[1]) ** 2
        + ((c.z - centre[2]) / semi[2]) ** 2,
        np.float32,
    )

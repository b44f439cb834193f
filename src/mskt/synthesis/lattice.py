"""Smooth random fields and maps that depend on position only, never on the output grid.

White noise sits on a periodic lattice fixed in world space and is interpolated with cubic
B-splines; because output grids are axis-aligned, evaluation is three small matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
Axes = tuple[FloatArray, FloatArray, FloatArray]

# mean over positions of the sum of squared cubic B-spline weights, per axis
_BSPLINE_ENERGY = 151.0 / 315.0


def child_rng(seed: int, *path: str | int) -> np.random.Generator:
    """Make a generator that depends only on the seed and the component's name.

    Args:
        seed: the case's seed, non-negative.
        path: component name(s); adding a component never changes the draws of another.
    """
    words = [int.from_bytes(str(part).encode()[:16].ljust(16, b"\0"), "little") for part in path]
    entropy = [seed, *(w >> shift & 0xFFFFFFFF for w in words for shift in (0, 32, 64, 96))]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))


def grid_axes(
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    origin_mm: tuple[float, float, float],
) -> Axes:
    """World coordinates (mm) of voxel centres along each axis."""
    ax = [
        (o + s * np.arange(n)).astype(np.float32)
        for n, s, o in zip(shape, spacing_mm, origin_mm, strict=True)
    ]
    return ax[0], ax[1], ax[2]


def separable(grid: FloatArray, weights: tuple[FloatArray, FloatArray, FloatArray]) -> FloatArray:
    """Interpolate ``grid`` (a, b, c) with one weight matrix (n_out, n_in) per axis."""
    wx, wy, wz = weights
    out = np.matmul(wy, grid @ wz.T)
    flat = wx @ out.reshape(out.shape[0], -1)
    return np.asarray(flat.reshape(len(wx), len(wy), len(wz)), dtype=np.float32)


def linear_weights(points: FloatArray, nodes: FloatArray) -> FloatArray:
    """Hat-function weights (n_points, n_nodes); nodes equally spaced, clamped at the ends."""
    step = nodes[1] - nodes[0]
    pos = np.clip((points - nodes[0]) / step, 0, len(nodes) - 1.000001)
    low = np.floor(pos).astype(int)
    frac = (pos - low).astype(np.float32)
    w = np.zeros((len(points), len(nodes)), np.float32)
    rows = np.arange(len(points))
    w[rows, low] = 1 - frac
    w[rows, np.minimum(low + 1, len(nodes) - 1)] += frac
    return w


def _bspline_weights(points: FloatArray, step: float, period: int) -> FloatArray:
    pos = points.astype(np.float64) / step
    low = np.floor(pos).astype(int)
    t = pos - low
    coef = (
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    )
    w = np.zeros((len(points), period), np.float32)
    rows = np.arange(len(points))
    for k, c in enumerate(coef):
        np.add.at(w, (rows, (low + k - 1) % period), c.astype(np.float32))
    return w


@dataclass(frozen=True)
class NoiseField:
    """Zero-mean, unit-variance smooth noise with period ``nodes.shape * step_mm``."""

    nodes: FloatArray
    step_mm: tuple[float, float, float]

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        step_mm: float | tuple[float, float, float],
        extent_mm: tuple[float, float, float] = (800.0, 600.0, 1600.0),
        max_nodes: int = 40,
    ) -> NoiseField:
        """Draw a field; fine fields repeat after ``max_nodes`` nodes, which nobody can see."""
        steps = step_mm if isinstance(step_mm, tuple) else (step_mm, step_mm, step_mm)
        n = [int(min(max_nodes, max(4, e // s))) for e, s in zip(extent_mm, steps, strict=True)]
        nodes = rng.standard_normal(n, dtype=np.float32) / np.float32(_BSPLINE_ENERGY**1.5)
        return cls(nodes, (float(steps[0]), float(steps[1]), float(steps[2])))

    def at(self, axes: Axes) -> FloatArray:
        """Values on the tensor grid of ``axes``: shape (len x, len y, len z)."""
        w = [
            _bspline_weights(a, s, n)
            for a, s, n in zip(axes, self.step_mm, self.nodes.shape, strict=True)
        ]
        return separable(self.nodes, (w[0], w[1], w[2]))


@dataclass(frozen=True)
class CoarseLattice:
    """A lattice fixed in world space (multiples of ``step_mm``) that covers an output grid.

    Smooth maps are computed here and interpolated, so the cost of pose and deformation
    does not depend on the voxel size, and neither does the patient.
    """

    axes: Axes
    weights: tuple[FloatArray, FloatArray, FloatArray]

    @classmethod
    def covering(cls, axes: Axes, step_mm: float = 8.0) -> CoarseLattice:
        """Lattice with one node of margin around the grid of ``axes``."""
        nodes = []
        for a in axes:
            low, high = np.floor(a.min() / step_mm) - 1, np.ceil(a.max() / step_mm) + 1
            nodes.append((np.arange(low, high + 1) * step_mm).astype(np.float32))
        w = [linear_weights(a, n) for a, n in zip(axes, nodes, strict=True)]
        return cls((nodes[0], nodes[1], nodes[2]), (w[0], w[1], w[2]))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of nodes along each axis."""
        return len(self.axes[0]), len(self.axes[1]), len(self.axes[2])

    def upsample(self, values: FloatArray) -> FloatArray:
        """Linear interpolation of node values to the output grid."""
        return separable(np.ascontiguousarray(values, dtype=np.float32), self.weights)


def smoothstep(x: FloatArray, low: float, high: float) -> FloatArray:
    """0 below ``low``, 1 above ``high``, C1 between."""
    t = np.clip((x - np.float32(low)) / np.float32(high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)

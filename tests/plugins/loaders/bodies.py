"""A thigh in small: air, fat, muscle, bone; whole HU, so that files hold it exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mskt.core.volume import Volume


def thigh(shape: tuple[int, int, int] = (24, 20, 12), seed: int = 0) -> NDArray[np.float32]:
    """HU of an elliptic thigh along the third axis, with an asymmetric mark in every octant."""
    i, j, _ = (
        np.linspace(-1, 1, size)[(slice(None), *[None] * (2 - axis))]
        for axis, size in enumerate(shape)
    )
    radius = np.broadcast_to(np.hypot(i / 0.9, j / 0.85), shape)
    hu = np.full(shape, -1000.0, np.float32)
    hu[radius < 1] = -100
    hu[radius < 0.8] = 55
    hu[radius < 0.3] = 900
    noise = np.random.default_rng(seed).normal(0, 6, shape).round()
    return np.clip(hu + noise, -1024, 3071).astype(np.float32)


def volume(
    shape: tuple[int, int, int] = (24, 20, 12),
    spacing: tuple[float, float, float] = (0.8, 0.9, 2.0),
    axes: NDArray[np.float64] | None = None,
    origin: tuple[float, float, float] = (-12.5, 40.25, -300.0),
    seed: int = 0,
) -> Volume:
    """A thigh with an affine of the given direction columns (default: DICOM's usual, LPS)."""
    affine = np.eye(4)
    affine[:3, :3] = (np.diag([-1.0, -1.0, 1.0]) if axes is None else axes) * np.asarray(spacing)
    affine[:3, 3] = origin
    return Volume(thigh(shape, seed), affine)


def rotation(a: float, b: float, c: float) -> NDArray[np.float64]:
    """A rotation matrix from three angles in radians."""
    ca, sa, cb, sb, cc, sc = np.cos(a), np.sin(a), np.cos(b), np.sin(b), np.cos(c), np.sin(c)
    x = np.array([[1, 0, 0], [0, ca, -sa], [0, sa, ca]])
    y = np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    z = np.array([[cc, -sc, 0], [sc, cc, 0], [0, 0, 1]])
    product: NDArray[np.float64] = z @ y @ x
    return product

"""Where in a case a sample comes from: one affine each, drawn once and applied once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mskt.training.recipes import Augmentation


@dataclass(frozen=True)
class Placement:
    """Pixel ``o`` of a sample lies at ``centre + matrix @ (o − (size − 1) / 2)`` of its source.

    Attributes:
        size: of the sample, two or three axes.
        centre: in pixels of the source.
        matrix: pixels of the source a pixel of the sample, along and across the axes.
    """

    size: tuple[int, ...]
    centre: NDArray[np.float64]
    matrix: NDArray[np.float64]

    @cached_property
    def corners(self) -> NDArray[np.float64]:
        """In the source, of the sample's corner pixels, the extremes of an affine map: (2^n, n)."""
        ends = np.array(list(product((-0.5, 0.5), repeat=len(self.size))))
        return np.asarray(ends * (np.asarray(self.size) - 1) @ self.matrix.T + self.centre)

    def relative(self, low: NDArray[np.intp], lengths: NDArray[np.intp]) -> Tensor:
        """The map from the sample to a box of the source as torch has it.

        Both count from −1 to 1 between their outer faces, the last axis first.

        Args:
            low: first pixel of the box along each axis.
            lengths: pixels of the box.

        Returns:
            float32, (axes, axes + 1).
        """
        matrix = self.matrix * np.asarray(self.size) / lengths[:, None]
        offset = (2 * (self.centre - low) + 1) / lengths - 1
        return torch.from_numpy(np.c_[matrix[::-1, ::-1], offset[::-1]].astype(np.float32))


def draw_placement(
    size: tuple[int, ...],
    centre: NDArray[np.float64],
    spacing_mm: tuple[float, ...],
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> Placement:
    """A random placement around ``centre``.

    Rotation and shear are those of space, not of the array: voxels need not be cubes. A scale
    above 1 makes the anatomy larger in the sample.

    Args:
        size: of the sample; its length is the number of axes.
        centre: of the sample in the source, before the random shift.
        spacing_mm: of the source along these axes.
        augmentation: what varies.
        rng: gives the same placement when it begins in the same state.
    """
    axes = len(size)
    reach = augmentation.translation * np.asarray(size) + augmentation.translation_px
    shift = rng.uniform(-1, 1, axes) * reach
    space = _rotation(axes, np.radians(augmentation.rotation_deg), rng)
    shear = np.eye(axes)
    shear[0, 1] = np.tan(rng.uniform(-1, 1) * augmentation.shear_rad)
    space = space @ shear * (1 + rng.uniform(-1, 1) * augmentation.scale)
    if rng.random() < augmentation.flip:
        space[:, 0] *= -1  # right and left: the first axis
    spacing = np.diag(np.asarray(spacing_mm[:axes], float))
    matrix = np.linalg.inv(spacing) @ np.linalg.inv(space) @ spacing
    return Placement(size, centre + shift, matrix)


def _rotation(axes: int, most: float, rng: np.random.Generator) -> NDArray[np.float64]:
    out = np.eye(axes)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        if second >= axes:
            continue
        angle = rng.uniform(-1, 1) * most
        turn = np.eye(axes)
        turn[[first, second], [first, second]] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        out = out @ turn
    return out


def take(
    source: NDArray[np.generic], placement: Placement, *, fill: float, linear: bool
) -> NDArray[np.float32]:
    """The sample of a source, interpolated.

    Args:
        source: ``(*space, channels)`` or ``(*space)``.
        placement: where it lies.
        fill: value outside the source.
        linear: linear interpolation; else the nearest value.

    Returns:
        ``(*size, channels)`` or ``(*size)``, float32.
    """
    axes = len(placement.size)
    plain = source.ndim == axes
    corners = placement.corners
    low = np.maximum(np.floor(corners.min(axis=0)).astype(int) - 1, 0)
    high = np.ceil(corners.max(axis=0)).astype(int) + 2
    box = tuple(slice(a, max(a, b)) for a, b in zip(low, high, strict=True))
    part = source[box][..., None] if plain else source[box]
    channels = part.shape[-1]
    if 0 in part.shape:
        out = np.full((*placement.size, channels), fill, np.float32)
        return out[..., 0] if plain else out
    values = torch.from_numpy(np.ascontiguousarray(np.moveaxis(part, -1, 0)))
    values = values.to(torch.float32) - fill  # not in place: it may be the source itself
    lengths = np.asarray(part.shape[:axes])
    grid = functional.affine_grid(
        placement.relative(low, lengths)[None], [1, 1, *placement.size], align_corners=False
    )
    mode = "bilinear" if linear else "nearest"
    found = functional.grid_sample(values[None], grid, mode=mode, align_corners=False)
    out = np.moveaxis(found[0].add_(fill).numpy(), 0, -1)
    return out[..., 0] if plain else out

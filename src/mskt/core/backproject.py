"""Bring probabilities from a working grid back to the input grid: interpolate, then argmax.

Nothing of size classes × input volume ever exists. Where both grids are parallel, mean probabilities
arrive slab by slab, are interpolated one output slice at a time and forgotten; where they are rotated
against each other, the probabilities of the (coarse) working grid are kept until it is complete.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mskt.core.interfaces import Estimate, Region
from mskt.core.resample import axis_coordinates, interpolation_matrix, parallel
from mskt.core.volume import Grid, to_canonical


class Output:
    """The two maps on the input grid that grow while slabs come in.

    Attributes:
        labels: uint8, shape of the input grid.
        uncertainty: float32, shape of the input grid; 0 where nothing was segmented.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.labels = np.zeros(grid.shape, np.uint8)
        self.uncertainty = np.zeros(grid.shape, np.float32)


class Projector(Protocol):
    """Takes the slabs of one working grid in order and writes into an :class:`Output`."""

    def add(self, region: Region, estimate: Estimate) -> None:
        """Take one region; regions of a slab in any order, slabs from the lowest up."""

    def finish(self) -> None:
        """Write what was held back."""


def projector(output: Output, working: Grid, classes: int) -> Projector:
    """The projector that suits the two grids."""
    if parallel(output.grid, working) and working.same_as(working.canonical()):
        return _ParallelProjector(output, working, classes)
    return _GeneralProjector(output, working, classes)


class _ParallelProjector:
    """Streams: holds the slab that comes in and the last slice of the one before."""

    def __init__(self, output: Output, working: Grid, classes: int) -> None:
        canonical = output.grid.canonical()
        self._labels = to_canonical(output.labels, output.grid)
        self._uncertainty = to_canonical(output.uncertainty, output.grid)
        along = axis_coordinates(canonical, working)
        self._rows, self._columns = (
            torch.from_numpy(interpolation_matrix(along[a], working.shape[a], widen=False))
            for a in (0, 1)
        )
        self._heights = along[2]
        self._working = working
        self._classes = classes
        self._slab: tuple[int, int, Tensor, Tensor] | None = None
        self._previous: tuple[Tensor, Tensor] | None = None

    def add(self, region: Region, estimate: Estimate) -> None:
        if self._slab is None or self._slab[0] != region.start[2]:
            self._flush(last=False)
            i, j, _ = self._working.shape
            depth = region.shape[2]
            self._slab = (
                region.start[2],
                region.stop[2],
                torch.zeros((self._classes, i, j, depth)),
                torch.zeros((i, j, depth)),
            )
        rows, columns, _ = region.slices
        self._slab[2][:, rows, columns] = estimate.probabilities.float().cpu()
        self._slab[3][rows, columns] = estimate.uncertainty.float().cpu()

    def finish(self) -> None:
        self._flush(last=True)

    def _flush(self, *, last: bool) -> None:
        """Write all output slices that lie between slices that are known by now."""
        if self._slab is None:
            return
        start, stop, probabilities, uncertainty = self._slab
        low = start - 0.5 if start == 0 else start - 1.0
        high = stop - 0.5 if last else stop - 1.0
        inside = (self._heights >= low - 1e-6) & (
            self._heights < high if not last else self._heights <= high + 1e-6
        )
        for k in np.flatnonzero(inside):
            height = float(np.clip(self._heights[k], 0, self._working.shape[2] - 1))
            below = min(int(np.floor(height)), stop - 1)
            share = height - below
            pair = [self._slice(below), self._slice(min(below + 1, stop - 1))]
            self._write(
                int(k), pair[0][0].lerp(pair[1][0], share), pair[0][1].lerp(pair[1][1], share)
            )
        self._previous = (probabilities[..., -1].clone(), uncertainty[..., -1].clone())
        self._slab = None

    def _slice(self, k: int) -> tuple[Tensor, Tensor]:
        """Probabilities and uncertainty of working slice ``k``, of this slab or the last before."""
        assert self._slab is not None
        start, _, probabilities, uncertainty = self._slab
        if k < start:
            assert self._previous is not None
            return self._previous
        return probabilities[..., k - start], uncertainty[..., k - start]

    def _write(self, k: int, probabilities: Tensor, uncertainty: Tensor) -> None:
        """Interpolate one slice in plane and take the most probable class.

        Only classes that reach 1/C somewhere in the slice can be the largest anywhere after linear
        interpolation; only the box where some voxel is not plain background is looked at.
        """
        busy = (probabilities[0] < 1) | (uncertainty > 0)
        if not busy.any():
            return
        r0, r1 = _span(busy.any(dim=1), self._rows)
        c0, c1 = _span(busy.any(dim=0), self._columns)
        rows, columns = self._rows[r0:r1], self._columns[c0:c1]
        peak = probabilities.flatten(1).amax(dim=1)
        candidates = torch.nonzero(peak >= 1 / self._classes - 1e-6).flatten()
        fine = rows @ probabilities[candidates] @ columns.T
        winner = candidates.to(torch.uint8)[fine.argmax(dim=0)]
        known = rows.any(dim=1)[:, None] & columns.any(dim=1)[None, :]
        self._labels[r0:r1, c0:c1, k] = (winner * known).numpy()
        self._uncertainty[r0:r1, c0:c1, k] = (rows @ uncertainty @ columns.T).numpy()


def _span(busy: Tensor, weights: Tensor) -> tuple[int, int]:
    """First and last + 1 output index that any busy working index contributes to."""
    touched = torch.nonzero(weights[:, busy].any(dim=1)).flatten()
    if len(touched) == 0:
        return 0, 0
    return int(touched[0]), int(touched[-1]) + 1


class _GeneralProjector:
    """Keeps the working grid's mean probabilities (float16) and samples them trilinearly at the end."""

    def __init__(self, output: Output, working: Grid, classes: int) -> None:
        self._output = output
        self._working = working
        self._probabilities = torch.zeros((classes, *working.shape), dtype=torch.float16)
        self._uncertainty = torch.zeros(working.shape)

    def add(self, region: Region, estimate: Estimate) -> None:
        self._probabilities[(slice(None), *region.slices)] = estimate.probabilities.half().cpu()
        self._uncertainty[region.slices] = estimate.uncertainty.float().cpu()

    def finish(self) -> None:
        grid = self._output.grid
        matrix = np.linalg.inv(self._working.affine) @ grid.affine
        size = np.asarray(self._working.shape, float)
        for k in range(grid.shape[2]):
            index = _plane_indices(matrix, grid.shape, k)
            inside = ((index > -0.5) & (index < size[:, None, None] - 0.5)).all(axis=0)
            if not inside.any():
                continue
            fine, spread = self._sample(np.clip(index, 0, size[:, None, None] - 1))
            self._output.labels[:, :, k] = np.where(inside, fine, 0)
            self._output.uncertainty[:, :, k] = np.where(inside, spread, 0)

    def _sample(self, index: NDArray[np.float64]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Most probable class and uncertainty at fractional working indices ``(3, rows, columns)``."""
        size = self._working.shape
        base = [np.minimum(index[a].astype(np.int64), max(size[a] - 2, 0)) for a in range(3)]
        share = [torch.from_numpy(index[a] - base[a]).float() for a in range(3)]
        mean = torch.zeros((self._probabilities.shape[0], *index.shape[1:]))
        spread = torch.zeros(index.shape[1:])
        for corner in np.ndindex(2, 2, 2):
            weight = torch.ones(index.shape[1:])
            at = []
            for a in range(3):
                weight = weight * (share[a] if corner[a] else 1 - share[a])
                at.append(torch.from_numpy(np.minimum(base[a] + corner[a], size[a] - 1)))
            mean += weight * self._probabilities[:, at[0], at[1], at[2]].float()
            spread += weight * self._uncertainty[at[0], at[1], at[2]]
        return mean.argmax(dim=0).to(torch.uint8).numpy(), spread.numpy()


def _plane_indices(
    matrix: NDArray[np.float64], shape: tuple[int, int, int], k: int
) -> NDArray[np.float64]:
    """Working indices ``(3, i, j)`` of the voxels of output plane ``k``."""
    i = np.arange(shape[0])[None, :, None]
    j = np.arange(shape[1])[None, None, :]
    column = matrix[:3, :, None, None]
    return np.asarray(column[:, 0] * i + column[:, 1] * j + column[:, 2] * k + column[:, 3])

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
from torch.nn import functional

from mskt.core.interfaces import Estimate, Region
from mskt.core.resample import axis_coordinates, interpolation_matrix, parallel
from mskt.core.volume import Grid, to_canonical

CHUNK_BYTES = 64e6
"""Memory for the part of the output that is sampled at a time."""


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
    """Keeps the working grid's mean probabilities (float16) and samples them trilinearly at the end.

    Several working grids may overlap (two legs): what one has labelled, the background of another
    leaves alone. Only the box of the output that busy working voxels reach is looked at, a few
    slices at a time.
    """

    def __init__(self, output: Output, working: Grid, classes: int) -> None:
        self._output = output
        self._working = working
        self._probabilities = torch.zeros((classes, *working.shape), dtype=torch.float16)
        self._probabilities[0] = 1
        self._uncertainty = torch.zeros(working.shape)

    def add(self, region: Region, estimate: Estimate) -> None:
        self._probabilities[(slice(None), *region.slices)] = estimate.probabilities.half().cpu()
        self._uncertainty[region.slices] = estimate.uncertainty.float().cpu()

    def finish(self) -> None:
        busy = _box((self._probabilities[0] < 1) | (self._uncertainty > 0))
        if busy is None:
            return
        to_output = np.linalg.inv(self._output.grid.affine) @ self._working.affine
        reached = _reached(busy, to_output, self._output.grid.shape)
        if reached is None:
            return
        area = (reached[0].stop - reached[0].start) * (reached[1].stop - reached[1].start)
        step = max(1, int(CHUNK_BYTES / (4 * area * (len(self._probabilities) + 5))))
        for k in range(reached[2].start, reached[2].stop, step):
            self._write((*reached[:2], slice(k, min(k + step, reached[2].stop))))

    def _write(self, box: tuple[slice, slice, slice]) -> None:
        """Label one box of the output, but for what another working grid has labelled."""
        matrix = np.linalg.inv(self._working.affine) @ self._output.grid.affine
        index = _indices(matrix, box)
        size = np.asarray(self._working.shape)
        inside = ((index > -0.5) & (index < size - 0.5)).all(axis=-1)
        if not inside.any():
            return
        winner, spread = self._sample(np.clip(index, 0, size - 1))
        labels = self._output.labels[box].transpose(2, 0, 1)
        uncertainty = self._output.uncertainty[box].transpose(2, 0, 1)
        mine = inside & (winner > 0)
        either = inside & (labels == 0) & ~mine
        np.copyto(uncertainty, np.maximum(uncertainty, spread), where=either)
        np.copyto(uncertainty, spread, where=mine)
        np.copyto(labels, winner, where=mine)

    def _sample(self, index: NDArray[np.float64]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Most probable class and uncertainty at working indices ``(slices, rows, columns, 3)``.

        Of the working grid, only the box around the places is made float32, and of the classes
        only those that are the most probable somewhere in it, with room for rounding.
        """
        low = np.floor(index.min(axis=(0, 1, 2))).astype(int)
        high = np.ceil(index.max(axis=(0, 1, 2))).astype(int) + 1
        part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        near = self._probabilities[(slice(None), *part)]
        least = 1 / len(self._probabilities) - 1e-2
        able = torch.nonzero(near.flatten(1).amax(dim=1) >= least).flatten()
        values = torch.cat([near[able].float(), self._uncertainty[part][None]])
        # Voxel centres lie at (2 i + 1) / n − 1; the last axis of the array comes first.
        places = ((2 * (index - low) + 1) / (high - low) - 1)[..., ::-1].astype(np.float32)
        found = functional.grid_sample(
            values.expand(len(index), *values.shape),
            torch.from_numpy(np.ascontiguousarray(places))[:, None],
            padding_mode="border",
            align_corners=False,
        )[:, :, 0]
        winner = able.to(torch.uint8)[found[:, :-1].argmax(dim=1)]
        return winner.numpy(), found[:, -1].numpy()


def _box(busy: Tensor) -> tuple[slice, slice, slice] | None:
    """The smallest box that holds all busy voxels; None if there are none."""
    spans = []
    for axis in range(3):
        others = [a for a in range(3) if a != axis]
        hit = torch.nonzero(busy.any(dim=others[1]).any(dim=others[0])).flatten()
        if len(hit) == 0:
            return None
        spans.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return spans[0], spans[1], spans[2]


def _reached(
    busy: tuple[slice, slice, slice], matrix: NDArray[np.float64], shape: tuple[int, int, int]
) -> tuple[slice, slice, slice] | None:
    """The box of the output that a box of the working grid has any weight in; None: it has none."""
    ends = [np.array([part.start - 1, part.stop]) for part in busy]
    corners = np.stack(np.meshgrid(*ends, [1.0], indexing="ij"), axis=-1).reshape(-1, 4)
    index = corners @ matrix[:3].T
    low = np.maximum(np.floor(index.min(axis=0)), 0).astype(int)
    high = np.minimum(np.ceil(index.max(axis=0)) + 1, shape).astype(int)
    if (low >= high).any():
        return None
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])


def _indices(matrix: NDArray[np.float64], box: tuple[slice, slice, slice]) -> NDArray[np.float64]:
    """Working indices of the voxels of a box of the output, ``(k, i, j, 3)``."""
    i, j, k = (np.arange(part.start, part.stop) for part in box)
    columns = matrix[:3, :3].T
    return np.asarray(
        k[:, None, None, None] * columns[2]
        + i[None, :, None, None] * columns[0]
        + j[None, None, :, None] * columns[1]
        + matrix[:3, 3]
    )

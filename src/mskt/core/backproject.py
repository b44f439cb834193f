"""Bring probabilities from a working grid back to the input grid: interpolate, then argmax.

Nothing of size classes × input volume ever exists. Where both grids are parallel, mean probabilities
arrive slab by slab, are interpolated one output slice at a time and forgotten; where they are rotated
against each other, the probabilities of the (coarse) working grid are kept until it is complete.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mskt.core.interfaces import Estimate, Region
from mskt.core.resample import axis_coordinates, parallel
from mskt.core.threads import each
from mskt.core.volume import Grid, to_canonical

MIXED = 255
"""Not a class: there are at most 255, background included."""
CHUNK_BYTES = 64e6
"""Memory for the part of the output that is sampled at a time."""
_SHARPEN = 0.125
"""Part of a voxel's second difference that is taken away before sampling between rotated grids. Linear
interpolation at a place t between two voxels blurs by t(1 − t)/2 of it, 1/12 on average; the way there,
on which the image was interpolated too, by up to as much again."""


class Output:
    """The two maps on the input grid that grow while slabs come in.

    Attributes:
        labels: uint8, shape of the input grid.
        uncertainty: float32, shape of the input grid; 0 where nothing was segmented.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        # Slice by slice, as they are computed and as files have them.
        self.labels = np.zeros(grid.shape, np.uint8, order="F")
        self.uncertainty = np.zeros(grid.shape, np.float32, order="F")


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


@dataclass(frozen=True)
class _Taps:
    """The output voxels along one axis, each between two voxels of the working grid.

    Attributes:
        low, high: the two.
        share: of ``high``, 0 … 1.
        known: which output voxels lie inside the working grid.
    """

    low: Tensor
    high: Tensor
    share: Tensor
    known: Tensor

    @classmethod
    def of(cls, places: NDArray[np.float64], length: int) -> _Taps:
        """Taps at fractional indices into an axis of ``length`` voxels."""
        inner = np.clip(places, 0, length - 1)
        low = np.floor(inner).astype(np.int64)
        return cls(
            torch.from_numpy(low),
            torch.from_numpy(np.minimum(low + 1, length - 1)),
            torch.from_numpy((inner - low).astype(np.float32)),
            torch.from_numpy((places > -0.5 - 1e-6) & (places < length - 0.5 + 1e-6)),
        )

    def to(self, device: torch.device) -> _Taps:
        """The same on a device."""
        return _Taps(*(getattr(self, one.name).to(device) for one in fields(self)))

    def between(self, values: Tensor) -> Tensor:
        """Interpolate the rows of ``values``; 0 outside the working grid."""
        low, high = values.index_select(0, self.low), values.index_select(0, self.high)
        found = low.lerp_(high, self.share[:, None])
        return found.mul_(self.known[:, None])


@dataclass(frozen=True)
class _Plane:
    """A slice of the working grid, or several.

    Attributes:
        table: probabilities, classes last.
        winner: uint8, the most probable class.
        uncertainty: float32.
    """

    table: Tensor
    winner: Tensor
    uncertainty: Tensor

    def slice(self, n: int) -> _Plane:
        """Slice ``n`` of several; its table is ``(rows · columns, classes)``."""
        return _Plane(self.table[n].flatten(0, 1), self.winner[n], self.uncertainty[n])


@dataclass(frozen=True)
class _Pair:
    """Two neighbouring slices of the working grid.

    Attributes:
        table: of both, one below the other.
        cells: the class of each cell of eight voxels of which all name it; else :data:`MIXED`.
        below, above: uncertainty.
    """

    table: Tensor
    cells: Tensor
    below: Tensor
    above: Tensor


class _ParallelProjector:
    """Streams: holds the slab that comes in and the last slice of the one before.

    Where all eight voxels around a place name one class, so does what is interpolated between them:
    a weighted mean keeps the order. Only at the other places, a tenth or less, probabilities are
    interpolated. All is computed where the estimates are, and the label map alone is fetched.
    """

    def __init__(self, output: Output, working: Grid, classes: int) -> None:
        canonical = output.grid.canonical()
        self._labels = to_canonical(output.labels, output.grid)
        self._uncertainty = to_canonical(output.uncertainty, output.grid)
        along = axis_coordinates(canonical, working)
        self._rows, self._columns = (_Taps.of(along[a], working.shape[a]) for a in (0, 1))
        self._heights = along[2]
        self._all_known = bool(self._rows.known.all() and self._columns.known.all())
        self._working = working
        self._classes = classes
        self._slab: tuple[int, int, _Plane] | None = None
        self._previous: _Plane | None = None

    def add(self, region: Region, estimate: Estimate) -> None:
        device = estimate.probabilities.device
        if self._slab is None or self._slab[0] != region.start[2]:
            self._flush(last=False)
            i, j, _ = self._working.shape
            depth = region.shape[2]
            planes = _Plane(
                torch.zeros((depth, i, j, self._classes), device=device),
                torch.zeros((depth, i, j), dtype=torch.uint8, device=device),
                torch.zeros((depth, i, j), device=device),
            )
            self._slab = (region.start[2], region.stop[2], planes)
            self._rows, self._columns = self._rows.to(device), self._columns.to(device)
        part = (slice(None), *region.slices[:2])
        probabilities, planes = estimate.probabilities.float(), self._slab[2]
        planes.table[part] = probabilities.permute(3, 1, 2, 0)
        planes.winner[part] = estimate.winner[1].permute(2, 0, 1)
        planes.uncertainty[part] = estimate.uncertainty.float().permute(2, 0, 1)

    def finish(self) -> None:
        self._flush(last=True)

    def _flush(self, *, last: bool) -> None:
        """Write all output slices that lie between slices that are known by now."""
        if self._slab is None:
            return
        start, stop, slab = self._slab
        planes = {start + n: slab.slice(n) for n in range(stop - start)}
        if self._previous is not None:
            planes[start - 1] = self._previous
        low = start - 0.5 if start == 0 else start - 1.0
        high = stop - 0.5 if last else stop - 1.0
        inside = (self._heights >= low - 1e-6) & (
            self._heights < high if not last else self._heights <= high + 1e-6
        )
        between: dict[int, list[tuple[int, float]]] = {}
        for k in np.flatnonzero(inside).tolist():
            height = float(np.clip(self._heights[k], 0, self._working.shape[2] - 1))
            below = min(max(int(np.floor(height)), min(planes)), stop - 1)
            between.setdefault(below, []).append((k, max(height - below, 0.0)))

        def fill(below: int) -> None:
            pair = _pair(planes[below], planes[min(below + 1, stop - 1)])
            for k, share in between[below]:
                self._write(k, pair, share)

        # Operations on one slice are too short to be shared among threads: where other programs keep a
        # core busy, every one of them would wait for it.
        each(fill, between, slab.table.device)
        self._previous = planes[stop - 1]
        self._slab = None

    def _write(self, k: int, pair: _Pair, share: float) -> None:
        """One slice of the output, ``share`` of the way from the lower to the upper slice.

        Computed as columns × rows, the order in which the output lies in memory.
        """
        uncertainty = pair.below.lerp(pair.above, share)
        if not (pair.cells.any() or uncertainty.any()):
            return
        rows, columns = self._rows, self._columns
        label = pair.cells.index_select(0, rows.low).T.contiguous().index_select(0, columns.low)
        if not self._all_known:
            label *= columns.known[:, None] & rows.known
        mixed = _places(label == MIXED)
        if len(mixed[0]):
            label[mixed] = self._most_probable(mixed[1], mixed[0], pair, share)
        self._labels[:, :, k].T[...] = label.cpu().numpy()
        fine = columns.between(rows.between(uncertainty).T.contiguous())
        self._uncertainty[:, :, k].T[...] = fine.cpu().numpy()

    def _most_probable(self, row: Tensor, column: Tensor, pair: _Pair, share: float) -> Tensor:
        """The most probable class at places of an output slice, by trilinear interpolation."""
        i, j, _ = self._working.shape
        taps: list[Tensor] = []
        weights: list[Tensor] = []
        to_row, to_column = self._rows.share[row], self._columns.share[column]
        for a, of_row in ((self._rows.low, 1 - to_row), (self._rows.high, to_row)):
            start = a[row] * j
            for b, of_column in (
                (self._columns.low, 1 - to_column),
                (self._columns.high, to_column),
            ):
                place, weight = start + b[column], of_row * of_column
                taps += [place, place + i * j]
                weights += [weight * (1 - share), weight * share]
        values = functional.embedding_bag(
            torch.stack(taps, dim=1),
            pair.table,
            mode="sum",
            per_sample_weights=torch.stack(weights, dim=1),
        )
        return values.max(dim=1).indices.to(torch.uint8)


def _places(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of what is true; where little is, NumPy finds it ten times faster than torch."""
    if chosen.device.type != "cpu":
        row, column = chosen.nonzero(as_tuple=True)
        return row, column
    flat = torch.from_numpy(np.flatnonzero(chosen.numpy()))
    return flat.div(chosen.shape[1], rounding_mode="floor"), flat % chosen.shape[1]


def _pair(below: _Plane, above: _Plane) -> _Pair:
    """Cells are counted by their lowest corner; those of the last row or column have no upper one."""
    winner = below.winner
    same = above.winner == winner
    same[:-1] &= same[1:].clone() & (winner[:-1] == winner[1:])
    same[:, :-1] &= same[:, 1:].clone() & (winner[:, :-1] == winner[:, 1:])
    cells = winner.masked_fill(~same, MIXED)
    return _Pair(torch.cat([below.table, above.table]), cells, below.uncertainty, above.uncertainty)


class _GeneralProjector:
    """Keeps the working grid's mean probabilities (float16) and samples them trilinearly at the end.

    They are sharpened before by what interpolating blurs: else thin structures come back thinner.
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
        _sharpen(self._probabilities)
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


def _sharpen(probabilities: Tensor) -> None:
    """Take some of the second difference along each axis away, in place, class by class.

    Each row of places still adds up to one, so the most probable class is at least 1 / classes.
    """
    for one in probabilities:
        sharp = one.float()
        for axis in range(3):
            last = sharp.shape[axis] - 1
            before = torch.arange(-1, last).clamp_(min=0)
            after = torch.arange(1, last + 2).clamp_(max=last)
            around = sharp.index_select(axis, before).add_(sharp.index_select(axis, after))
            sharp = torch.add(sharp * (1 + 2 * _SHARPEN), around, alpha=-_SHARPEN)
        one.copy_(sharp)


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

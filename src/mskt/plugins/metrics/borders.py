"""Border voxels of all structures at once, and distances between two sets of them.

A border voxel is a foreground voxel with at least one of its six face neighbours outside its
structure; beyond the edge of the volume everything is outside (Styner 2008). What is found by one
walk over both maps (:func:`scan_of`) serves every metric of the pair. Two functions carry the
weight, and either has a compiled version that gives the same (:mod:`~mskt.plugins.metrics.engine`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mskt.core.foreground import foreground_box
from mskt.core.interfaces import LabelPair
from mskt.plugins.metrics import engine

_SLAB_VOXELS = 1 << 22
_ROWS_TO_VISIT = 2000
"""Of the compiled search around a point; targets beyond are left to the tree."""
_ROWS_OF_BOX = 1 << 26
"""The compiled search keeps a number for each row of a structure's box; a box of more is not its."""

Ints = NDArray[np.int64]
Shape = tuple[int, int, int]
Visit = tuple[NDArray[np.int32], NDArray[np.float64], float]


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances in mm from every border voxel of one mask to the nearest one of the other.

    Attributes:
        from_prediction, from_reference: float64, in no particular order; None where the other mask,
            or both, lack the structure.
        in_prediction, in_reference: number of border voxels.
    """

    index: int
    in_prediction: int
    in_reference: int
    from_prediction: NDArray[np.float64] | None
    from_reference: NDArray[np.float64] | None


@dataclass(frozen=True)
class Borders:
    """Border voxels of one map, sorted by structure.

    Attributes:
        index: structure of each voxel.
        place: flat place of each voxel in the cropped map, C order, ascending in a structure.
        shared: true where the other map has a border of the same structure in the same voxel.
    """

    index: NDArray[Any]
    place: Ints
    shared: NDArray[np.bool_]

    def of(self, index: int) -> slice:
        """Where the voxels of a structure stand."""
        if index > np.iinfo(self.index.dtype).max:
            return slice(0, 0)
        start = np.searchsorted(self.index, self.index.dtype.type(index), "left")
        stop = np.searchsorted(self.index, self.index.dtype.type(index), "right")
        return slice(int(start), int(stop))


@dataclass(frozen=True)
class Scan:
    """What one walk over both maps finds.

    Attributes:
        counts: joint histogram, see :func:`mskt.plugins.metrics.joint.joint_histogram`.
        prediction, reference: their border voxels.
        shape, spacing_mm: of the cropped maps, axes in memory order.
        kernels: the compiled functions that made it, None for NumPy.
    """

    counts: NDArray[np.int64]
    prediction: Borders
    reference: Borders
    shape: Shape
    spacing_mm: tuple[float, float, float]
    kernels: engine.Kernels | None


def scan_of(pair: LabelPair) -> Scan:
    """Walk over both maps once, however many metrics ask: what is found stays with the pair."""
    held = vars(pair)
    if "_scan" not in held:
        held["_scan"] = _scan(pair)
    found: Scan = held["_scan"]
    return found


def surface_distances(pair: LabelPair) -> Iterator[SurfaceDistances]:
    """Yield the distances of each of ``pair.indices``, in that order."""
    scan = scan_of(pair)
    visit = _rows_around(scan) if scan.kernels is not None and all(scan.shape) else None

    def measured(index: int) -> SurfaceDistances:
        mine, theirs = scan.prediction.of(index), scan.reference.of(index)
        here = (mine.stop - mine.start, theirs.stop - theirs.start)
        if not all(here):
            return SurfaceDistances(index, *here, None, None)
        both = (scan.prediction.place[mine], scan.reference.place[theirs])
        known = (scan.prediction.shared[mine], scan.reference.shared[theirs])
        if scan.kernels is not None and visit is not None:
            forth = _by_rows(scan, scan.kernels, visit, both[0], known[0], both[1])
            back = _by_rows(scan, scan.kernels, visit, both[1], known[1], both[0])
        else:
            forth, back = _by_tree(scan, both, known)
        return SurfaceDistances(index, *here, forth, back)

    yield from engine.each(measured, pair.indices)


def nearest_mm(points: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exact distance from each point to the nearest target, ``(n, 3)`` and ``(m, 3)`` in mm."""
    if not len(points):
        return np.zeros(0)
    from scipy.spatial import cKDTree  # takes long to load, and the compiled search rarely needs it

    # Points on a lattice are spread evenly: midpoint splits build faster and search as fast.
    tree = cKDTree(targets, balanced_tree=False, compact_nodes=False)
    distances, _ = tree.query(points)
    return np.asarray(distances, np.float64)


def points_mm(place: Ints, shape: Shape, spacing_mm: tuple[float, float, float]) -> NDArray[Any]:
    """Positions ``(n, 3)`` of flat places; the volume may have more than 2³¹ voxels."""
    return np.asarray(np.stack(np.unravel_index(place, shape), axis=1) * np.asarray(spacing_mm))


def _by_tree(
    scan: Scan, places: tuple[Ints, Ints], shared: tuple[NDArray[np.bool_], NDArray[np.bool_]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances both ways, searching only for those that are no target themselves."""
    points = [points_mm(place, scan.shape, scan.spacing_mm) for place in places]
    found = [np.zeros(len(place)) for place in places]
    for this, other in ((0, 1), (1, 0)):
        away = ~shared[this]
        found[this][away] = nearest_mm(points[this][away], points[other])
    return found[0], found[1]


def _by_rows(
    scan: Scan,
    kernels: engine.Kernels,
    visit: Visit,
    points: Ints,
    shared: NDArray[np.bool_],
    targets: Ints,
) -> NDArray[np.float64]:
    """The same in one direction by the compiled search; the tree for what lies far away."""
    row = targets // scan.shape[2]
    planes, rows = row // scan.shape[1], row % scan.shape[1]
    low = np.array([planes[0], rows.min()])
    size = (int(planes[-1] - low[0]) + 1, int(rows.max() - low[1]) + 1)
    found = np.full(len(points), -1.0)
    found[shared] = 0.0
    if size[0] * size[1] <= _ROWS_OF_BOX:
        starts = np.empty((size[0], size[1] + 1), np.int64)
        columns = np.empty(len(targets), np.int32)
        kernels.row_starts(targets, scan.shape, low, starts, columns)
        step = scan.spacing_mm[2]
        if not kernels.nearest(
            points, shared, scan.shape, low, starts, columns, step, *visit, found
        ):
            return found
    far = found < 0
    found[far] = nearest_mm(
        *(points_mm(place, scan.shape, scan.spacing_mm) for place in (points[far], targets))
    )
    return found


def _rows_around(scan: Scan) -> Visit:
    """Rows around a point, from near to far: offsets, squared distances, and that of those left out.

    All rows up to a radius are there, so the nearest target is known once it is nearer than the
    rows that are left out; in a small volume none is.
    """
    step, most = np.asarray(scan.spacing_mm[:2]), np.asarray(scan.shape[:2]) - 1
    radius = np.sqrt(_ROWS_TO_VISIT * step.prod() / np.pi)
    # Where spacings differ extremely, the nearest rows all lie along one axis.
    reach = np.minimum(np.minimum(radius / step, _ROWS_TO_VISIT).astype(np.int64), most)
    beyond = np.where(reach < most, ((reach + 1) * step) ** 2, np.inf).min()
    a, b = (grid.ravel() for grid in np.mgrid[-reach[0] : reach[0] + 1, -reach[1] : reach[1] + 1])
    squared = (a * step[0]) ** 2 + (b * step[1]) ** 2
    order = np.argsort(squared, kind="stable")
    order = order[squared[order] < beyond]
    offsets = np.stack([a[order], b[order]], axis=1).astype(np.int32)
    return offsets, squared[order], float(beyond)


def _scan(pair: LabelPair) -> Scan:
    """See :func:`scan_of`."""
    prediction, reference = _cropped(pair)
    order = np.argsort([-abs(stride) for stride in prediction.strides], kind="stable")
    prediction, reference = prediction.transpose(order), reference.transpose(order)
    spacing = tuple(np.asarray(pair.spacing_mm, float)[order].tolist())
    kernels = engine.kernels_for(prediction.size) if _compiles(prediction, reference) else None
    size = len(pair.indices) + 1
    counts = np.zeros((size, size), np.int64)
    found: tuple[list[Borders], list[Borders]] = ([], [])
    if prediction.size:
        table = _table(prediction, reference, pair.indices)
        plane = int(np.prod(prediction.shape[1:]))
        step = max(1, _SLAB_VOXELS // plane)

        def walked(start: int) -> tuple[NDArray[np.int64], Borders, Borders]:
            stop = min(start + step, len(prediction))
            if kernels is None:
                return _slab(prediction, reference, start, stop, table, size)
            return _compiled_slab(kernels, prediction, reference, start, stop, table, size)

        for part, first, second in engine.each(walked, range(0, len(prediction), step)):
            counts += part
            found[0].append(first)
            found[1].append(second)
    counts[0, 0] = 0
    first, second = (_sorted(parts, prediction.dtype) for parts in found)
    return Scan(
        counts, first, second, prediction.shape, (spacing[0], spacing[1], spacing[2]), kernels
    )


def _compiles(prediction: NDArray[Any], reference: NDArray[Any]) -> bool:
    """Whether the compiled walk takes these maps: it counts the voxels of a plane with int32."""
    usual = prediction.dtype == reference.dtype and prediction.dtype in (np.uint8, np.uint16)
    return usual and int(np.prod(prediction.shape[1:], dtype=np.int64)) < 1 << 31


def _cropped(pair: LabelPair) -> tuple[NDArray[Any], NDArray[Any]]:
    """Cut both maps (as views) to the box that holds the foreground of either."""
    boxes = [box for box in map(foreground_box, (pair.prediction, pair.reference)) if box]
    if not boxes:
        return pair.prediction[:0], pair.reference[:0]
    union = tuple(
        slice(min(box[axis].start for box in boxes), max(box[axis].stop for box in boxes))
        for axis in range(3)
    )
    return pair.prediction[union], pair.reference[union]


def _table(
    prediction: NDArray[Any], reference: NDArray[Any], indices: tuple[int, ...]
) -> NDArray[np.int64]:
    """Build the table from label value to place in the histogram."""
    table = np.zeros(max(int(prediction.max()), int(reference.max()), *indices, 0) + 1, np.int64)
    for place, index in enumerate(indices, start=1):
        table[index] = place
    return table


def _slab(
    prediction: NDArray[Any],
    reference: NDArray[Any],
    start: int,
    stop: int,
    table: NDArray[np.int64],
    size: int,
) -> tuple[NDArray[np.int64], Borders, Borders]:
    """Joint histogram and borders of the planes ``start`` to ``stop`` (exclusive)."""
    maps = (prediction, reference)
    flat = [np.ascontiguousarray(labels[start:stop]).ravel() for labels in maps]
    here = np.flatnonzero(flat[0] | flat[1])
    joint = table[flat[0][here]] * size + table[flat[1][here]]
    counts = np.bincount(joint, minlength=size * size).reshape(size, size)
    borders = [border_voxels(labels, start, stop) for labels in maps]
    both = borders[0] & borders[1] & (flat[0] == flat[1])
    offset = start * int(np.prod(prediction.shape[1:]))
    first, second = (
        Borders(labels[place], place + offset, both[place])
        for labels, place in zip(flat, map(np.flatnonzero, borders), strict=True)
    )
    return counts, first, second


def _compiled_slab(
    kernels: engine.Kernels,
    prediction: NDArray[Any],
    reference: NDArray[Any],
    start: int,
    stop: int,
    table: NDArray[np.int64],
    size: int,
) -> tuple[NDArray[np.int64], Borders, Borders]:
    """The same by the compiled walk."""
    above = max(start - 1, 0)
    maps = [np.ascontiguousarray(labels[above : stop + 1]) for labels in (prediction, reference)]
    plane = int(np.prod(prediction.shape[1:]))
    room = (stop - start) * plane
    places = (np.empty(room, np.int32), np.empty(room, np.int32))
    labels = (np.empty(room, prediction.dtype), np.empty(room, prediction.dtype))
    shared = (np.empty(room, bool), np.empty(room, bool))
    counts = np.zeros((size, size), np.int64)
    lengths = kernels.scan(
        *maps, start - above, stop - above, table, counts, places, labels, shared
    )
    first, second = (
        Borders(
            labels[n][:length].copy(),
            places[n][:length].astype(np.int64) + start * plane,
            shared[n][:length].copy(),
        )
        for n, length in enumerate(lengths)
    )
    return counts, first, second


def border_voxels(labels: NDArray[Any], start: int, stop: int) -> NDArray[np.bool_]:
    """Mark the border voxels of every structure in the planes ``start`` to ``stop`` (exclusive).

    Returns:
        bool, flat, C order of ``labels[start:stop]``.
    """
    inner = labels[start:stop]
    border = np.zeros(inner.shape, bool)
    for axis in range(3):
        low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        differs = inner[low] != inner[high]
        border[low] |= differs
        border[high] |= differs
        if axis:
            ends = tuple([0, -1] if a == axis else slice(None) for a in range(3))
            border[ends] = True
    border[0] |= True if start == 0 else inner[0] != labels[start - 1]
    border[-1] |= True if stop == len(labels) else inner[-1] != labels[stop]
    border &= inner != 0
    return border.ravel()


def _sorted(parts: list[Borders], dtype: np.dtype[Any]) -> Borders:
    """Join the slabs and sort by structure; places stay ascending."""
    if not parts:
        return Borders(np.zeros(0, dtype), np.zeros(0, np.int64), np.zeros(0, bool))
    index, place, shared = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("index", "place", "shared")
    )
    order = np.argsort(index, kind="stable")
    return Borders(index[order], place[order], shared[order])

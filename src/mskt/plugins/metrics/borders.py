"""Border voxels of all structures at once, and distances between two sets of them.

A border voxel is a foreground voxel with at least one of its six face neighbours outside its
structure; beyond the edge of the volume everything is outside (Styner 2008). Two functions carry
the weight and know nothing of the rest, :func:`border_voxels` and :func:`nearest_mm`: a compiled
version of either can take its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from mskt.core.interfaces import LabelPair
from mskt.plugins.metrics.joint import cropped

_SLAB_VOXELS = 1 << 22


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
class _Borders:
    """Border voxels of one map, sorted by structure.

    Attributes:
        index: structure of each voxel.
        place: flat place of each voxel in the cropped map, C order, ascending in a structure.
        shared: true where the other map has a border of the same structure in the same voxel.
    """

    index: NDArray[np.int64]
    place: NDArray[np.int64]
    shared: NDArray[np.bool_]

    def of(self, index: int) -> slice:
        """Where the voxels of a structure stand."""
        start, stop = np.searchsorted(self.index, [index, index + 1])
        return slice(int(start), int(stop))


def surface_distances(pair: LabelPair) -> Iterator[SurfaceDistances]:
    """Yield the distances of each of ``pair.indices``, in that order."""
    prediction, reference = cropped(pair)
    order = np.argsort([-abs(stride) for stride in prediction.strides], kind="stable")
    prediction, reference = prediction.transpose(order), reference.transpose(order)
    spacing = np.asarray(pair.spacing_mm, float)[order]
    first, second = _borders(prediction, reference)
    for index in pair.indices:
        mine, theirs = first.of(index), second.of(index)
        here = (mine.stop - mine.start, theirs.stop - theirs.start)
        if not all(here):
            yield SurfaceDistances(index, *here, None, None)
            continue
        points, targets = (
            np.stack(np.unravel_index(place, prediction.shape), axis=1) * spacing
            for place in (first.place[mine], second.place[theirs])
        )
        yield SurfaceDistances(
            index,
            *here,
            _with_zeros(points, first.shared[mine], targets),
            _with_zeros(targets, second.shared[theirs], points),
        )


def _with_zeros(
    points: NDArray[np.float64], shared: NDArray[np.bool_], targets: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Distances of all points, searching only for those that are no target themselves."""
    found = np.zeros(len(points))
    found[~shared] = nearest_mm(points[~shared], targets)
    return found


def nearest_mm(points: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exact distance from each point to the nearest target, ``(n, 3)`` and ``(m, 3)`` in mm."""
    if not len(points):
        return np.zeros(0)
    # Points on a lattice are spread evenly: midpoint splits build faster and search as fast.
    tree = cKDTree(targets, balanced_tree=False, compact_nodes=False)
    distances, _ = tree.query(points)
    return np.asarray(distances, np.float64)


def _borders(prediction: NDArray[Any], reference: NDArray[Any]) -> tuple[_Borders, _Borders]:
    """Find the border voxels of both maps in one walk along the first axis."""
    found: tuple[list[tuple[Any, Any, Any]], ...] = ([], [])
    plane = int(np.prod(prediction.shape[1:]))
    step = max(1, _SLAB_VOXELS // max(plane, 1))
    for start in range(0, len(prediction) if plane else 0, step):
        stop = min(start + step, len(prediction))
        slabs = [
            np.ascontiguousarray(labels[start:stop]).ravel() for labels in (prediction, reference)
        ]
        borders = [border_voxels(labels, start, stop) for labels in (prediction, reference)]
        both = borders[0] & borders[1] & (slabs[0] == slabs[1])
        for lists, labels, border in zip(found, slabs, borders, strict=True):
            places = np.flatnonzero(border)
            lists.append((labels[places], places + start * plane, both[places]))
    return _sorted(found[0]), _sorted(found[1])


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


def _sorted(parts: list[tuple[Any, Any, Any]]) -> _Borders:
    """Join the slabs and sort by structure; places stay ascending."""
    if not parts:
        return _Borders(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, bool))
    index, place, shared = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(index, kind="stable")
    return _Borders(index[order].astype(np.int64), place[order], shared[order])

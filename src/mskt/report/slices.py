"""Slices of a case cut out of its volumes and turned for display: nothing large is copied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mskt.core.volume import Grid, Labels, Volume, to_canonical
from mskt.report import views

_AROUND_MM = 40.0


@dataclass(frozen=True)
class Slice:
    """One slice turned for display: rows from top to bottom, columns from left to right.

    Attributes:
        mm: distance of rows and of columns.
        place: number of the slice in the input.
        levels: where the axial slices cross this one, 0 at the upper edge, 1 at the lower.
    """

    view: views.View
    hu: NDArray[np.float32]
    labels: NDArray[np.uint8]
    uncertainty: NDArray[np.float32]
    mm: tuple[float, float]
    place: str
    levels: tuple[float, ...]


def cut_slices(
    image: Volume, labels: Labels, sides: NDArray[np.uint8], uncertainty: NDArray[np.float32]
) -> list[Slice]:
    """The chosen slices of canonical views: nothing large is copied."""
    grid = image.grid
    target = grid.canonical()
    hu, lab, side, unc = (
        to_canonical(a, grid) for a in (image.data, labels.data, sides, uncertainty)
    )
    cuts = []
    chosen = views.choose(lab, side, target, labels.label_set)
    window = _window(lab, target)
    for view in chosen:
        index = min(view.index, target.shape[view.axis] - 1)
        first, second = (axis for axis in range(3) if axis != view.axis)
        mm = (target.spacing_mm[second], target.spacing_mm[first])
        crop = (window[first], window[second])
        shown = [_turn(_plane(a, view.axis, index)[crop]) for a in (hu, lab, unc)]
        levels = tuple(
            (window[2].stop - 0.5 - other.index) / (window[2].stop - window[2].start)
            for other in chosen
            if other.axis == 2 and view.axis != 2
        )
        cuts.append(
            Slice(view, shown[0], shown[1], shown[2], mm, _place(grid, view.axis, index), levels)
        )
    return cuts


def _window(labels: NDArray[np.uint8], grid: Grid) -> tuple[slice, slice, slice]:
    """The box around the labels and a margin: air and table need no room on the page."""
    found = []
    step = max(1, round((labels.size / 4e6) ** (1 / 3)))
    filled = labels[::step, ::step, ::step] > 0
    for axis in range(3):
        some = np.flatnonzero(filled.any(axis=tuple(a for a in range(3) if a != axis))) * step
        more = round(_AROUND_MM / grid.spacing_mm[axis])
        size = grid.shape[axis]
        found.append(
            slice(max(0, int(some[0]) - more), min(size, int(some[-1]) + step + more))
            if some.size
            else slice(0, size)
        )
    return (found[0], found[1], found[2])


def _plane(array: NDArray[Any], axis: int, index: int) -> NDArray[Any]:
    """A view of one slice. (``numpy.take`` would first copy a volume in Fortran order.)"""
    place: list[Any] = [slice(None)] * 3
    place[axis] = index
    plane: NDArray[Any] = array[tuple(place)]
    return plane


def _turn(plane: NDArray[Any]) -> NDArray[Any]:
    """Canonical ``(first, second)`` to display ``(row, column)``: second up, first to the left."""
    return np.ascontiguousarray(plane.T[::-1, ::-1])


def _place(grid: Grid, world: int, index: int) -> str:
    """Number of the slice as a viewer of the input file counts it, from 1."""
    axis = grid.axis_order[world]
    if grid.affine[world, axis] < 0:
        index = grid.shape[axis] - 1 - index
    return f"slice {index + 1} of {grid.shape[axis]}"

"""Connected components of a label map, and what is to be known of them without a look at every voxel.

Components are 26-connected (:mod:`mskt.core.foreground` says why).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from mskt.core.foreground import CONNECTIVITY, foreground_box
from mskt.core.volume import Grid, to_canonical


@dataclass(frozen=True, slots=True)
class Runs:
    """An image as runs of voxels that stand beside each other in memory and have one value.

    A run ends with its row. There are far fewer runs than voxels.

    Attributes:
        order: axes of the image from the slowest to the fastest in memory.
        value: of each run; 0 is background.
        start: flat place of each run's first voxel, axes in ``order``.
        length: voxels of each run.
    """

    order: tuple[int, int, int]
    value: NDArray[Any]
    start: NDArray[np.int64]
    length: NDArray[np.int64]

    @classmethod
    def of(cls, image: NDArray[Any]) -> Runs:
        """Find the runs of an image whose voxels lie together in memory."""
        first, second, third = np.argsort([-abs(s) for s in image.strides], kind="stable").tolist()
        order = (first, second, third)
        flat = image.transpose(order).reshape(-1)
        begins = np.empty(flat.size, bool)
        np.not_equal(flat[1:], flat[:-1], out=begins[1:])
        begins[:: image.shape[third]] = True
        start = np.flatnonzero(begins)
        return cls(order, flat[start], start, np.diff(start, append=flat.size))

    def looked_up(self, other: NDArray[Any]) -> NDArray[Any]:
        """Value of another array of the image's shape at the first voxel of each run."""
        return np.asarray(other.transpose(self.order).reshape(-1)[self.start])

    def voxels(self) -> NDArray[np.int64]:
        """Number of voxels of each value, the largest value last."""
        counts = np.bincount(self.value, weights=self.length)  # whole numbers, exact below 2⁵³
        return counts.astype(np.int64)

    def clear(self, chosen: NDArray[np.bool_], *others: NDArray[Any]) -> None:
        """Set the voxels of some runs to 0 in other arrays of the image's shape."""
        start, length = self.start[chosen], self.length[chosen]
        first = np.repeat(start - (np.cumsum(length) - length), length)
        flat = first + np.arange(first.size)
        for other in others:
            shape = [other.shape[axis] for axis in self.order]
            other.transpose(self.order)[np.unravel_index(flat, shape)] = 0


@dataclass(frozen=True)
class Components:
    """Connected components of a label map, cropped and canonical.

    Attributes:
        image: component numbers 1 … n; 0 is background.
        runs: the same in memory order, as runs.
        crop: where ``image`` lies in the canonical view of the labels.
        affine: voxel of ``image`` to RAS mm.
        index, voxels, centre_mm, box: structure, size, centroid (RAS mm) and index ranges
            ``(n + 1, 3, 2)`` of each component; row 0 stands for the background.
    """

    image: NDArray[Any]
    runs: Runs
    crop: tuple[slice, slice, slice]
    affine: NDArray[np.float64]
    index: NDArray[np.uint8]
    voxels: NDArray[np.int64]
    centre_mm: NDArray[np.float64]
    box: NDArray[np.int64]

    @classmethod
    def find(cls, labels: NDArray[np.uint8], grid: Grid) -> Components | None:
        """Find the connected components of a label map; None if it is empty."""
        view = to_canonical(labels, grid)
        box = foreground_box(view)
        if box is None:
            return None
        values = view[box].copy(order="K")
        image = connected(values)
        runs = Runs.of(image)
        number = int(runs.value.max()) + 1
        index = np.zeros(number, np.uint8)
        index[runs.value] = runs.looked_up(values)
        voxels, centre, ranges = _facts(runs, image.shape, number)
        affine = grid.canonical().affine.copy()
        affine[:3, 3] += affine[:3, :3] @ [part.start for part in box]
        centre = centre @ affine[:3, :3].T + affine[:3, 3]
        return cls(image, runs, box, affine, index, voxels, centre, ranges)

    def of(self, structure: int) -> NDArray[np.int64]:
        """Components of a structure, largest first."""
        mine = np.flatnonzero(self.index == structure)
        mine = mine[mine > 0]
        return np.asarray(mine[np.argsort(-self.voxels[mine], kind="stable")], np.int64)

    def corners_mm(self, component: int) -> NDArray[np.float64]:
        """List the eight corners of a component's box, ``(8, 3)`` RAS mm."""
        ranges = self.box[component]
        corners = np.array(np.meshgrid(*ranges, indexing="ij"), float).reshape(3, -1).T
        return np.asarray(corners @ self.affine[:3, :3].T + self.affine[:3, 3], np.float64)


def connected(values: NDArray[Any]) -> NDArray[Any]:
    """Number the connected pieces of equal values 1 … n; 0 stays 0. Shape and memory order are kept."""
    return np.asarray(cc3d.connected_components(values, connectivity=CONNECTIVITY))


def _facts(
    runs: Runs, shape: tuple[int, ...], number: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Sum up what the runs tell of the components 1 … ``number - 1``; row 0 stays empty.

    Returns:
        Size, mean index along each axis ``(number, 3)`` and index ranges ``(number, 3, 2)``, both
        ends included.
    """
    voxels = np.zeros(number, np.int64)
    centre, ranges = np.zeros((number, 3)), np.zeros((number, 3, 2), np.int64)
    here = np.flatnonzero(runs.value)
    # Sixteen bits are sorted several times faster than more.
    component = runs.value[here].astype(np.uint16 if number <= 1 << 16 else np.uint32)
    order = np.argsort(component, kind="stable")
    here = here[order]
    begins = np.searchsorted(component[order], np.arange(1, number, dtype=component.dtype))
    length = runs.length[here]
    voxels[1:] = np.add.reduceat(length, begins)
    place = runs.start[here]
    for step, axis in enumerate(reversed(runs.order)):
        place, low = np.divmod(place, shape[axis])
        more = 0 if step else length - 1  # along the fastest axis a run goes on
        total = np.add.reduceat((2 * low + more) * length, begins)  # twice: whole numbers
        centre[1:, axis] = total / 2 / voxels[1:]
        ranges[1:, axis, 0] = np.minimum.reduceat(low, begins)
        ranges[1:, axis, 1] = np.maximum.reduceat(low + more, begins)
    return voxels, centre, ranges

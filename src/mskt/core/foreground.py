"""Walk over label maps without full-size temporaries: boxes and slabs.

Components are 26-connected. Thin oblique muscles (sartorius, gracilis) are often one voxel wide in
a slice and hang together by edges and corners only; with 6-connectivity "the largest component"
would cut them off. The price, two sides that touch by a corner, is what the watershed is for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

CONNECTIVITY: Final = 26


def foreground_box(labels: NDArray[Any]) -> tuple[slice, slice, slice] | None:
    """Find the smallest box that holds all non-zero voxels; None if there are none."""
    box = [slice(0, n) for n in labels.shape]
    for axis in sorted(range(3), key=lambda a: -abs(labels.strides[a])):
        others = tuple(a for a in range(3) if a != axis)
        hit = np.flatnonzero(labels[tuple(box)].any(axis=others))
        if not hit.size:
            return None
        box[axis] = slice(int(hit[0]), int(hit[-1]) + 1)
    return (box[0], box[1], box[2])


def slabs(array: NDArray[Any], voxels: int = 1 << 22) -> Iterator[tuple[slice, slice, slice]]:
    """Boxes of about ``voxels`` along the slowest axis, so that temporaries stay small."""
    axis = int(np.argmax(np.abs(array.strides)))
    step = max(1, voxels * array.shape[axis] // max(array.size, 1))
    for start in range(0, array.shape[axis], step):
        box = [slice(None)] * 3
        box[axis] = slice(start, start + step)
        yield (box[0], box[1], box[2])

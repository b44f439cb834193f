"""The joint histogram of two label maps: all overlaps and volumes from one walk over the voxels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mskt.core.foreground import foreground_box, slabs
from mskt.core.interfaces import LabelPair


def joint_histogram(pair: LabelPair) -> NDArray[np.int64]:
    """Count voxels by prediction and reference.

    Returns:
        ``(n + 1, n + 1)`` for the n structures of ``pair.indices``: entry ``[p, r]`` is the number
        of voxels with ``indices[p - 1]`` in the prediction and ``indices[r - 1]`` in the reference;
        row and column 0 stand for everything else. Entry ``[0, 0]`` is not counted.
    """
    size = len(pair.indices) + 1
    counts = np.zeros(size * size, np.int64)
    prediction, reference = cropped(pair)
    if prediction.size:
        rows, columns = (_places(labels, pair.indices) for labels in (prediction, reference))
        for part in slabs(prediction):
            p, r = prediction[part], reference[part]
            here = (p != 0) | (r != 0)
            counts += np.bincount(rows[p[here]] * size + columns[r[here]], minlength=size * size)
    counts[0] = 0
    return counts.reshape(size, size)


def cropped(pair: LabelPair) -> tuple[NDArray[Any], NDArray[Any]]:
    """Cut both maps (as views) to the box that holds the foreground of either."""
    boxes = [box for box in map(foreground_box, (pair.prediction, pair.reference)) if box]
    if not boxes:
        return pair.prediction[:0], pair.reference[:0]
    union = tuple(
        slice(min(box[axis].start for box in boxes), max(box[axis].stop for box in boxes))
        for axis in range(3)
    )
    return pair.prediction[union], pair.reference[union]


def _places(labels: NDArray[Any], indices: tuple[int, ...]) -> NDArray[np.int64]:
    """Build the table from label value to place in the histogram."""
    table = np.zeros(max(int(labels.max()), *indices, 0) + 1, np.int64)
    for place, index in enumerate(indices, start=1):
        table[index] = place
    return table

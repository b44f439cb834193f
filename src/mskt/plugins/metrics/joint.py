"""The joint histogram of two label maps: all overlaps and volumes from one walk over the voxels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mskt.core.interfaces import LabelPair
from mskt.plugins.metrics.borders import scan_of


def joint_histogram(pair: LabelPair) -> NDArray[np.int64]:
    """Count voxels by prediction and reference.

    Returns:
        ``(n + 1, n + 1)`` for the n structures of ``pair.indices``: entry ``[p, r]`` is the number
        of voxels with ``indices[p - 1]`` in the prediction and ``indices[r - 1]`` in the reference;
        row and column 0 stand for everything else. Entry ``[0, 0]`` is not counted.
    """
    return scan_of(pair).counts

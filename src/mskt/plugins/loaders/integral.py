"""Label maps stored as floats: accepted if every value is a whole number."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mskt.core.errors import InputError


def whole_numbers(data: NDArray[Any], thing: str) -> NDArray[Any]:
    """The label map as integers; an integer array comes back as it is.

    Raises:
        InputError: a value is no whole number (a probability map, or interpolated labels).
    """
    if data.dtype.kind in "iu":
        return data
    if data.dtype.kind == "b":
        return data.astype(np.uint8)
    rounded = np.rint(data)
    wrong = data != rounded  # NaN differs from everything, itself included
    if wrong.any():
        example = data[wrong].flat[0]
        raise InputError(
            thing,
            f"{int(wrong.sum())} voxels hold no whole number (for example {example:.4g}): "
            "it is no label map",
            "A label map that was resampled must be resampled with nearest neighbour; a "
            "probability map must be thresholded first.",
        )
    if np.abs(rounded).max() > 2**31 - 1:
        raise InputError(
            thing,
            f"has label values up to {np.abs(rounded).max():.4g}",
            "Labels are small whole numbers.",
        )
    labels: NDArray[np.int32] = rounded.astype(np.int32)
    return labels

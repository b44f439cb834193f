"""Hounsfield units as a network takes them: one function for training and inference."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

DENSEST_HU: Final = 1500.0
"""Nothing above it is told apart; cortical bone ends about here, metal lies beyond."""


def normalised(
    hu: NDArray[np.floating], window: tuple[float, float], dense_slope: float = 0.0
) -> NDArray[np.float32]:
    """Map the window linearly to [-1, 1].

    Args:
        hu: any shape.
        window: lower and upper end, HU; below the lower end everything is -1.
        dense_slope: 0 clamps at the upper end, as Hiasa 2020 does; above 0, values go on beyond 1
            with this fraction of the window's slope up to :data:`DENSEST_HU`, so that joint spaces
            and cortex stay visible in bone that lies above the window.

    Returns:
        float32 of the same shape, from -1 to 1, or a little above with ``dense_slope``.
    """
    low, high = window
    scale = 2 / (high - low)
    out = (np.clip(hu, low, high) - low) * scale - 1
    if dense_slope > 0:
        out = out + (np.clip(hu, high, DENSEST_HU) - high) * (scale * dense_slope)
    return np.asarray(out, np.float32)


def brightness(
    hu: NDArray[np.floating], window: tuple[float, float], gamma: float = 1.0
) -> NDArray[np.float32]:
    """Map the window to [0, 1] and bend it: Kim 2024's scaling and "gamma correction (gamma = 2)".

    Args:
        hu: any shape.
        window: lower and upper end, HU; values beyond are clamped.
        gamma: exponent; above 1 the dark end (fat) is pressed together, the bright end spread.

    Returns:
        float32 of the same shape, from 0 to 1; air is 0.
    """
    low, high = window
    unit = (np.clip(hu, low, high) - low) / (high - low)
    return np.asarray(unit if gamma == 1 else unit**gamma, np.float32)

"""A figure with its interval, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
LEVEL = 0.95
"""Of all intervals."""
ALPHA = 0.05
"""Below this a p value speaks against its hypothesis, that of normality included."""
DIGITS = 12
"""Values that agree in so many digits of the largest are equal: 0.9 − 0.8 and 0.7 − 0.6 are a tie."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure and the 95 % interval about it.

    Attributes:
        value: None where it is undefined.
        low, high: None where there is no interval.
        reason: why value or interval is missing; empty where both are there.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""


def with_interval(value: float, low: float, high: float) -> Figure:
    """A figure whose interval is an approximation: for extreme data it may not hold the value itself.

    Args:
        value: finite.
        low: of the interval; NaN and what is not below the value give a reason instead.
        high: as low, above.
    """
    if low <= value <= high and np.isfinite([low, high]).all():
        return Figure(value, low, high)
    return Figure(value, reason="the formula of the interval does not hold for these data")


def floats(values: ArrayLike) -> Floats:
    """One value a patient as float64, shape (n,).

    Raises:
        ValueError: another shape, or a value that is not finite: a missing value is left out, with
            its partner, before.
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError("wants finite values, shape (n,)")
    return array


def two_columns(first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
    """Two values a patient, each shape (n,).

    Raises:
        ValueError: as :func:`floats`, or the lengths differ.
    """
    one, other = floats(first), floats(second)
    if one.size != other.size:
        raise ValueError(f"{one.size} values against {other.size} are no pairs")
    return one, other


def rounded(values: ArrayLike, scale: float) -> Floats:
    """Round to :data:`DIGITS` decimal digits of ``scale``, so that ties survive binary fractions."""
    if not scale:
        return np.asarray(values, np.float64)
    array = np.asarray(values, np.float64)
    return np.asarray(np.round(array, DIGITS - int(np.ceil(np.log10(scale)))), np.float64)


def differences(first: Floats, second: Floats) -> Floats:
    """First − second, shape (n,), with ties and zeros as they are in decimal digits."""
    scale = max(np.abs(first).max(initial=0.0), np.abs(second).max(initial=0.0))
    return rounded(first - second, float(scale))


def all_equal(values: ArrayLike) -> bool:
    """Whether values do not differ at all; true of none and of one."""
    array: NDArray[Any] = np.asarray(values)
    return bool(array.size == 0 or np.ptp(array) == 0)

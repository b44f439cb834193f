"""Many comparisons at once: p values made larger, so that chance alone rarely finds a difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

Correction = Literal["holm", "bonferroni", "none"]
CORRECTIONS: tuple[str, ...] = get_args(Correction)


def adjust(p_values: Sequence[float | None], method: Correction) -> list[float | None]:
    """Adjust p values for the number of tests that were done.

    Bonferroni multiplies by that number m. Holm (1979) multiplies the smallest by m, the next by
    m − 1, …, and lets none fall below its predecessor: the same guarantee against a single false
    finding, and never a larger p.

    Args:
        p_values: in [0, 1]; None where no test was done, which does not count.
        method: of :data:`CORRECTIONS`.

    Returns:
        In the same order, in [0, 1]; None where it was None.

    Raises:
        ValueError: the method is unknown.
    """
    if method not in CORRECTIONS:
        raise ValueError(f"{method!r} is not one of {CORRECTIONS}")
    done = np.array([p for p in p_values if p is not None], np.float64)
    adjusted = done
    if method == "bonferroni":
        adjusted = np.minimum(1.0, done * done.size)
    elif method == "holm":
        order = np.argsort(done, kind="stable")
        steps = np.maximum.accumulate(done[order] * np.arange(done.size, 0, -1))
        adjusted = np.empty_like(done)
        adjusted[order] = np.minimum(1.0, steps)
    values = iter(adjusted)
    return [None if p is None else float(next(values)) for p in p_values]

"""Long tensors in pieces that stay in a core's cache while several operations pass over them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

PIECE = 2**17
"""Numbers: half a megabyte in float32. Measured: twice or half of it is as fast."""


def pieces(values: Tensor, *maps: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Views of ``values`` and ``maps`` that together are all of them.

    Args:
        values: ``(C, …)``; its first axis is never cut.
        maps: each ``(…)``, cut alike.

    Yields:
        A piece of ``values``, then one of each map. Elsewhere than on a CPU the whole is one piece.
    """
    axes = [axis for axis in range(1, values.ndim) if values.shape[axis] > 1]
    if values.numel() <= PIECE or not axes or values.device.type != "cpu":
        yield (values, *maps)
        return
    axis = max(axes, key=values.stride)
    step = max(1, PIECE * values.shape[axis] // values.numel())
    split = zip(values.split(step, axis), *(m.split(step, axis - 1) for m in maps), strict=True)
    for parts in split:
        yield from pieces(*parts)


def two_largest(values: Tensor) -> tuple[Tensor, Tensor]:
    """The largest and second largest value over the first axis, of at least two."""
    shape = values[0]
    best, second = torch.empty_like(shape), torch.empty_like(shape)
    for part, first, other in pieces(values, best, second):
        torch.maximum(part[0], part[1], out=first)
        torch.minimum(part[0], part[1], out=other)
        loser = torch.empty_like(first)
        for one in part[2:]:
            torch.minimum(first, one, out=loser)
            torch.maximum(other, loser, out=other)
            torch.maximum(first, one, out=first)
    return best, second

"""Monte Carlo dropout (Gal & Ghahramani 2016): dropout stays random at inference, all else is fixed.

Only :class:`McDropout` modules become random; batch normalisation keeps its running statistics. The
mask of a draw is made of counter-based bits keyed by (seed, draw, place, site): the same for every
batch size, order, region and thread count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mskt.core import seeding


@dataclass(frozen=True, slots=True)
class Draw:
    """Which random mask: a function of these three numbers and of the dropout site alone.

    Attributes:
        seed: of the run.
        index: of the draw; negative: no randomness, as in ordinary evaluation.
        place: what the mask belongs to, e.g. the number of the axial slice.
    """

    seed: int
    index: int
    place: int


_current: ContextVar[Sequence[Draw] | None] = ContextVar("draws of this thread", default=None)


class McDropout(nn.Module):
    """Dropout of single activations that can be asked for one particular draw.

    In training it is ordinary dropout; in evaluation it passes its input on, unless
    :func:`sampling` has named the draws. Threads may sample different draws at the same time.

    Args:
        p: probability that an activation is set to zero; the others are scaled by 1 / (1 − p).
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout probability {p} is not in [0, 1)")
        self.p = p
        self.site = 0

    def extra_repr(self) -> str:
        """Shown when the module is printed."""
        return f"p={self.p}"

    def forward(self, x: Tensor) -> Tensor:
        """Zero activations at random in training, as named by :func:`sampling` in evaluation."""
        if self.training:
            return functional.dropout(x, self.p)
        draws = _current.get()
        if draws is None or self.p == 0 or all(draw.index < 0 for draw in draws):
            return x
        if len(draws) != x.shape[0]:
            raise ValueError(f"{len(draws)} draws named for a batch of {x.shape[0]}")
        if len(draws) == 1:  # no copy
            return x * self._mask(draws[0], x[0])[None].to(x.device)
        kept = torch.stack([self._mask(draw, x[0]) for draw in draws])
        return x * kept.to(x.device)

    def _mask(self, draw: Draw, like: Tensor) -> Tensor:
        """0 or 1/(1−p) for each activation, in the memory order (rows, columns, channels).

        One random bit an activation where p is a half, else one byte: p is then a multiple of 1/256.
        """
        if draw.index < 0:
            return torch.ones_like(like)
        channels, *space = like.shape
        count = like.numel()
        parts = (draw.seed, "mcdropout", draw.index, draw.place, self.site)
        if self.p == 0.5:
            kept = np.unpackbits(seeding.random_bytes((count + 7) // 8, *parts), count=count)
            scale = 2.0
        else:
            threshold = round(self.p * 256)
            kept = (seeding.random_bytes(count, *parts) >= threshold).view(np.uint8)
            scale = 256 / (256 - threshold)
        mask = torch.from_numpy(kept).view(*space, channels).to(like.dtype).mul_(scale)
        return mask.permute(len(space), *range(len(space)))


def number_sites(model: nn.Module) -> int:
    """Give each dropout of a network its own number, in the order of registration.

    Returns:
        How many there are. Call it once, when the network is built.
    """
    sites = [module for module in model.modules() if isinstance(module, McDropout)]
    for number, module in enumerate(sites):
        module.site = number
    return len(sites)


@contextmanager
def sampling(draws: Sequence[Draw]) -> Iterator[None]:
    """Within this context, and this thread, element ``n`` of a batch gets the masks of ``draws[n]``."""
    token = _current.set(draws)
    try:
        yield
    finally:
        _current.reset(token)

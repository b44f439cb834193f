"""Monte Carlo dropout (Gal & Ghahramani 2016): dropout stays random at inference, all else is fixed.

Only :class:`McDropout` modules become random; batch normalisation keeps its running statistics. The
mask of a draw is made of counter-based bits keyed by (seed, draw, place, site): the same for every
batch size, order, region and thread count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
        index: of the draw.
        place: what the mask belongs to, e.g. the number of the axial slice.
    """

    seed: int
    index: int
    place: int


class McDropout(nn.Module):
    """Dropout of single activations that can be asked for one particular draw.

    In training it is ordinary dropout; in evaluation it passes its input on, unless
    :func:`sampling` has named the draws.

    Args:
        p: probability that an activation is set to zero; the others are scaled by 1 / (1 − p).
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout probability {p} is not in [0, 1)")
        self.p = p
        self.site = 0
        self.draws: Sequence[Draw] | None = None

    def extra_repr(self) -> str:
        """Shown when the module is printed."""
        return f"p={self.p}"

    def forward(self, x: Tensor) -> Tensor:
        """Zero activations at random in training, as named by :func:`sampling` in evaluation."""
        if self.training:
            return functional.dropout(x, self.p)
        if self.draws is None or self.p == 0:
            return x
        if len(self.draws) != x.shape[0]:
            raise ValueError(f"{len(self.draws)} draws named for a batch of {x.shape[0]}")
        kept = torch.stack([self._mask(draw, x[0]) for draw in self.draws])
        return x * kept.to(x.device, x.dtype, non_blocking=True)

    def _mask(self, draw: Draw, like: Tensor) -> Tensor:
        """0 or 1/(1−p) for each activation, in the memory order (rows, columns, channels)."""
        channels, *space = like.shape
        count = like.numel()
        parts = (draw.seed, "mcdropout", draw.index, draw.place, self.site)
        if self.p == 0.5:  # one bit an activation
            bits = np.unpackbits(seeding.random_bytes((count + 7) // 8, *parts), count=count)
        else:
            words = seeding.random_bytes(2 * count, *parts).view(np.uint16)
            bits = (words >= round(self.p * 65536)).astype(np.uint8)
        mask = torch.from_numpy(bits).view(*space, channels)
        order = (len(space), *range(len(space)))
        return mask.permute(order).to(like.dtype) * (1 / (1 - self.p))


def dropout_sites(model: nn.Module) -> list[McDropout]:
    """The random modules of a network in the order of registration."""
    return [module for module in model.modules() if isinstance(module, McDropout)]


@contextmanager
def sampling(model: nn.Module, draws: Sequence[Draw]) -> Iterator[None]:
    """Within this context element ``n`` of a batch gets the masks of ``draws[n]``."""
    sites = dropout_sites(model)
    try:
        for number, module in enumerate(sites):
            module.site, module.draws = number, draws
        yield
    finally:
        for module in sites:
            module.draws = None

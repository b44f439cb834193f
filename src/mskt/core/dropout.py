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
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
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


INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Of as many bytes as a kind of activation has: to look at its bits."""

_current: ContextVar[Sequence[Draw] | None] = ContextVar("draws of this thread", default=None)


class McDropout(nn.Module):
    """Dropout of single activations that can be asked for one particular draw.

    In training it is ordinary dropout; in evaluation it passes its input on, unless
    :func:`sampling` has named the draws. Threads may sample different draws at the same time.

    Args:
        p: probability that an activation is set to zero; the others are scaled by 1 / (1 − p).

    Attributes:
        site: number of this dropout in its network.
        absorbed: a convolution beside it does the scaling, at inference: a mask has only to cut bits
            off, and what is not drawn is scaled back. The network sets it (:meth:`absorb`).
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout probability {p} is not in [0, 1)")
        self.p = p
        self.site = 0
        self.absorbed = False

    @property
    def scale(self) -> float:
        """Of what is kept: 1 / (1 − p), with p as the masks have it."""
        return 2.0 if self.p == 0.5 else 256 / (256 - self._threshold)

    def absorb(self, *parameters: Tensor) -> None:
        """Let a convolution scale: weights of the one behind, or weights and bias of the one before.

        Args:
            parameters: multiplied by :attr:`scale` in place, once.
        """
        if not self.absorbed and self.p > 0:
            self.absorbed = True
            with torch.no_grad():
                for parameter in parameters:
                    parameter.mul_(self.scale)

    def extra_repr(self) -> str:
        """Shown when the module is printed."""
        return f"p={self.p}"

    def forward(self, x: Tensor) -> Tensor:
        """Zero activations at random in training, as named by :func:`sampling` in evaluation."""
        if self.training:
            return self._dropped(x)
        draws = _current.get()
        if draws is None or self.p == 0 or all(draw.index < 0 for draw in draws):
            return x / self.scale if self.absorbed else x
        if len(draws) != x.shape[0]:
            raise ValueError(f"{len(draws)} draws named for a batch of {x.shape[0]}")
        if x.device.type == "cpu" and self.absorbed:
            return self._cut(draws, x)
        if x.device.type == "cpu":
            kept = [self._mask(draw, x[:1]) for draw in draws]
            mask = kept[0] if len(kept) == 1 else torch.cat(kept)
            return mask.mul_(x)  # one allocation less
        return x * self._masks_there(draws, x)

    def _dropped(self, x: Tensor) -> Tensor:
        """Ordinary dropout, with masks from torch's generator.

        On a CPU a byte decides on each activation, as in sampling (p is then a multiple of 1/256):
        eight come from one random word, where torch's own dropout takes a word for each.
        """
        dense = any(x.is_contiguous(memory_format=order) for order in _orders(x.ndim))
        if x.device.type != "cpu" or self.p == 0 or not dense:
            return functional.dropout(x, self.p)
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        random = words.view(torch.uint8).as_strided(x.shape, x.stride())
        return x * (random >= self._threshold).to(x.dtype).mul_(self.scale)

    def _cut(self, draws: Sequence[Draw], x: Tensor) -> Tensor:
        """``x`` where it is kept: the bits of the others are cut off, which multiplies nothing.

        A product of a 16-bit activation and its mask takes as long as the convolution behind it.
        """
        kept = [self._bits(draw, x[:1]) for draw in draws]
        mask = kept[0] if len(kept) == 1 else torch.cat(kept)
        out = mask.bitwise_and_(x.view(mask.dtype)).view(x.dtype)
        for number, draw in enumerate(draws):
            if draw.index < 0:
                out[number] /= self.scale
        return out

    def _bits(self, draw: Draw, like: Tensor) -> Tensor:
        """All bits for what is kept and none for the others, in integers as long as the activations.

        One random bit an activation where p is a half, else one byte: p is then a multiple of 1/256.
        """
        dtype = INTEGERS[like.dtype.itemsize]
        if draw.index < 0:
            return torch.full_like(like, -1, dtype=dtype)
        _, channels, *space = like.shape
        count = like.numel()
        parts = self._parts(draw)
        if self.p == 0.5:
            random = seeding.random_bytes((count + 7) // 8, *parts)
            rows = torch.from_numpy(np.take(_masks_of_bytes(dtype), random, axis=0))
            kept = rows.view(dtype).view(-1)[:count]
        else:
            random_there = torch.from_numpy(seeding.random_bytes(count, *parts))
            kept = (random_there >= self._threshold).view(torch.int8).neg_().to(dtype)
        # The axis of the batch is part of the view: torch tells the memory order by its stride.
        return kept.view(1, *space, channels).movedim(-1, 1)

    def _mask(self, draw: Draw, like: Tensor) -> Tensor:
        """0 or 1/(1−p) for each activation of a batch of one, channels last in memory."""
        if draw.index < 0:
            return torch.ones_like(like)
        bits = self._bits(draw, like)
        scale = torch.tensor(self.scale, dtype=like.dtype).view(bits.dtype)
        return bits.bitwise_and_(scale).view(like.dtype)

    def _masks_there(self, draws: Sequence[Draw], x: Tensor) -> Tensor:
        """The same masks, all at once and made where ``x`` is: sending them would take longer."""
        batch, channels, *space = x.shape
        count = x[0].numel()
        keys = [seeding.word_key(*self._parts(draw)) for draw in draws]
        bits = count if self.p == 0.5 else 8 * count
        random = random_words(-(-bits // 64), keys, x.device).view(torch.uint8)
        if self.p == 0.5:
            places = torch.arange(8, dtype=torch.uint8, device=x.device)
            kept = (random[..., None] >> places & 1).view(batch, -1)[:, :count]
        else:
            kept = random[:, :count] >= self._threshold
        mask = kept.reshape(batch, *space, channels).to(x.dtype)
        if not self.absorbed:
            mask.mul_(self.scale)
        still = [n for n, draw in enumerate(draws) if draw.index < 0]
        mask[still] = 1 / self.scale if self.absorbed else 1
        return mask.movedim(-1, 1)

    def _parts(self, draw: Draw) -> tuple[int | str, ...]:
        return (draw.seed, "mcdropout", draw.index, draw.place, self.site)

    @property
    def _threshold(self) -> int:
        """Bytes below it are dropped."""
        return round(self.p * 256)


def _orders(axes: int) -> tuple[torch.memory_format, ...]:
    """In which memory orders a tensor of so many axes can be without gaps."""
    last = {4: (torch.channels_last,), 5: (torch.channels_last_3d,)}
    return (torch.contiguous_format, *last.get(axes, ()))


@cache
def _masks_of_bytes(dtype: torch.dtype) -> NDArray[np.int64]:
    """For each byte all or no bits for each of its eight, from the lowest up, in words of 8 bytes."""
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    return torch.from_numpy(bits).to(dtype).neg_().view(torch.int64).numpy()


def random_words(count: int, starts: Sequence[int], device: torch.device) -> Tensor:
    """What :func:`mskt.core.seeding.random_words` gives for each start, computed on ``device``.

    Returns:
        int64 ``(len(starts), count)``, the bits of those words. Products overflow as unsigned ones do.
    """
    words = torch.arange(1, count + 1, device=device) * _signed(seeding.STEP)
    words = words + torch.tensor([_signed(start) for start in starts], device=device)[:, None]
    for shift, factor in seeding.ROUNDS:
        # The shift of signed integers repeats the sign; the mask takes it away.
        words = words ^ (words >> shift & (1 << 64 - shift) - 1)
        words = words * _signed(factor)
    return words


def _signed(word: int) -> int:
    """The integer of 64 bits with a sign that has the same bits."""
    return word - 2**64 if word >= 2**63 else word


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

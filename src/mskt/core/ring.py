"""Sums of windows over a stack of slices that is walked through once, from the lowest up.

The slices that windows have reached, and that have not been given out, are held in blocks; a block is as
high as the step from one layer of windows to the next. What was given out is forgotten.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

import torch
from torch import Tensor

from mskt.core.interfaces import Region
from mskt.core.volume import Volume


class Block(NamedTuple):
    """Some whole slices of the grid, and what was summed up in them, ``(C, *box.shape)``."""

    box: Region
    sums: Tensor


class Ring:
    """The blocks of one walk.

    Args:
        channels: C of the sums.
        plane: voxels of a slice, along both axes.
        height: slices of the grid.
        step: slices of a block; the first may begin later, the last end earlier.
        bottom: first slice of the walk.
        device: that holds the sums.

    Attributes:
        bottom: first slice that has not been given out.
        layer: number of the layer of windows to be added next; kept here for the caller.
    """

    def __init__(
        self,
        channels: int,
        plane: tuple[int, int],
        height: int,
        step: int,
        bottom: int,
        device: torch.device,
    ) -> None:
        self._channels = channels
        self._plane = plane
        self._height = height
        self._step = step
        self._device = device
        self._blocks: list[Block] = []
        self._spare: Tensor | None = None
        self.bottom = bottom
        self.layer = 0

    @property
    def blocks(self) -> Sequence[Block]:
        """From the lowest up, one upon the other."""
        return self._blocks

    @property
    def nbytes(self) -> int:
        """Of all sums, and of what is kept to be used again."""
        spare = 0 if self._spare is None else self._spare.nbytes
        return spare + sum(block.sums.nbytes for block in self._blocks)

    def reach(self, top: int) -> None:
        """Have blocks up to slice ``top``, excluded; new ones are zero."""
        low = self._blocks[-1].box.stop[2] if self._blocks else self.bottom
        while low < top:
            high = min((low // self._step + 1) * self._step, self._height)
            box = Region((0, 0, low), (*self._plane, high))
            self._blocks.append(Block(box, self._zeros(box)))
            low = high

    def give(self, top: int) -> Tensor:
        """The sums from ``bottom`` to ``top``, excluded, in a tensor that nobody else holds.

        A block that is asked for as a whole is handed out itself; else what it lies in is used for the
        next one.
        """
        first = self._blocks[0]
        if (first.box.start[2], first.box.stop[2]) == (self.bottom, top):
            self._blocks.pop(0)
            self.bottom = top
            return first.sums
        shape = (self._channels, *self._plane, top - self.bottom)
        out = torch.empty(shape, device=self._device)
        for box, sums in list(self._blocks):
            low, high = max(self.bottom, box.start[2]), min(top, box.stop[2])
            if low < high:
                part = sums[..., low - box.start[2] : high - box.start[2]]
                out[..., low - self.bottom : high - self.bottom] = part
            if box.stop[2] <= top:
                self._spare = self._blocks.pop(0).sums
        self.bottom = top
        return out

    def _zeros(self, box: Region) -> Tensor:
        shape = (self._channels, *box.shape)
        spare, self._spare = self._spare, None
        if spare is not None and spare.shape == shape:
            return spare.zero_()
        del spare  # before the new one is there
        return torch.zeros(shape, device=self._device)


Key = tuple[int, int, int]
"""Index and seed of a draw, first slice that has not been given out."""


class Memo:
    """Walks that later slabs go on with, for one image at a time.

    Each is given out once: in a walk from the lowest slab up there is no second time.

    Args:
        limit: bytes that all of them may take; one is kept however large it is.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._lock = Lock()
        self._of: weakref.ref[Volume] | None = None
        self._held: dict[Key, Ring] = {}

    def take(self, image: Volume, key: Key) -> Ring | None:
        """What is known, and is now forgotten; None if nothing is."""
        with self._lock:
            if self._of is None or self._of() is not image:
                return None
            return self._held.pop(key, None)

    def keep(self, image: Volume, key: Key, ring: Ring) -> None:
        """Remember it if there is room; what lies below it has been walked past and makes room."""
        with self._lock:
            if self._of is None or self._of() is not image:
                self._held = {}
                self._of = weakref.ref(image, self._forget)
            if not self._fits(ring):
                self._held = {k: v for k, v in self._held.items() if k[-1] >= key[-1]}
            if self._fits(ring):
                self._held[key] = ring

    def __len__(self) -> int:
        return len(self._held)

    @property
    def nbytes(self) -> int:
        """Of all that is held."""
        return sum(ring.nbytes for ring in self._held.values())

    def _fits(self, ring: Ring) -> bool:
        return not self._held or self.nbytes + ring.nbytes <= self._limit

    def _forget(self, of: weakref.ref[Volume]) -> None:
        """The image is gone. No lock: this may be called while one is held in the same thread."""
        if self._of is of:
            self._held = {}

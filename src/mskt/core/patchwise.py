"""A 3-D network walks over a working grid in overlapping windows, blended with smooth weights.

Every 3-D segmenter does this in the same way, so that they differ in their networks alone. The
windows stand on one lattice of the whole grid, whatever region is asked for; windows without body
cost nothing. Contributions are added one by one in the order of the windows, layer upon layer (a layer:
windows that begin at the same height): a slab has the very values that it would have in the whole
volume, and the probabilities of the whole volume never exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise, product
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mskt.core.device import sent
from mskt.core.dropout import Draw, sampling
from mskt.core.errors import UsageError
from mskt.core.intensity import brightness
from mskt.core.interfaces import Region
from mskt.core.ring import Block, Memo, Ring
from mskt.core.viewcheck import refused, without
from mskt.core.volume import Volume

Blend = Literal["gaussian", "hann"]
BLENDS: Final = ("gaussian", "hann")
SIGMA: Final = 0.125
"""Of the Gaussian, as a part of the window's length: the custom of nnU-Net and MONAI."""
SLAB_BYTES: Final = 1 << 30
"""Most that one draw of one region may take."""
THIN_BYTES: Final = 48 << 20
"""The same where all draws are remembered: what is made of a region later takes memory, too."""
MEMO_BYTES: Final = 1 << 30
"""Most that what is remembered of draws may take."""
CHUNK_BYTES: Final = 1 << 20
"""Part of a window that is added at a time, so that it stays in the cache of a core."""


@dataclass(frozen=True, slots=True)
class PatchInput:
    """How a volume is given to the network.

    Attributes:
        window: voxels that the network takes along each axis.
        hu_window, gamma: see :func:`mskt.core.intensity.brightness`.
        overlap: of neighbouring windows, part of their length, from 0 to below 1.
        blend: weights of a window's voxels, ``gaussian`` or ``hann``.

    Raises:
        UsageError: no such overlap or blend.
    """

    window: tuple[int, int, int]
    hu_window: tuple[float, float]
    gamma: float = 1.0
    overlap: float = 0.5
    blend: Blend = "gaussian"

    def __post_init__(self) -> None:
        """Refuse what the user cannot have meant."""
        if not 0 <= self.overlap <= 0.9:
            raise UsageError(
                "--option overlap", f"{self.overlap} is not from 0 to 0.9", "The default is 0.5."
            )
        if self.blend not in BLENDS:
            raise UsageError(
                "--option blend", f"{self.blend!r} is unknown", f"Use {' or '.join(BLENDS)}."
            )


@dataclass(frozen=True)
class Axis:
    """The windows along one axis of a grid.

    The last window ends where the grid ends; a grid shorter than a window lies in its middle.

    Attributes:
        length: voxels of the grid.
        window: voxels of a window.
        overlap, blend: see :class:`PatchInput`.
    """

    length: int
    window: int
    overlap: float
    blend: Blend

    @cached_property
    def step(self) -> int:
        """Voxels from a window to the next, but for the last."""
        return max(1, int(self.window * (1 - self.overlap)))

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First voxel of each window; below 0 where the grid is shorter than a window."""
        room = self.length - self.window
        if room <= 0:
            return (-(-room // 2),)
        count = -(-room // self.step) + 1
        return tuple(min(n * self.step, room) for n in range(count))

    @cached_property
    def shares(self) -> NDArray[np.float32]:
        """What each window counts for at each of its voxels: ``(windows, window)``.

        At every voxel of the grid the shares of the windows over it sum to 1.
        """
        weight = profile(self.window, self.blend)
        first = min(self.starts[0], 0)
        total = np.zeros(max(self.length, self.starts[-1] + self.window) - first)
        for start in self.starts:
            total[start - first :][: self.window] += weight
        rows = [weight / total[start - first :][: self.window] for start in self.starts]
        return np.asarray(rows, np.float32)


def profile(length: int, blend: Blend) -> NDArray[np.float64]:
    """Weights along one axis of a window, above 0 everywhere; those of a voxel are the product.

    Args:
        length: voxels.
        blend: ``gaussian`` of standard deviation ``SIGMA * length``, or ``hann``: sin².
    """
    if blend == "hann":
        return np.asarray(np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2)
    offset = np.arange(length) - (length - 1) / 2
    return np.asarray(np.exp(-0.5 * (offset / (SIGMA * length)) ** 2))


class _Place(NamedTuple):
    """A window: number on the lattice, number along each axis, first voxel."""

    number: int
    along: tuple[int, int, int]
    start: tuple[int, int, int]


@dataclass(frozen=True)
class Lattice:
    """All windows of a grid: the product of those along its axes, counted layer by layer."""

    axes: tuple[Axis, Axis, Axis]

    @classmethod
    def of(cls, shape: tuple[int, ...], given: PatchInput) -> Lattice:
        """The lattice of a grid of that shape."""
        x, y, z = (
            Axis(length, window, given.overlap, given.blend)
            for length, window in zip(shape, given.window, strict=True)
        )
        return cls((x, y, z))

    def layer(self, n: int) -> Iterator[_Place]:
        """The windows that begin at height ``axes[2].starts[n]``, always in the same order."""
        x, y, z = self.axes
        per_layer = len(x.starts) * len(y.starts)
        for count, (i, j) in enumerate(product(range(len(x.starts)), range(len(y.starts)))):
            start = (x.starts[i], y.starts[j], z.starts[n])
            yield _Place(n * per_layer + count, (i, j, n), start)


class PatchSweep:
    """Regions and draws of a 3-D network: what a segmenter's methods of these names give on.

    Windows of a layer reach above the slab that needs them. So that the next slab need not compute
    them again, what has been summed up is remembered (up to :data:`MEMO_BYTES`) where the image cannot
    change: its arrays are read-only. What is not remembered is computed again, with the same result.

    Args:
        network: in evaluation mode, on ``device``, its dropout sites numbered; maps
            ``(1, 1, *window)`` to logits ``(1, classes, *window)``.
        classes: of its output, background included.
        given: how a volume is given to it.
        device, dtype: that it computes on and in.
    """

    def __init__(
        self,
        network: nn.Module,
        classes: int,
        given: PatchInput,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._network = network
        self._classes = classes
        self._given = given
        self._device = device
        self._dtype = dtype
        self._memo = Memo(MEMO_BYTES)

    def regions(self, image: Volume, draws: int | None = None) -> Sequence[Region]:
        """Slabs of whole slices, none of which reaches across the begin of a layer of windows.

        Args:
            image: a working grid.
            draws: of each region, where it is known and the regions are walked from the lowest up.
                Slabs are thin if all draws can be remembered; else as high as a step, since every slab
                costs a draw that is not remembered all the windows that reach into it.
        """
        i, j, k = image.data.shape
        lattice = Lattice.of(image.data.shape, self._given)
        slice_bytes = 4 * self._classes * i * j
        held = slice_bytes * min(k, self._given.window[2])
        thin = draws is not None and _constant(image) and (draws == 1 or draws * held <= MEMO_BYTES)
        deepest = max(1, (THIN_BYTES if thin else SLAB_BYTES) // slice_bytes)
        slabs = [
            (low, min(low + deepest, end))
            for start, end in pairwise([0, *_cuts(lattice.axes[2])])
            for low in range(start, end, deepest)
        ]
        return tuple(Region((0, 0, low), (i, j, high)) for low, high in slabs)

    @torch.inference_mode()
    def draw(self, image: Volume, region: Region, *, index: int, seed: int) -> Tensor:
        """The blended softmax of one random pass over a region.

        Args:
            image: a working grid; its ``mask`` says where the body is.
            region: a box of it.
            index: number of the draw.
            seed: of the run.

        Returns:
            float32 ``(classes, *region.shape)``.
        """
        lattice = Lattice.of(image.data.shape, self._given)
        i, j, _ = image.data.shape
        if region.start[:2] == (0, 0) and region.stop[:2] == (i, j):
            out = self._walked(image, lattice, region, (index, seed))
        else:
            shape = (self._classes, *region.shape)
            out = torch.zeros(shape, device=self._device)
            for n in self._layers(lattice, region.start[2], region.stop[2]):
                self._add([Block(region, out)], image, lattice, n, (index, seed))
        return _with_background(out, image, region)

    def _layers(self, lattice: Lattice, bottom: int, top: int) -> Sequence[int]:
        """Numbers of the layers that reach into the slices from ``bottom`` to ``top``."""
        starts = lattice.axes[2].starts
        return [n for n, a in enumerate(starts) if a < top and a + self._given.window[2] > bottom]

    def _walked(
        self, image: Volume, lattice: Lattice, region: Region, draw: tuple[int, int]
    ) -> Tensor:
        """The sum of all windows over a slab of whole slices.

        The walk that ended where the slab begins is gone on with, if it is remembered.
        """
        i, j, k = image.data.shape
        bottom, top = region.start[2], region.stop[2]
        ring = self._memo.take(image, (*draw, bottom)) if _constant(image) else None
        layers = self._layers(lattice, bottom, top)
        if ring is None:
            ring = Ring(self._classes, (i, j), k, lattice.axes[2].step, bottom, self._device)
            ring.layer = layers[0]
        for n in range(ring.layer, layers[-1] + 1):
            ring.reach(min(k, lattice.axes[2].starts[n] + self._given.window[2]))
            self._add(ring.blocks, image, lattice, n, draw)
        ring.layer = layers[-1] + 1
        out = ring.give(top)
        if top < k and _constant(image):
            self._memo.keep(image, (*draw, top), ring)
        return out

    def _add(
        self,
        blocks: Sequence[Block],
        image: Volume,
        lattice: Lattice,
        n: int,
        draw: tuple[int, int],
    ) -> None:
        """Add share times softmax of the windows of layer ``n``, in their order.

        Args:
            blocks: lie upon each other.
            image: the working grid.
            lattice: its windows.
            n: number of the layer.
            draw: its index and the seed.
        """
        box = Region(blocks[0].box.start, blocks[-1].box.stop)
        places = [
            place
            for place in lattice.layer(n)
            if (common := _common(place.start, self._given.window, box)) is not None
            and (image.mask is None or image.mask[common.slices].any())
        ]
        threads = torch.get_num_threads() if self._device.type == "cpu" else 1
        with self._workers(threads) as each:
            for first in range(0, len(places), threads):
                group = places[first : first + threads]
                found = each(partial(self._logits, image, draw), group)
                for place in group:
                    self._add_window(blocks, lattice, place, next(found), each)

    @contextmanager
    def _workers(self, threads: int) -> Iterator[Callable[..., Iterator[Any]]]:
        """A ``map`` whose results come in order.

        On a CPU every window is computed by one thread, several windows at a time: the order of
        additions inside a convolution then depends on nothing.
        """
        if self._device.type != "cpu":
            yield map
            return
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool.map

    @torch.inference_mode()
    def _logits(self, image: Volume, draw: tuple[int, int], place: _Place) -> Tensor:
        """What the network says of a window, ``(classes, *window)``."""
        index, seed = draw
        with sampling([Draw(seed, index, place.number)]):
            logits: Tensor = self._network(self._input(image, place))
        return logits[0]

    def _add_window(
        self,
        blocks: Sequence[Block],
        lattice: Lattice,
        place: _Place,
        logits: Tensor,
        each: Callable[..., Iterator[Any]],
    ) -> None:
        """Add a window to what it meets, some rows at a time; rows have no sum in common."""
        x, y, z = (
            sent(axis.shares[n], self._device)
            for axis, n in zip(lattice.axes, place.along, strict=True)
        )
        plane = y[:, None] * z
        deep, parts, rows = logits.shape[1], 1, logits.shape[1]
        if self._device.type == "cpu":
            parts = torch.get_num_threads()
            rows = max(1, CHUNK_BYTES // (4 * self._classes * plane.numel()))

        @torch.inference_mode()
        def add(part: int) -> None:
            for first in range(part * rows, deep, parts * rows):
                some = slice(first, min(first + rows, deep))
                _add_rows(blocks, place.start, some, logits[:, some], x[some, None, None] * plane)

        for _ in each(add, range(parts)):
            pass

    def _input(self, image: Volume, place: _Place) -> Tensor:
        """The voxels of a window as the network takes them; beyond the grid there is air, 0."""
        everything = Region((0, 0, 0), image.grid.shape)
        inside = _common(place.start, self._given.window, everything)
        assert inside is not None
        values = brightness(image.data[inside.slices], self._given.hu_window, self._given.gamma)
        x = np.zeros(self._given.window, np.float32)
        x[_seen_from(place.start, inside)] = values
        return sent(x, self._device)[None, None].to(self._dtype)


def _add_rows(
    blocks: Sequence[Block],
    start: tuple[int, int, int],
    rows: slice,
    logits: Tensor,
    share: Tensor,
) -> None:
    """Add share times softmax of some rows of a window, in float32.

    Args:
        blocks: where to.
        start: first voxel of the window.
        rows: which, along its first axis.
        logits: ``(C, *size)`` of these rows.
        share: ``size``; overwritten.
    """
    size = (logits.shape[1], logits.shape[2], logits.shape[3])
    origin = (start[0] + rows.start, *start[1:])
    met = [(block, common) for block in blocks if (common := _common(origin, size, block.box))]
    if not met:
        return
    # Of all voxels of the rows: the last bit of an exponential depends on the length of the array.
    values = torch.empty(logits.shape, device=logits.device).copy_(logits)
    values.sub_(values.amax(0)).exp_()
    share.div_(values.sum(0))  # one pass over all classes less
    for block, common in met:
        inner = _seen_from(origin, common)
        there = (slice(None), *_seen_from(block.box.start, common))
        block.sums[there].addcmul_(values[(slice(None), *inner)], share[inner])


def _cuts(z: Axis) -> Sequence[int]:
    """Heights at which slabs end: where layers begin, and the end of the grid."""
    beyond = range(z.starts[-1] + z.step, z.length, z.step)
    return [*(at for at in (*z.starts, *beyond) if at > 0), z.length]


def _common(start: tuple[int, int, int], size: tuple[int, int, int], box: Region) -> Region | None:
    """Where a window and a box meet; None if they do not."""
    low = tuple(map(max, start, box.start))
    high = tuple(min(a + n, b) for a, n, b in zip(start, size, box.stop, strict=True))
    if any(a >= b for a, b in zip(low, high, strict=True)):
        return None
    return Region((low[0], low[1], low[2]), (high[0], high[1], high[2]))


def _seen_from(origin: tuple[int, int, int], box: Region) -> tuple[slice, slice, slice]:
    """The box as slices of an array whose first voxel is ``origin``."""
    x, y, z = (slice(a - o, b - o) for a, b, o in zip(box.start, box.stop, origin, strict=True))
    return x, y, z


def _with_background(out: Tensor, image: Volume, region: Region) -> Tensor:
    """Outside the body all is background; in each slice, so is what cannot be there. In place."""
    for n, k in enumerate(range(region.start[2], region.stop[2])):
        without(out[..., n], refused(image, k))
    if image.mask is not None:
        outside = sent(~image.mask[region.slices], out.device)
        out.masked_fill_(outside, 0)
        out[0].masked_fill_(outside, 1)
    return out


def _constant(image: Volume) -> bool:
    """True if nobody can change the image under way."""
    arrays = (image.data, image.mask)
    return not any(array is not None and array.flags.writeable for array in arrays)

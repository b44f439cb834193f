"""A 3-D network walks over a working grid in overlapping windows, blended with smooth weights.

Every 3-D segmenter does this in the same way, so that they differ in their networks alone. The
windows stand on one lattice of the whole grid, whatever region is asked for; windows without body
cost nothing. Contributions are added one by one in the order of the windows, layer upon layer (a layer:
windows that begin at the same height): a slab has the very values that it would have in the whole
volume, and the probabilities of the whole volume never exist.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise, product
from threading import Lock
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mskt.core.dropout import Draw, sampling
from mskt.core.errors import UsageError
from mskt.core.intensity import brightness
from mskt.core.interfaces import Region
from mskt.core.viewcheck import refused, without
from mskt.core.volume import Volume

Blend = Literal["gaussian", "hann"]
BLENDS: Final = ("gaussian", "hann")
SIGMA: Final = 0.125
"""Of the Gaussian, as a part of the window's length: the custom of nnU-Net and MONAI."""
SLAB_BYTES: Final = 1 << 30
"""Most that one draw of one region may take."""
MEMO_BYTES: Final = 1 << 30
"""Most that the parts of layers that reach above the slabs asked for may take."""


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
    them again, their upper parts are remembered (up to :data:`MEMO_BYTES`) where the image cannot
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
        self._memo = _Memo(MEMO_BYTES)

    def regions(self, image: Volume) -> Sequence[Region]:
        """Slabs of whole slices that begin where layers of windows begin."""
        i, j, k = image.data.shape
        z = Lattice.of(image.data.shape, self._given).axes[2]
        deepest = max(1, int(SLAB_BYTES / (4 * self._classes * i * j)))
        cuts = {max(0, start) for start in z.starts} | {z.starts[-1] + z.step}
        ends = [*sorted(cut for cut in cuts if cut < k), k]
        slabs = [
            (low, min(low + deepest, end))
            for start, end in pairwise(ends)
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
        whole = region.start[:2] == (0, 0) and region.stop[:2] == (i, j) and _constant(image)
        if whole:
            out = self._walked(image, lattice, region, (index, seed))
        else:
            out = self._nothing(region)
            for n in self._layers(lattice, region.start[2], region.stop[2]):
                self._add([(region, out)], image, lattice, n, (index, seed))
        return _with_background(out, image, region)

    def _nothing(self, box: Region) -> Tensor:
        return torch.zeros((self._classes, *box.shape), device=self._device)

    def _layers(self, lattice: Lattice, bottom: int, top: int) -> Sequence[int]:
        """Numbers of the layers that reach into the slices from ``bottom`` to ``top``."""
        starts = lattice.axes[2].starts
        return [n for n, a in enumerate(starts) if a < top and a + self._given.window[2] > bottom]

    def _walked(
        self, image: Volume, lattice: Lattice, region: Region, draw: tuple[int, int]
    ) -> Tensor:
        """The sum of all windows over a slab of whole slices.

        What the slab below has left over of its layers is gone on with, and what its own layers
        have above it is left to the next one.
        """
        i, j, k = image.data.shape
        starts = lattice.axes[2].starts
        bottom, top = region.start[2], region.stop[2]
        layers = self._layers(lattice, bottom, top)
        high = min(k, starts[layers[-1]] + self._given.window[2])
        begun = self._memo.take(image, (*draw, bottom))
        if begun is not None:
            layers = [n for n in layers if starts[n] >= bottom]
        here, above = region, Region((0, 0, top), (i, j, max(top, high)))
        if begun is not None and begun.shape[-1] == top - bottom:  # as a rule; no copy then
            parts = [(here, begun), (above, self._nothing(above))]
        else:
            parts = [(here, self._nothing(here)), (above, self._nothing(above))]
            if begun is not None:
                for box, sums in parts:
                    part = begun[..., box.start[2] - bottom : box.stop[2] - bottom]
                    sums[..., : part.shape[-1]] = part
        for n in layers:
            self._add(parts, image, lattice, n, draw)
        if high > top:
            self._memo.keep(image, (*draw, top), parts[1][1])
        return parts[0][1]

    def _add(
        self,
        parts: Sequence[tuple[Region, Tensor]],
        image: Volume,
        lattice: Lattice,
        n: int,
        draw: tuple[int, int],
    ) -> None:
        """Add share times softmax of the windows of layer ``n``, in their order.

        Args:
            parts: boxes that lie upon each other, with what has been summed up in them.
            image: the working grid.
            lattice: its windows.
            n: number of the layer.
            draw: its index and the seed.
        """
        box = Region(parts[0][0].start, parts[-1][0].stop)
        places = [
            place
            for place in lattice.layer(n)
            if (common := _common(place.start, self._given.window, box)) is not None
            and (image.mask is None or image.mask[common.slices].any())
        ]
        work = partial(self._contribution, image, lattice, box, draw)
        for where, values, share in self._each(work, places):
            for part, sums in parts:
                common = _common(where.start, where.shape, part)
                if common is not None:
                    inner = _seen_from(where.start, common)
                    sums[(slice(None), *_seen_from(part.start, common))].addcmul_(
                        values[(slice(None), *inner)], share[inner]
                    )

    def _each(self, work: Any, places: Sequence[_Place]) -> Iterator[tuple[Region, Tensor, Tensor]]:
        """Results of ``work`` in order; no more of them exist at a time than there are threads.

        On a CPU every window is computed by one thread, several windows at a time: the order of
        additions inside a convolution then depends on nothing.
        """
        threads = torch.get_num_threads() if self._device.type == "cpu" else 1
        with ExitStack() as stack:
            each: Any = map
            if self._device.type == "cpu":
                pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
                each = stack.enter_context(pool).map
            for first in range(0, len(places), threads):
                yield from each(work, places[first : first + threads])

    @torch.inference_mode()
    def _contribution(
        self, image: Volume, lattice: Lattice, box: Region, draw: tuple[int, int], place: _Place
    ) -> tuple[Region, Tensor, Tensor]:
        """Softmax of one window and its share at each voxel, where it and the box meet."""
        index, seed = draw
        with sampling([Draw(seed, index, place.number)]):
            logits = self._network(self._input(image, place))
        common = _common(place.start, self._given.window, box)
        assert common is not None
        inner = _seen_from(place.start, common)
        # Of the whole window: the last bit of an exponential depends on the length of the array.
        values = logits[0].float().softmax(0)[(slice(None), *inner)]
        x, y, z = (
            torch.from_numpy(axis.shares[n, part]).to(self._device)
            for axis, n, part in zip(lattice.axes, place.along, inner, strict=True)
        )
        return common, values, x[:, None, None] * y[:, None] * z

    def _input(self, image: Volume, place: _Place) -> Tensor:
        """The voxels of a window as the network takes them; beyond the grid there is air, 0."""
        everything = Region((0, 0, 0), image.grid.shape)
        inside = _common(place.start, self._given.window, everything)
        assert inside is not None
        values = brightness(image.data[inside.slices], self._given.hu_window, self._given.gamma)
        x = np.zeros(self._given.window, np.float32)
        x[_seen_from(place.start, inside)] = values
        return torch.from_numpy(x)[None, None].to(self._device, self._dtype)


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
        outside = torch.from_numpy(~image.mask[region.slices]).to(out.device)
        out.masked_fill_(outside, 0)
        out[0].masked_fill_(outside, 1)
    return out


def _constant(image: Volume) -> bool:
    """True if nobody can change the image under way."""
    arrays = (image.data, image.mask)
    return not any(array is not None and array.flags.writeable for array in arrays)


_Key = tuple[int, int, int]
"""Index and seed of a draw, first slice of what is left over."""


class _Memo:
    """Sums of windows that later slabs will go on with, for one image at a time, up to a limit.

    Each is given out once: in a walk from the lowest slab up there is no second time.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._lock = Lock()
        self._of: weakref.ref[Volume] | None = None
        self._held: dict[_Key, Tensor] = {}

    def take(self, image: Volume, key: _Key) -> Tensor | None:
        """What is known, and is now forgotten; None if nothing is."""
        with self._lock:
            if self._of is None or self._of() is not image:
                return None
            return self._held.pop(key, None)

    def keep(self, image: Volume, key: _Key, value: Tensor) -> None:
        """Remember it if there is room; what lies below it has been walked past and makes room."""
        with self._lock:
            if self._of is None or self._of() is not image:
                self._held = {}
                self._of = weakref.ref(image, self._forget)
            if self._size() + value.nbytes > self._limit:
                self._held = {k: v for k, v in self._held.items() if k[-1] >= key[-1]}
            if self._size() + value.nbytes <= self._limit:
                self._held[key] = value

    def _size(self) -> int:
        return sum(value.nbytes for value in self._held.values())

    def _forget(self, of: weakref.ref[Volume]) -> None:
        """The image is gone. No lock: this may be called while one is held in the same thread."""
        if self._of is of:
            self._held = {}

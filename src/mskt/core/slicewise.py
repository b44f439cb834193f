"""A 2-D network walks over the axial slices of a working grid.

Every 2-D segmenter does this in the same way, so that they differ in their networks alone: slices
without body cost nothing, a slice is cropped to its body, what no dropout has touched is computed
once for all draws, and the result of a slice depends on that slice and its neighbours only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mskt.core.device import sent
from mskt.core.dropout import Draw, sampling
from mskt.core.intensity import normalised
from mskt.core.interfaces import Region
from mskt.core.sweeps import axial_slabs
from mskt.core.threads import each
from mskt.core.viewcheck import refused, without
from mskt.core.volume import Volume

GPU_BATCH = 10
"""Draws at a time on a GPU; halved when memory runs out."""
MARGIN = 4
"""Air around the body in pixels, so that the skin is not at the edge of what the network sees."""
SLAB_BYTES = 96e6


@runtime_checkable
class SliceNetwork(Protocol):
    """A 2-D network in two parts.

    Attributes:
        multiple: height and width of the input are multiples of this.
    """

    multiple: int

    def stem(self, x: Tensor) -> Any:
        """What lies before the first dropout: the same for every draw of a slice."""
        ...

    def after_stem(self, x: Any) -> Tensor:
        """Logits ``(N, classes, H, W)`` from the output of :meth:`stem`."""
        ...


@dataclass(frozen=True, slots=True)
class SliceInput:
    """How a slice is given to the network.

    Attributes:
        hu_window, dense_slope: see :func:`mskt.core.intensity.normalised`.
        context: neighbouring slices on each side that are further channels.
    """

    hu_window: tuple[float, float]
    dense_slope: float = 0.0
    context: int = 0


@dataclass(frozen=True, slots=True)
class _Slice:
    """One slice: number, crop, where in the crop the body is, features before any dropout, and
    classes that cannot be here.
    """

    k: int
    box: tuple[slice, slice]
    inside: Tensor
    features: Any
    refused: Tensor | None


class SliceSweep:
    """Regions and draws of a 2-D network: what a segmenter's methods of these names give on.

    Args:
        network: in evaluation mode, on ``device``, its dropout sites numbered
            (:func:`mskt.networks.inference.for_inference`).
        classes: of its output, background included.
        given: how a slice is given to it.
        device, dtype: that it computes on and in.
        batch: draws of a slice that are computed at a time; by default one on a CPU, where more
            are slower, and :data:`GPU_BATCH` elsewhere.

    Attributes:
        batch: what is left of it after memory ran out.
    """

    def __init__(
        self,
        network: SliceNetwork,
        classes: int,
        given: SliceInput,
        device: torch.device,
        dtype: torch.dtype,
        batch: int | None = None,
    ) -> None:
        self._network = network
        self._classes = classes
        self._given = given
        self._device = device
        self._dtype = dtype
        self.batch = batch or (1 if device.type == "cpu" else GPU_BATCH)
        self._events: list[str] = []

    def regions(self, image: Volume) -> Sequence[Region]:
        """Groups of whole slices, as many as one draw of them may take memory."""
        i, j, k = image.data.shape
        depth = int(np.clip(SLAB_BYTES / (4 * self._classes * i * j), 1, 8))
        return axial_slabs((i, j, k), depth)

    def draws(
        self, image: Volume, region: Region, indices: Iterable[int], seed: int
    ) -> Iterator[Tensor]:
        """Softmax of one random pass for each of ``indices``; what they share is computed once.

        Args:
            image: a working grid; its ``mask`` says where the body is.
            region: a box of it.
            indices: numbers of the draws.
            seed: of the run.

        Yields:
            float32 ``(classes, *region.shape)``.
        """
        stems = each(
            lambda k: self._stem(image, k), range(region.start[2], region.stop[2]), self._device
        )
        left = iter(indices)
        while several := list(islice(left, self.batch)):
            yield from self._together(image, region, stems, several, seed)

    def _together(
        self,
        image: Volume,
        region: Region,
        stems: Sequence[_Slice],
        indices: Sequence[int],
        seed: int,
    ) -> Iterator[Tensor]:
        """The draws of ``indices`` at once, or half of them at a time where memory does not do."""
        try:
            yield from self._assemble(image, region, stems, indices, seed)
        except torch.OutOfMemoryError:
            if len(indices) == 1:
                raise
            few = self.batch = len(indices) // 2
        else:
            return
        # Outside the handler: the exception holds on to what it could not finish.
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        self._events.append(f"GPU memory ran out: {few} draws at a time, not {len(indices)}")
        for first in range(0, len(indices), few):
            yield from self._together(image, region, stems, indices[first : first + few], seed)

    def events(self) -> Sequence[str]:
        """What happened since it was last asked (:class:`mskt.core.interfaces.ReportsEvents`)."""
        happened, self._events = self._events, []
        return happened

    @torch.inference_mode()
    def _stem(self, image: Volume, k: int) -> _Slice | None:
        """Slice ``k`` as far as the network goes without randomness; None where there is no body."""
        box = _crop(image, k)
        if box is None:
            return None
        inside = _mask(image)[box[0], box[1], k]
        features = self._network.stem(self._input(image, k, box))
        classes = refused(image, k)
        not_here = None if classes is None else sent(classes, self._device)
        return _Slice(k, box, sent(inside, self._device), features, not_here)

    def _input(self, image: Volume, k: int, box: tuple[slice, slice]) -> Tensor:
        """The slice and its neighbours in the box, padded with air to what the network takes."""
        context = self._given.context
        numbers = np.clip(np.arange(k - context, k + context + 1), 0, image.data.shape[2] - 1)
        planes = np.stack([image.data[box[0], box[1], n] for n in numbers])
        pad = [(0, 0), *((0, -size % self._network.multiple) for size in planes.shape[1:])]
        values = normalised(planes, self._given.hu_window, self._given.dense_slope)
        x = np.pad(values, pad, constant_values=-1.0)
        there = sent(x, self._device)[None]
        return there.to(self._dtype, memory_format=torch.channels_last)

    def _assemble(
        self,
        image: Volume,
        region: Region,
        stems: Sequence[_Slice],
        indices: Sequence[int],
        seed: int,
    ) -> Sequence[Tensor]:
        shape = (len(indices), region.shape[2], self._classes, *image.data.shape[:2])
        out = torch.empty(shape, device=self._device)
        bodies = {one.k: one for one in stems}
        air = torch.eye(self._classes, 1, device=self._device)[..., None]

        @torch.inference_mode()
        def fill(k: int) -> None:
            plane = out[:, k - region.start[2]]
            one = bodies.get(k)
            if one is None:
                plane.copy_(air)
                return
            for strip in _around(plane, one.box):
                strip.copy_(air)
            probabilities = self._softmax(one, [Draw(seed, index, k) for index in indices])
            part = plane[..., one.box[0], one.box[1]]
            torch.where(one.inside, probabilities, air, out=part)

        each(fill, range(region.start[2], region.stop[2]), self._device)
        return out.permute(0, 2, 3, 4, 1)[:, :, region.slices[0], region.slices[1]].unbind()

    def _softmax(self, one: _Slice, draws: Sequence[Draw]) -> Tensor:
        """Probabilities ``(draws, C, rows, columns)`` of one slice in its box."""
        with sampling(draws):
            logits = self._network.after_stem(_repeated(one.features, len(draws)))
        rows, columns = one.inside.shape
        shown = logits[:, :, :rows, :columns]
        # Classes first and float32 in one step: softmax would make a copy of any other order.
        values = torch.empty(shown.shape, device=shown.device).copy_(shown)
        found = values.softmax(1)
        for probabilities in found:
            without(probabilities, one.refused)
        return found


def _around(plane: Tensor, box: tuple[slice, slice]) -> Iterator[Tensor]:
    """What lies outside the box in ``(…, rows, columns)``, in four parts."""
    rows, columns = box
    yield plane[..., : rows.start, :]
    yield plane[..., rows.stop :, :]
    yield plane[..., rows, : columns.start]
    yield plane[..., rows, columns.stop :]


def _repeated(features: Any, count: int) -> Any:
    """The features of one slice for each of several draws, without a copy."""
    if isinstance(features, Tensor):
        return features.expand(count, *features.shape[1:])
    return type(features)(_repeated(part, count) for part in features)


def _mask(image: Volume) -> NDArray[np.bool_]:
    return np.ones(image.data.shape, bool) if image.mask is None else image.mask


def _crop(image: Volume, k: int) -> tuple[slice, slice] | None:
    """The box around the body in slice ``k`` with a margin; None where there is no body.

    A function of the slice alone: no result depends on which region the slice was asked in.
    """
    if image.mask is None:
        return slice(0, image.data.shape[0]), slice(0, image.data.shape[1])
    inside = image.mask[:, :, k]
    if not inside.any():
        return None
    spans = []
    for axis in (0, 1):
        busy = np.flatnonzero(inside.any(axis=1 - axis))
        spans.append(
            slice(
                max(0, int(busy[0]) - MARGIN), min(inside.shape[axis], int(busy[-1]) + 1 + MARGIN)
            )
        )
    return spans[0], spans[1]

"""One plane's network walks over a leg: slice by slice across one axis of its grid.

A slice is cropped to the leg, computed as a whole whatever region is asked for, and depends on
itself, its two neighbours and the draw only. What no dropout has touched is computed once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mskt.core.dropout import Draw, sampling
from mskt.core.intensity import normalised
from mskt.core.interfaces import Region
from mskt.core.resample import AIR_HU
from mskt.core.slicewise import SliceNetwork
from mskt.core.threads import each
from mskt.core.volume import FloatArray, Volume
from mskt.plugins.unet25d.variants import PlaneVariant

MARGIN = 4
"""Air around the leg in pixels, so that the skin is not at the edge of what the network sees."""


@dataclass(frozen=True, slots=True)
class _Slice:
    """One slice: its number, crop, where in the crop the leg is, features before any dropout."""

    number: int
    box: tuple[slice, slice]
    inside: Tensor
    features: Tensor


def with_neighbours(data: NDArray[np.generic], axis: int, n: int, stride: int) -> FloatArray:
    """Slice ``n`` across ``axis`` between its neighbours, ``(3, rows, columns)``; air beyond."""
    planes = np.moveaxis(data, axis, 0)
    out = np.full((3, *planes.shape[1:]), np.float32(AIR_HU))
    for channel, number in enumerate((n - stride, n, n + stride)):
        if 0 <= number < len(planes):
            out[channel] = planes[number]
    return out


class PlaneSweep:
    """Draws of the network of one plane.

    Args:
        network: in evaluation mode, on ``device``, its dropout sites numbered.
        axis: of the grid, across the slices.
        classes: of its output, background included.
        variant: how a slice is given to it.
        device, dtype: that it computes on and in.
    """

    def __init__(
        self,
        network: SliceNetwork,
        axis: int,
        classes: int,
        variant: PlaneVariant,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._network = network
        self._axis = axis
        self._classes = classes
        self._variant = variant
        self._device = device
        self._dtype = dtype

    def stems(self, image: Volume, region: Region) -> Sequence[_Slice]:
        """The slices that meet the region, as far as they go without randomness."""
        span = range(region.start[self._axis], region.stop[self._axis])
        return each(lambda n: self._stem(image, n), span, self._device)

    def draw(self, stems: Sequence[_Slice], region: Region, index: int, seed: int) -> Tensor:
        """Softmax of one random pass over the region, float32 ``(classes, *region.shape)``."""
        others = [a for a in range(3) if a != self._axis]
        window = tuple(slice(region.start[a], region.stop[a]) for a in others)
        out = torch.zeros((self._classes, *region.shape), device=self._device)
        out[0] = 1
        planes = out.movedim(1 + self._axis, 0)  # a view: (slices, classes, rows, columns)

        def fill(one: _Slice) -> None:
            place = Draw(seed, index, 3 * one.number + self._axis)
            probabilities = self._softmax(one, place)
            own, there = zip(*map(_overlap, one.box, window), strict=True)
            target = planes[one.number - region.start[self._axis]][:, there[0], there[1]]
            torch.where(
                one.inside[own[0], own[1]], probabilities[:, own[0], own[1]], target, out=target
            )

        each(fill, stems, self._device)
        return out

    @torch.inference_mode()
    def _stem(self, image: Volume, n: int) -> _Slice | None:
        """Slice ``n`` as far as the network goes without randomness; None where there is no leg."""
        mask = np.ones(image.data.shape, bool) if image.mask is None else image.mask
        inside = np.moveaxis(mask, self._axis, 0)[n]
        if not inside.any():
            return None
        box = _crop(inside)
        planes = with_neighbours(image.data, self._axis, n, self._variant.stride(self._axis))
        planes = planes[:, box[0], box[1]]
        pad = [(0, 0), *((0, -size % self._variant.multiple) for size in planes.shape[1:])]
        x = np.pad(normalised(planes, self._variant.hu_window), pad, constant_values=-1.0)
        given = torch.from_numpy(x)[None].to(
            self._device, self._dtype, memory_format=torch.channels_last
        )
        here = torch.from_numpy(np.ascontiguousarray(inside[box])).to(self._device)
        return _Slice(n, box, here, self._network.stem(given))

    @torch.inference_mode()
    def _softmax(self, one: _Slice, draw: Draw) -> Tensor:
        """Probabilities ``(C, rows, columns)`` of one slice in its box."""
        with sampling([draw]):
            logits = self._network.after_stem(one.features)
        rows, columns = one.inside.shape
        return logits[0, :, :rows, :columns].float().softmax(0)


def draws(
    sweep: PlaneSweep, image: Volume, region: Region, indices: Iterable[int], seed: int
) -> Iterator[Tensor]:
    """One random pass for each of ``indices``; what they share is computed once."""
    stems = sweep.stems(image, region)
    for index in indices:
        yield sweep.draw(stems, region, index, seed)


def _crop(inside: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The box around the leg in a slice with a margin: a function of the slice alone."""
    spans = []
    for axis in (0, 1):
        busy = np.flatnonzero(inside.any(axis=1 - axis))
        low, high = int(busy[0]) - MARGIN, int(busy[-1]) + 1 + MARGIN
        spans.append(slice(max(0, low), min(inside.shape[axis], high)))
    return spans[0], spans[1]


def _overlap(box: slice, window: slice) -> tuple[slice, slice]:
    """The common part of two spans: as indices into the box, and into the window."""
    low, high = max(box.start, window.start), min(box.stop, window.stop)
    high = max(low, high)
    return (
        slice(low - box.start, high - box.start),
        slice(low - window.start, high - window.start),
    )

"""The segmenter ``unet_bayes``: slices of a working grid through the cascade."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mskt.core.device import resolve_device, resolve_precision
from mskt.core.dropout import Draw, sampling
from mskt.core.intensity import normalised
from mskt.core.interfaces import Region, Segmenter, Tags
from mskt.core.resample import AIR_HU, resample_image, working_grid
from mskt.core.sweeps import axial_slabs
from mskt.core.volume import Volume
from mskt.plugins.unet_bayes.body import body_mask
from mskt.plugins.unet_bayes.cascade import RANDOM, for_inference, load_cascade, variant_sizes
from mskt.plugins.unet_bayes.region import Stack, checked, level_network, refused, without

MARGIN = 4
"""Air around the body in pixels, so that the skin is not at the edge of what the network sees."""
SLAB_BYTES = 96e6

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class _Slice:
    """One slice: number, crop, where in the crop the body is, features before any dropout, and
    classes that cannot be here.
    """

    k: int
    box: tuple[slice, slice]
    inside: Tensor
    features: Tensor
    refused: NDArray[np.int64] | None


class UNetBayes(Segmenter):
    """Bayesian 2-D U-Net behind a body network (Hiasa 2020, Soufi 2024).

    Args:
        weights: name of a set of weights or path; empty takes the shipped ones, ``random`` builds
            an untrained network (checks and benchmarks only).
        variant: ``5layers``, ``6layers`` or ``compact``; empty takes that of the weights.
        backbone: encoder of segmentation-models-pytorch or ``tu-NAME`` of timm; needs weights for it.
        label_set: with random weights: which classes.
        device: ``auto``, ``cpu``, ``cuda``, …
        precision: ``auto``, ``float32`` or ``bfloat16`` for the convolutions.
        region_check: ``on`` keeps structures out of slices where they cannot be and computes no
            slice where none can be (docs/regions.md); ``off`` takes every slice as hip or thigh.
            Never with random weights.
    """

    def __init__(
        self,
        weights: str = "",
        variant: str = "",
        backbone: str = "",
        label_set: str = "",
        device: str = "auto",
        precision: str = "auto",
        region_check: str | bool = "on",
    ) -> None:
        self._levels = level_network(region_check, random=weights == RANDOM)
        cascade = load_cascade(weights, variant, backbone, label_set)
        self.label_set = cascade.label_set
        self.tags = Tags(stochastic=cascade.variant.dropout > 0, fast_draws=True)
        self._variant = cascade.variant
        self._device = resolve_device(device)
        self._dtype = resolve_precision(precision, self._device)
        self._muscles = for_inference(cascade.muscles, self._device, self._dtype)
        self._body = cascade.body and for_inference(cascade.body, self._device, self._dtype)
        self._facts = {
            **cascade.facts,
            "device": str(self._device),
            "precision": str(self._dtype).removeprefix("torch."),
            "region_check": self._levels is not None,
        }

    def describe(self) -> Mapping[str, Any]:
        """Weights, variant, parameter counts (also of the other variants), device and precision."""
        return {**self._facts, "variants": variant_sizes()}

    def prepare(self, image: Volume) -> Sequence[Volume]:
        """One volume at the variant's spacing; outside the body there is air and the mask is false."""
        grid = working_grid(image.grid, self._variant.spacing_mm)
        data = resample_image(image.data, image.grid, grid)
        if self._body is None:
            mask = (
                np.ones(grid.shape, bool)
                if image.mask is None
                else (
                    resample_image(image.mask.astype(np.float32), image.grid, grid, fill=0.0) > 0.5
                )
            )
        else:
            mask = body_mask(data, grid, self._body, self._device, self._dtype)
        work = Stack(data, grid.affine, mask=mask, subject=image.subject, notes=image.notes)
        if self._levels is not None:
            work = checked(work, self._levels, self.label_set)
        np.copyto(data, np.float32(AIR_HU), where=~mask)
        return (work,)

    def regions(self, image: Volume) -> Sequence[Region]:
        """Groups of whole slices, as many as one draw of them may take memory."""
        i, j, k = image.data.shape
        depth = int(np.clip(SLAB_BYTES / (4 * len(self.labels) * i * j), 1, 8))
        return axial_slabs((i, j, k), depth)

    def draw(self, image: Volume, region: Region, *, index: int, seed: int) -> Tensor:
        """Softmax of one random pass over the slices of the region."""
        return self._assemble(image, region, self._stems(image, region), index, seed)

    def draw_many(
        self, image: Volume, region: Region, *, count: int, seed: int
    ) -> Iterator[Tensor]:
        """The same draws; what lies before the first dropout is computed once."""
        stems = self._stems(image, region)
        for index in range(count):
            yield self._assemble(image, region, stems, index, seed)

    def _stems(self, image: Volume, region: Region) -> list[_Slice]:
        """Each slice with body in it, as far as the network goes without randomness."""
        return self._each(lambda k: self._stem(image, k), range(region.start[2], region.stop[2]))

    @torch.inference_mode()
    def _stem(self, image: Volume, k: int) -> _Slice | None:
        box = _crop(image, k)
        if box is None:
            return None
        inside = np.ascontiguousarray(_mask(image)[box[0], box[1], k])
        features = self._muscles.stem(self._input(image, k, box))
        inside_here = torch.from_numpy(inside).to(self._device)
        return _Slice(k, box, inside_here, features, refused(image, k))

    def _each(self, work: Callable[[_T], _R | None], items: Iterable[_T]) -> list[_R]:
        """Results of ``work`` that are not None, in order.

        On a CPU every slice is computed by one thread, several slices at a time: the order of
        additions inside a convolution then depends on nothing, and small convolutions are too
        short to be worth sharing among threads.
        """
        if self._device.type != "cpu":
            return [result for item in items if (result := work(item)) is not None]
        with ThreadPoolExecutor(
            torch.get_num_threads(), initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            return [result for result in pool.map(work, items) if result is not None]

    def _input(self, image: Volume, k: int, box: tuple[slice, slice]) -> Tensor:
        """The slice and its neighbours in the box, padded with air to what the network takes."""
        context = self._variant.context
        numbers = np.clip(np.arange(k - context, k + context + 1), 0, image.data.shape[2] - 1)
        planes = np.stack([image.data[box[0], box[1], n] for n in numbers])
        pad = [(0, 0), *((0, -size % self._muscles.multiple) for size in planes.shape[1:])]
        values = normalised(planes, self._variant.hu_window, self._variant.dense_slope)
        x = np.pad(values, pad, constant_values=-1.0)
        return torch.from_numpy(x)[None].to(
            self._device, self._dtype, memory_format=torch.channels_last
        )

    def _assemble(
        self, image: Volume, region: Region, stems: Sequence[_Slice], index: int, seed: int
    ) -> Tensor:
        shape = (region.shape[2], len(self.labels), *image.data.shape[:2])
        out = torch.zeros(shape, device=self._device)
        out[:, 0] = 1

        def fill(one: _Slice) -> None:
            probabilities = self._softmax(one, Draw(seed, index, one.k))
            plane = out[one.k - region.start[2], :, one.box[0], one.box[1]]
            torch.where(one.inside, probabilities, plane, out=plane)

        self._each(fill, stems)
        return out.permute(1, 2, 3, 0)[:, region.slices[0], region.slices[1]]

    @torch.inference_mode()
    def _softmax(self, one: _Slice, draw: Draw) -> Tensor:
        """Probabilities ``(C, rows, columns)`` of one slice in its box."""
        with sampling([draw]):
            logits = self._muscles.after_stem(one.features)
        rows, columns = one.inside.shape
        return without(logits[0, :, :rows, :columns].float().softmax(0), one.refused)


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

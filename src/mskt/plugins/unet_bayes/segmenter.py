"""The segmenter ``unet_bayes``: slices of a working grid through the cascade."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from mskt.core.device import resolve_device, resolve_precision
from mskt.core.interfaces import Region, Segmenter, Tags
from mskt.core.slicewise import SliceSweep
from mskt.core.viewcheck import level_network
from mskt.core.volume import Volume
from mskt.networks.foreground import body_on_grid
from mskt.networks.inference import for_inference, slice_network
from mskt.plugins.unet_bayes.cascade import load_cascade, variant_sizes


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
        cascade = load_cascade(weights, variant, backbone, label_set)
        self._levels = level_network(region_check, random=cascade.body is None)
        self.label_set = cascade.label_set
        self.tags = Tags(stochastic=cascade.variant.dropout > 0, fast_draws=True, mirror=True)
        self._variant = cascade.variant
        self._device = resolve_device(device)
        self._dtype = resolve_precision(precision, self._device)
        self._body = cascade.body and for_inference(cascade.body, self._device, self._dtype)
        self._sweep = SliceSweep(
            slice_network(cascade.muscles, self._device, self._dtype),
            len(self.labels),
            cascade.variant.given,
            self._device,
            self._dtype,
        )
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
        work = body_on_grid(
            image,
            self._variant.spacing_mm,
            self._body,
            self._levels,
            self.label_set,
            self._device,
            self._dtype,
        )
        return (work,)

    def regions(self, image: Volume) -> Sequence[Region]:
        """Groups of whole slices, as many as one draw of them may take memory."""
        return self._sweep.regions(image)

    def draw(self, image: Volume, region: Region, *, index: int, seed: int) -> Tensor:
        """Softmax of one random pass over the slices of the region."""
        return next(self._sweep.draws(image, region, [index], seed))

    def draw_many(
        self, image: Volume, region: Region, *, count: int, seed: int
    ) -> Iterator[Tensor]:
        """The same draws; what lies before the first dropout is computed once."""
        return self._sweep.draws(image, region, range(count), seed)

"""A 2-D network as a segmenter: all of it but the network.

A plugin that brings a 2-D network says what its sizes are and how it is built, as a
:class:`~mskt.networks.family.Family`; body, region check, slices and draws are here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from mskt.core.device import resolve_device, resolve_precision
from mskt.core.interfaces import Region, Segmenter, Tags
from mskt.core.slicewise import SliceSweep
from mskt.core.viewcheck import level_network
from mskt.core.volume import Volume
from mskt.networks import body
from mskt.networks.family import Model
from mskt.networks.foreground import body_on_grid
from mskt.networks.inference import for_inference, slice_network
from mskt.networks.slice_variant import SliceVariant


class SliceSegmenter(Segmenter):
    """A 2-D network on the slices of a working grid, behind body network and region check.

    Args:
        model: the network, a :class:`~mskt.core.slicewise.SliceNetwork`.
        device: ``auto``, ``cpu``, ``cuda``, …
        precision: ``auto``, ``float32`` or ``bfloat16`` for the convolutions.
        region_check: ``on`` or ``off`` (docs/regions.md); never with an untrained network.
        own_body: body network that came with the weights; without it the one that comes with mskt,
            none for an untrained network.
    """

    def __init__(
        self,
        model: Model,
        device: str = "auto",
        precision: str = "auto",
        region_check: str | bool = "on",
        own_body: nn.Module | None = None,
    ) -> None:
        self._levels = level_network(region_check, random=model.random)
        self._device = resolve_device(device)
        self._dtype = resolve_precision(precision, self._device)
        if own_body is not None:
            self._body: nn.Module | None = for_inference(own_body, self._device, self._dtype)
        else:
            self._body = None if model.random else body.shipped(self._device, self._dtype)
        self.label_set = model.label_set
        self.tags = Tags(stochastic=model.variant.dropout > 0, fast_draws=True, mirror=True)
        self._variant: SliceVariant = model.variant
        network = slice_network(model.network, self._device, self._dtype)
        self._sweep = SliceSweep(
            network, len(self.labels), model.variant.given, self._device, self._dtype
        )
        self._facts = {
            **model.facts,
            "device": str(self._device),
            "precision": str(self._dtype).removeprefix("torch."),
            "region_check": self._levels is not None,
        }

    def describe(self) -> Mapping[str, Any]:
        """Weights, variant, number of parameters, device and precision."""
        return self._facts

    def prepare(self, image: Volume) -> Sequence[Volume]:
        """One volume at the variant's spacing; outside the body there is air and the mask is false."""
        return (
            body_on_grid(
                image,
                self._variant.spacing_mm,
                self._body,
                self._levels,
                self.label_set,
                self._device,
                self._dtype,
            ),
        )

    def regions(self, image: Volume) -> Sequence[Region]:
        """Groups of whole slices, as many as one draw of them may take memory."""
        return self._sweep.regions(image)

    def draw(self, image: Volume, region: Region, *, index: int, seed: int) -> Tensor:
        """Softmax of one pass over the slices of the region."""
        return next(self._sweep.draws(image, region, [index], seed))

    def draw_many(
        self, image: Volume, region: Region, *, count: int, seed: int
    ) -> Iterator[Tensor]:
        """The same draws; what lies before the first dropout is computed once."""
        return self._sweep.draws(image, region, range(count), seed)

    def events(self) -> Sequence[str]:
        """Smaller batches of draws than planned, since memory ran out."""
        return self._sweep.events()

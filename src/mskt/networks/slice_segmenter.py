"""A 2-D network as a segmenter: all of it but the network.

A plugin that brings a 2-D network says what its sizes are and how it is built (:class:`SliceFamily`);
body, region check, slices, draws, weights and their cards are here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mskt.core.anatomy import LabelSet, label_set
from mskt.core.device import resolve_device, resolve_precision
from mskt.core.errors import UsageError
from mskt.core.interfaces import Region, Segmenter, Tags
from mskt.core.slicewise import SliceNetwork, SliceSweep
from mskt.core.viewcheck import level_network
from mskt.core.volume import Volume
from mskt.networks import body
from mskt.networks.foreground import body_on_grid
from mskt.networks.inference import count, filled, for_inference
from mskt.networks.loading import RANDOM, load, random_facts
from mskt.networks.slice_variant import DEFAULT_VARIANT, SliceVariant, named

PART = "muscles"
"""Prefix of the network's tensors in a file of weights."""


@dataclass(frozen=True)
class SliceModel:
    """A 2-D network in one of its sizes, with or without trained weights.

    Attributes:
        network: in evaluation mode, a :class:`~mskt.core.slicewise.SliceNetwork`.
        variant: its input.
        label_set: its classes.
        random: it is untrained.
        facts: for ``run.json``.
    """

    network: nn.Module
    variant: SliceVariant
    label_set: LabelSet
    random: bool
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class SliceFamily:
    """One kind of 2-D network in its sizes: what a plugin has to say of it.

    Attributes:
        segmenter: its name.
        variants: its sizes; ``compact`` is the default of training.
        build: the network of a variant and a number of classes (background included), untrained.
        default_weights: taken where the user names none; empty if none come with it.
        backbones: the user may choose the encoder; the variants then have a field ``backbone``.
    """

    segmenter: str
    variants: Mapping[str, SliceVariant]
    build: Callable[[Any, int], nn.Module]
    default_weights: str = ""
    backbones: bool = False

    def variant(self, name: str, backbone: str = "") -> Any:
        """The size of that name, with an encoder.

        Raises:
            UsageError: no such size, or the encoder cannot be chosen.
        """
        chosen = named(name or DEFAULT_VARIANT, self.variants, self.segmenter)
        if not backbone:
            return chosen
        if not self.backbones:
            raise UsageError(
                "--backbone",
                f"{backbone!r} cannot be given to {self.segmenter}: it has an encoder of its own",
                "Take --segmenter unet2d, unet25d or unet_bayes for other encoders.",
            )
        return replace(chosen, backbone=backbone)

    def load(self, weights: str, variant: str, backbone: str, label_set_name: str) -> SliceModel:
        """The model that a user asked for.

        Args:
            weights: name or path, empty for the default, or ``random``.
            variant: name of the size; must agree with the weights where both are given.
            backbone: encoder, likewise.
            label_set_name: likewise; with random weights ``msk22`` if not given.
        """
        if weights == RANDOM:
            return self._random(variant, backbone, label_set(label_set_name or "msk22"))
        loaded = load(
            weights or self.default_weights,
            self.segmenter,
            {
                "--backbone": (backbone, "variant.backbone"),
                "variant": (variant, "variant_name"),
                "--label-set": (label_set_name, "label_set"),
            },
        )
        variant_type = type(next(iter(self.variants.values())))
        made = variant_type.from_dict(loaded.card["variant"])
        network = self.build(made, len(loaded.label_set.names) + 1)
        filled(network, loaded.tensors, f"{PART}.", loaded.info.name)
        facts = {**loaded.facts, **made.as_dict(), "parameters": count(network)}
        return SliceModel(network, made, loaded.label_set, False, facts)

    def _random(self, name: str, backbone: str, labels: LabelSet) -> SliceModel:
        """Untrained, with the same values every time."""
        made = self.variant(name, backbone)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = self.build(made, len(labels.names) + 1)
        said = random_facts(name or DEFAULT_VARIANT, labels)
        facts = {**said, **made.as_dict(), "parameters": count(network)}
        return SliceModel(network, made, labels, True, facts)


class SliceSegmenter(Segmenter):
    """A 2-D network on the slices of a working grid, behind body network and region check.

    Args:
        model: the network.
        device: ``auto``, ``cpu``, ``cuda``, …
        precision: ``auto``, ``float32`` or ``bfloat16`` for the convolutions.
        region_check: ``on`` or ``off`` (docs/regions.md); never with an untrained network.
    """

    def __init__(
        self,
        model: SliceModel,
        device: str = "auto",
        precision: str = "auto",
        region_check: str | bool = "on",
    ) -> None:
        self._levels = level_network(region_check, random=model.random)
        self._device = resolve_device(device)
        self._dtype = resolve_precision(precision, self._device)
        self._body = None if model.random else body.shipped(self._device, self._dtype)
        self.label_set = model.label_set
        self.tags = Tags(stochastic=model.variant.dropout > 0, fast_draws=True)
        self._variant = model.variant
        network: nn.Module = for_inference(model.network, self._device, self._dtype)
        assert isinstance(network, SliceNetwork)
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

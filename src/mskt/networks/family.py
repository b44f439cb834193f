"""One kind of network in its sizes, and the way from the user's words to a network with weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import nn

from mskt.core.anatomy import LabelSet, label_set, suggestion
from mskt.core.errors import UsageError
from mskt.networks.inference import count, filled
from mskt.networks.loading import RANDOM, Loaded, load, random_facts
from mskt.networks.variant import CHECKED_VARIANT, DEFAULT_VARIANT, Variant

PART: Final = "muscles"
"""Name of the only network of most segmenters, and prefix of its tensors in a file of weights."""


@dataclass(frozen=True)
class Model:
    """The networks of a segmenter in one size, with or without trained weights.

    Attributes:
        networks: by part.
        variant: their size.
        label_set: their classes.
        facts: for ``run.json``.
        loaded: the weights that they have; None: they are untrained.
    """

    networks: Mapping[str, nn.Module]
    variant: Any
    label_set: LabelSet
    facts: Mapping[str, Any]
    loaded: Loaded | None = None

    @property
    def network(self) -> nn.Module:
        """The only one."""
        (network,) = self.networks.values()
        return network

    @property
    def random(self) -> bool:
        """True if it is untrained: for checks and benchmarks, not for patients."""
        return self.loaded is None


@dataclass(frozen=True)
class Family:
    """What a plugin has to say of its network.

    Attributes:
        segmenter: its name.
        variants: its sizes; ``compact`` is the default of training.
        build: the network of a variant and a number of classes (background included), untrained.
        default_weights: taken where the user names none; empty if none come with it.
        parts: names of the networks, all built alike.
        backbones: the user may choose the encoder; the variants then have a field ``backbone``.
        default_labels: classes of an untrained network where the user names none.
    """

    segmenter: str
    variants: Mapping[str, Variant]
    build: Callable[[Any, int], nn.Module]
    default_weights: str = ""
    parts: tuple[str, ...] = (PART,)
    backbones: bool = False
    default_labels: str = "msk22"

    def variant(self, name: str, backbone: str = "") -> Any:
        """The size of that name, with an encoder.

        Raises:
            UsageError: no such size, or the encoder cannot be chosen.
        """
        if name not in self.variants:
            raise UsageError(
                "",
                f"no variant of {self.segmenter} named {name!r}.",
                suggestion(name, tuple(self.variants)),
            )
        self._check(backbone)
        chosen = self.variants[name]
        return replace(chosen, backbone=backbone) if backbone else chosen  # type: ignore[call-arg]

    def _check(self, backbone: str) -> None:
        if backbone and not self.backbones:
            raise UsageError(
                "--backbone",
                f"{backbone!r} cannot be given to {self.segmenter}: it has an encoder of its own",
                "Take --segmenter unet2d, unet25d or unet_bayes for other encoders.",
            )

    def load(self, weights: str, variant: str, backbone: str, label_set_name: str) -> Model:
        """The model that a user asked for.

        Args:
            weights: name or path, empty for the default, or ``random``.
            variant: name of the size; must agree with the weights where both are given.
            backbone: encoder, likewise.
            label_set_name: likewise.
        """
        if weights == RANDOM:
            return self._random(variant, backbone, label_set(label_set_name or self.default_labels))
        self._check(backbone)
        asked = {
            "--backbone": (backbone, "variant.backbone"),
            "variant": (variant, "variant_name"),
            "--label-set": (label_set_name, "label_set"),
        }
        loaded = load(weights or self.default_weights, self.segmenter, asked)
        made = type(next(iter(self.variants.values()))).from_dict(loaded.card["variant"])
        networks = {
            part: filled(
                self.build(made, len(loaded.label_set.names) + 1),
                loaded.tensors,
                f"{part}.",
                loaded.info.name,
            )
            for part in self.parts
        }
        return self._model(networks, made, loaded.label_set, loaded.facts, loaded)

    def _random(self, name: str, backbone: str, labels: LabelSet) -> Model:
        """Untrained, with the same values every time."""
        usual = CHECKED_VARIANT if CHECKED_VARIANT in self.variants else DEFAULT_VARIANT
        made = self.variant(name or usual, backbone)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            networks = {part: self.build(made, len(labels.names) + 1) for part in self.parts}
        return self._model(networks, made, labels, random_facts(name or usual, labels))

    def _model(
        self,
        networks: Mapping[str, nn.Module],
        made: Variant,
        labels: LabelSet,
        facts: Mapping[str, Any],
        loaded: Loaded | None = None,
    ) -> Model:
        sizes = {part: count(network) for part, network in networks.items()}
        parameters = sizes if len(sizes) > 1 else sum(sizes.values())
        described = {**facts, **made.as_dict(), "parameters": parameters}
        return Model(networks, made, labels, described, loaded)

"""From weights to the networks of the three planes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import torch

from mskt.core.anatomy import LabelSet, label_set
from mskt.networks.backbone import BackboneUNet
from mskt.networks.inference import count, filled
from mskt.networks.loading import RANDOM, load, random_facts
from mskt.networks.slice_variant import named
from mskt.plugins.unet25d.network import TwoSkipUNet
from mskt.plugins.unet25d.variants import PLANES, VARIANTS, Variant, build

NAME: Final = "unet25d"
DEFAULT_WEIGHTS: Final = "unet25d-compact"
DEFAULT_VARIANT: Final = "compact"
DEFAULT_LABEL_SET: Final = "thigh10"

Network = TwoSkipUNet | BackboneUNet


@dataclass(frozen=True)
class Ensemble:
    """The three networks and what they were made for.

    Attributes:
        networks: by plane.
        facts: for ``run.json``.
    """

    networks: Mapping[str, Network]
    variant: Variant
    label_set: LabelSet
    facts: Mapping[str, Any]


def load_ensemble(weights: str, variant: str, backbone: str, labels: str) -> Ensemble:
    """The networks that a user asked for.

    Args:
        weights: name, path, empty for the default, or ``random``.
        variant: must agree with the weights where both are given.
        backbone: encoder, likewise.
        labels: only with random weights; otherwise the weights say it.
    """
    if weights == RANDOM:
        return _random(variant or DEFAULT_VARIANT, backbone, labels or DEFAULT_LABEL_SET)
    asked = {
        "--backbone": (backbone, "variant.backbone"),
        "variant": (variant, "variant_name"),
        "--label-set": (labels, "label_set"),
    }
    loaded = load(weights or DEFAULT_WEIGHTS, NAME, asked)
    made = Variant.from_dict(loaded.card["variant"])
    classes = len(loaded.label_set.names) + 1
    networks = {
        plane: filled(build(made, classes), loaded.tensors, f"{plane}.", loaded.info.name)
        for plane in PLANES
    }
    return _ensemble(networks, made, loaded.label_set, loaded.facts)


def _random(variant: str, backbone: str, labels: str) -> Ensemble:
    made: Variant = replace(named(variant, VARIANTS, NAME), backbone=backbone)
    classes = label_set(labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        networks = {plane: build(made, len(classes.names) + 1) for plane in PLANES}
    return _ensemble(networks, made, classes, random_facts(variant, classes))


def _ensemble(
    networks: Mapping[str, Network], variant: Variant, labels: LabelSet, facts: Mapping[str, Any]
) -> Ensemble:
    parameters = {plane: count(network) for plane, network in networks.items()}
    return Ensemble(
        networks, variant, labels, {**facts, **variant.as_dict(), "parameters": parameters}
    )

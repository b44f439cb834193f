"""From weights to the two networks of the cascade, ready for inference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from mskt.core.anatomy import LabelSet, label_set
from mskt.networks.backbone import BackboneUNet
from mskt.networks.body import body_network
from mskt.networks.inference import count, filled
from mskt.networks.loading import RANDOM, load, random_facts
from mskt.networks.slice_variant import UNetVariant, build_unet, named
from mskt.networks.unet import BayesianUNet
from mskt.plugins.unet_bayes.variants import PAPER_SIZES, VARIANTS

DEFAULT_WEIGHTS = "unet_bayes-compact"


@dataclass(frozen=True)
class Cascade:
    """Both networks and what they were made for.

    Attributes:
        body: skin network, one class beside background; None with random weights.
        muscles: the Bayesian network.
        facts: for ``run.json``.
    """

    body: nn.Module | None
    muscles: BayesianUNet | BackboneUNet
    variant: UNetVariant
    label_set: LabelSet
    facts: Mapping[str, Any]


def load_cascade(
    weights_name: str, variant_name: str, backbone: str, label_set_name: str
) -> Cascade:
    """The networks that a user asked for.

    Args:
        weights_name: of a set of weights, a path, empty for the default, or ``random``.
        variant_name: of the network; must agree with the weights where both are given.
        backbone: encoder, likewise.
        label_set_name: only with random weights; otherwise the weights say it.
    """
    if weights_name == RANDOM:
        return _random(variant_name or "compact", backbone, label_set_name or "msk22")
    loaded = load(
        weights_name or DEFAULT_WEIGHTS,
        "unet_bayes",
        {
            "--backbone": (backbone, "variant.backbone"),
            "variant": (variant_name, "variant_name"),
            "--label-set": (label_set_name, "label_set"),
        },
    )
    made = UNetVariant.from_dict(loaded.card["variant"])
    labels, tensors, info = loaded.label_set, loaded.tensors, loaded.info
    muscles = filled(build_unet(made, len(labels.names) + 1), tensors, "muscles.", info.name)
    body = filled(body_network(), tensors, "body.", info.name)
    facts = {
        **loaded.facts,
        **made.as_dict(),
        "parameters": count(muscles),
        "body_parameters": count(body),
    }
    return Cascade(body, muscles, made, labels, facts)


def _random(variant_name: str, backbone: str, label_set_name: str) -> Cascade:
    """Untrained networks with fixed weights: for checks of the machinery, useless for patients."""
    made = replace(named(variant_name, VARIANTS, "unet_bayes"), backbone=backbone)
    labels = label_set(label_set_name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        muscles = build_unet(made, len(labels.names) + 1)
    facts = {
        **random_facts(variant_name, labels),
        **made.as_dict(),
        "parameters": count(muscles),
    }
    return Cascade(None, muscles, made, labels, facts)


def variant_sizes() -> dict[str, str]:
    """Parameters of each variant for msk22, and what its paper says."""
    sizes = {}
    for name, made in VARIANTS.items():
        with torch.device("meta"):
            number = count(build_unet(made, 23))
        paper = PAPER_SIZES.get(name)
        sizes[name] = f"{number / 1e6:.1f} M parameters" + (f" (paper: {paper})" if paper else "")
    return sizes

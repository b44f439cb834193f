"""From weights to the two networks of the cascade."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mskt.core.anatomy import LabelSet
from mskt.networks.body import body_network
from mskt.networks.inference import count, filled
from mskt.networks.slice_variant import UNetVariant, build_unet
from mskt.plugins.unet_bayes.variants import FAMILY, PAPER_SIZES, VARIANTS


@dataclass(frozen=True)
class Cascade:
    """Both networks and what they were made for.

    Attributes:
        body: skin network, one class beside background; None with random weights.
        muscles: the Bayesian network.
        facts: for ``run.json``.
    """

    body: nn.Module | None
    muscles: nn.Module
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
    model = FAMILY.load(weights_name, variant_name, backbone, label_set_name)
    if model.loaded is None:
        return Cascade(None, model.network, model.variant, model.label_set, model.facts)
    body = filled(body_network(), model.loaded.tensors, "body.", model.loaded.info.name)
    facts = {**model.facts, "body_parameters": count(body)}
    return Cascade(body, model.network, model.variant, model.label_set, facts)


def variant_sizes() -> dict[str, str]:
    """Parameters of each variant for msk22, and what its paper says."""
    sizes = {}
    for name, made in VARIANTS.items():
        with torch.device("meta"):
            number = count(build_unet(made, 23))
        paper = PAPER_SIZES.get(name)
        sizes[name] = f"{number / 1e6:.1f} M parameters" + (f" (paper: {paper})" if paper else "")
    return sizes

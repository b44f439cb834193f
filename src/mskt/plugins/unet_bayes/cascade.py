"""From weights to the two networks of the cascade."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from mskt.networks.body import body_network
from mskt.networks.family import Model
from mskt.networks.inference import count, filled
from mskt.networks.slice_variant import build_unet
from mskt.plugins.unet_bayes.variants import FAMILY, PAPER_SIZES, VARIANTS


def load_cascade(
    weights_name: str, variant_name: str, backbone: str, label_set_name: str
) -> tuple[Model, nn.Module | None]:
    """The networks that a user asked for.

    Args:
        weights_name: of a set of weights, a path, empty for the default, or ``random``.
        variant_name: of the network; must agree with the weights where both are given.
        backbone: encoder, likewise.
        label_set_name: only with random weights; otherwise the weights say it.

    Returns:
        The Bayesian network, and the skin network with one class beside background; none with random
        weights.
    """
    model = FAMILY.load(weights_name, variant_name, backbone, label_set_name)
    facts = {**model.facts, "variants": variant_sizes()}
    if model.loaded is None:
        return replace(model, facts=facts), None
    body = filled(body_network(), model.loaded.tensors, "body.", model.loaded.info.name)
    return replace(model, facts={**facts, "body_parameters": count(body)}), body


def variant_sizes() -> dict[str, str]:
    """Parameters of each variant for msk22, and what its paper says."""
    sizes = {}
    for name, made in VARIANTS.items():
        with torch.device("meta"):
            number = count(build_unet(made, 23))
        paper = PAPER_SIZES.get(name)
        sizes[name] = f"{number / 1e6:.1f} M parameters" + (f" (paper: {paper})" if paper else "")
    return sizes

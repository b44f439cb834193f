"""From weights to the two networks of the cascade, ready for inference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mskt.core import weights
from mskt.core.anatomy import LabelSet, label_set
from mskt.core.dropout import number_sites
from mskt.core.errors import UsageError, WeightsError
from mskt.plugins.unet_bayes.backbone import BackboneUNet
from mskt.plugins.unet_bayes.network import BayesianUNet
from mskt.plugins.unet_bayes.variants import BODY, PAPER_SIZES, VARIANTS, Variant, variant

_Network = TypeVar("_Network", bound=nn.Module)

DEFAULT_WEIGHTS = "unet_bayes-compact"
RANDOM = "random"


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
    variant: Variant
    label_set: LabelSet
    facts: Mapping[str, Any]


def build(variant_: Variant, classes: int) -> BayesianUNet | BackboneUNet:
    """An untrained network of a variant."""
    channels = 2 * variant_.context + 1
    if variant_.backbone:
        return BackboneUNet(variant_.backbone, channels, classes, variant_.dropout)
    return BayesianUNet(
        channels,
        classes,
        levels=variant_.levels,
        base=variant_.base,
        batch_norm=variant_.batch_norm,
        dropout=variant_.dropout,
    )


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
    info = weights.find(weights_name or DEFAULT_WEIGHTS, "unet_bayes")
    card = info.card
    made = Variant.from_dict(card["variant"])
    for option, asked, there in (
        ("--backbone", backbone, made.backbone),
        ("variant", variant_name, card["variant_name"]),
        ("--label-set", label_set_name, card["label_set"]),
    ):
        if asked and asked != there:
            raise UsageError(
                option,
                f"{asked!r} was asked for, but the weights {info.name!r} are for "
                f"{there or 'the U-Net of the papers'!r}",
                "Give --weights FILE with weights trained for it, or leave the option out.",
            )
    labels = weights.labels_of(info)
    tensors = weights.load(info)
    muscles = _filled(build(made, len(labels.names) + 1), tensors, "muscles.", info.name)
    body = _filled(build(BODY, 2), tensors, "body.", info.name)
    facts = {
        "weights": info.name,
        "weights_sha256": info.sha256,
        "variant_name": card["variant_name"],
        "label_set": labels.name,
        **made.as_dict(),
        "parameters": count(muscles),
        "body_parameters": count(body),
    }
    return Cascade(body, muscles, made, labels, facts)


def _random(variant_name: str, backbone: str, label_set_name: str) -> Cascade:
    """Untrained networks with fixed weights: for checks of the machinery, useless for patients."""
    values = {**variant(variant_name).as_dict(), "backbone": backbone}
    made, labels = Variant.from_dict(values), label_set(label_set_name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        muscles = build(made, len(labels.names) + 1)
    facts = {
        "weights": RANDOM,
        "weights_sha256": "",
        "variant_name": variant_name,
        "label_set": labels.name,
        **made.as_dict(),
        "parameters": count(muscles),
    }
    return Cascade(None, muscles, made, labels, facts)


def count(network: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def variant_sizes() -> dict[str, str]:
    """Parameters of each variant for msk22, and what its paper says."""
    sizes = {}
    for name, made in VARIANTS.items():
        with torch.device("meta"):
            number = count(build(made, 23))
        paper = PAPER_SIZES.get(name)
        sizes[name] = f"{number / 1e6:.1f} M parameters" + (f" (paper: {paper})" if paper else "")
    return sizes


def _filled(network: _Network, tensors: Mapping[str, Tensor], prefix: str, name: str) -> _Network:
    state = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(
            name,
            f"do not fit the network that their card describes ({error})",
            "Card and tensors must come from the same training.",
        ) from error
    return network


def for_inference(network: _Network, device: torch.device, dtype: torch.dtype) -> _Network:
    """Evaluation mode, batch normalisation folded into the convolutions, channels last.

    Folding is exact in exact arithmetic; it is done in float32 before the cast.
    """
    network = network.eval()
    number_sites(network)
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential):
            _fold(module)
    return network.to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _fold(sequence: nn.Sequential) -> None:
    layers: list[nn.Module] = []
    for layer in sequence:
        if isinstance(layer, nn.BatchNorm2d) and layers and isinstance(layers[-1], nn.Conv2d):
            layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
        else:
            layers.append(layer)
    if len(layers) == len(sequence):
        return
    for name in list(sequence._modules):
        del sequence._modules[name]
    for number, layer in enumerate(layers):
        sequence.add_module(str(number), layer)

"""The beginning of a network: random, or the weights of another training."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from mskt.core.errors import WeightsError


def he(network: nn.Module) -> None:
    """Weights of convolutions and linear layers as in He et al. 2015, biases zero."""
    for module in network.modules():
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def part_of(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """The tensors of one part of a set of weights, without its prefix."""
    prefix = f"{part}."
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def fill(network: nn.Module, tensors: Mapping[str, Tensor], name: str) -> list[str]:
    """Copy tensors into a network; the output layer of another label set may differ in shape.

    Returns:
        Names of the tensors that were not taken because their shapes differ.

    Raises:
        WeightsError: they are those of another network.
    """
    state = network.state_dict()
    wanted = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    differ = [k for k, v in wanted.items() if k in tensors and tensors[k].shape != v.shape]
    missing = [k for k in wanted if k not in tensors]
    if missing or len(differ) > 2:  # weight and bias of one layer
        raise WeightsError(
            name,
            f"are those of another network ({(missing or differ)[0]!r} does not fit)",
            "Choose the variant that they were made for, or leave --start-from out.",
        )
    for k, value in wanted.items():
        if k not in differ:
            value.copy_(tensors[k])
    return differ

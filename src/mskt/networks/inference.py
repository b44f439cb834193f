"""From a network and a file of weights to a network ready for inference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mskt.core.dropout import number_sites
from mskt.core.errors import WeightsError
from mskt.core.slicewise import SliceNetwork

_Network = TypeVar("_Network", bound=nn.Module)


def count(network: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def filled(network: _Network, tensors: Mapping[str, Tensor], prefix: str, name: str) -> _Network:
    """The network with the tensors whose names begin with ``prefix``.

    Raises:
        WeightsError: they do not fit; ``name`` says which weights.
    """
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

    Folding is exact in exact arithmetic; it is done in float32 before the cast. On a CPU in 16 bits,
    ReLU is applied by the convolution before it, with the same result.
    """
    network = network.eval()
    number_sites(network)
    fused = device.type == "cpu" and dtype == torch.bfloat16 and _fuses_relu()
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential):
            _fold(module)
            if fused:
                _fuse_relu(module)
    return network.to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def slice_network(network: nn.Module, device: torch.device, dtype: torch.dtype) -> SliceNetwork:
    """:func:`for_inference` of a network for :class:`~mskt.core.slicewise.SliceSweep`."""
    ready: nn.Module = for_inference(network, device, dtype)
    if not isinstance(ready, SliceNetwork):
        raise TypeError(f"{type(network).__name__} lacks stem, after_stem or multiple")
    return ready


def _fold(sequence: nn.Sequential) -> None:
    """In place. What was folded becomes the identity: encoders find their stages by number."""
    before: tuple[str, nn.Module] | None = None
    for name, layer in list(sequence._modules.items()):
        if isinstance(layer, nn.BatchNorm2d) and before and isinstance(before[1], nn.Conv2d):
            sequence._modules[before[0]] = fuse_conv_bn_eval(before[1], layer)
            sequence._modules[name] = nn.Identity()
        before = (name, layer) if layer is not None else None


class ConvReLU(nn.Module):
    """A convolution that writes no value below 0: a pass over its output less than with a ReLU behind.

    Args:
        convolution: with zero padding, on a CPU.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor) -> Tensor:
        """Maximum of 0 and the convolution of ``x``."""
        of = self.convolution
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, of.weight, of.bias, of.padding, of.stride, of.dilation, of.groups, "relu", [], ""
        )
        return out


def _fuses_relu() -> bool:
    """Torch has the operator, which is no part of its public interface, and it does what it should."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
        return False
    try:
        convolution = nn.Conv2d(1, 1, 1).bfloat16().requires_grad_(False)
        x = torch.linspace(-2, 2, 9).bfloat16().view(1, 1, 3, 3)
        return torch.equal(ConvReLU(convolution)(x), convolution(x).relu())
    except (AttributeError, RuntimeError, TypeError):
        return False


def _fuse_relu(sequence: nn.Sequential) -> None:
    """In place; the ReLU becomes the identity."""
    before: tuple[str, nn.Module] | None = None
    for name, layer in list(sequence._modules.items()):
        if isinstance(layer, nn.ReLU) and before and _plain(before[1]):
            assert isinstance(before[1], nn.Conv2d)
            sequence._modules[before[0]] = ConvReLU(before[1])
            sequence._modules[name] = nn.Identity()
        if not isinstance(layer, nn.Identity):
            before = (name, layer) if layer is not None else None


def _plain(layer: nn.Module) -> bool:
    """A convolution with zeros around, as many as a number says."""
    return (
        isinstance(layer, nn.Conv2d)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )

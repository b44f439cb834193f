"""From a network and a file of weights to a network ready for inference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mskt.core.dropout import number_sites
from mskt.core.errors import WeightsError
from mskt.core.slicewise import SliceNetwork
from mskt.networks.fused import ConvReLU, fuses

_Network = TypeVar("_Network", bound=nn.Module)


@runtime_checkable
class Specialises(Protocol):
    """A network that can rearrange itself for inference."""

    def specialise(self, *, split: bool) -> None:
        """In place, once batch normalisation is folded.

        Args:
            split: convolutions of what is the same in every draw may be done before the draws, where
                :class:`~mskt.networks.fused.ConvSumReLU` is there to join them.
        """
        ...


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

    Folding is exact in exact arithmetic; it is done in float32 before the cast, as is the scaling of
    dropout by the convolutions beside it, in networks that know which these are. On a CPU
    ReLU is applied by the convolution before it, with the same result.
    """
    network = network.eval()
    number_sites(network)
    fused = device.type == "cpu" and fuses(dtype)
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential):
            _fold(module)
    for module in network.modules():
        if isinstance(module, Specialises):
            module.specialise(split=fused)
    for module in list(network.modules()) if fused else ():
        if isinstance(module, nn.Sequential):
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

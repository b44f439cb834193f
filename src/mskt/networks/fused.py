"""Convolutions that do what comes behind them, too: a pass over memory less for each.

For a CPU at inference. The operators are no part of torch's public interface (torch.compile uses
them): :func:`fuses` says whether they are there and do what they should.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn


class ConvReLU(nn.Module):
    """A convolution that writes no value below 0.

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


class ConvSumReLU(nn.Module):
    """The same of the sum of a convolution and something else.

    Args:
        convolution: see :class:`ConvReLU`; weights and input channels last.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """Maximum of 0 and the convolution of ``x`` plus ``other``, which has the output's shape."""
        of = self.convolution
        fixed = (of.weight, of.bias, of.padding, of.stride, of.dilation, of.groups)
        there = other.contiguous(memory_format=torch.channels_last)
        out: Tensor = torch.ops.mkldnn._convolution_pointwise.binary(
            x, there, *fixed, "add", 1.0, "relu", [], ""
        )
        return out


@cache
def fuses(dtype: torch.dtype) -> bool:
    """Whether both modules work on this CPU in this precision."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
        return False
    last = torch.channels_last
    try:
        one = nn.Conv2d(8, 8, 1).to(dtype, memory_format=last).requires_grad_(False)  # type: ignore[call-overload]
        x = torch.linspace(-2, 2, 8 * 9).to(dtype).view(1, 8, 3, 3).contiguous(memory_format=last)
        same = torch.equal(ConvReLU(one)(x), one(x).relu())
        sums = ConvSumReLU(one)(x, x), (one(x) + x).relu()
    except (AttributeError, RuntimeError, TypeError):
        return False
    return same and torch.allclose(*sums, rtol=0.02, atol=0.02)

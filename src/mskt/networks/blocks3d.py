"""Parts of 3-D networks."""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn
from torch.nn import functional

EPSILON: Final = 1e-5


class InstanceNorm(nn.Module):
    """Instance normalisation without parameters: mean 0 and variance 1 in each channel.

    Group normalisation with a group for each channel is the same, and on CPUs five times as fast as
    what torch calls instance normalisation.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, *space)``, more than one voxel a channel."""
        return functional.group_norm(x, x.shape[1], eps=EPSILON)

"""The 2-D U-Net with dropout before each pooling and after each up-convolution.

Hiasa 2020, Fig. 1(a): the places of the dropout follow Bayesian SegNet (Kendall 2017). The papers
give "layers" and parameter counts (≈10 M and ≈44 M) but not every width. Read as: layers =
resolution levels of the encoder, 32 filters at the first, doubled at each; 3×3 transposed convolutions that
keep the number of channels; skip and upsampled features joined before two 3×3 convolutions; a 3×3 head.
That gives 11.0 M and 44.0 M. With 2×2 up-convolutions that halve the channels, as in Ronneberger's
U-Net, it would be 7.8 M and 31.1 M.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, cat, nn
from torch.nn import functional

from mskt.core.dropout import INTEGERS, McDropout
from mskt.networks.fused import ConvSumReLU


def two_convolutions(inputs: int, outputs: int, *, batch_norm: bool) -> nn.Sequential:
    """Two 3×3 convolutions, each followed by (batch normalisation and) ReLU.

    Args:
        inputs: channels before.
        outputs: channels after each of the two.
        batch_norm: with batch normalisation.
    """
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers.append(nn.Conv2d(channels, outputs, 3, padding=1, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm2d(outputs))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def initialise(network: nn.Module) -> None:
    """He initialisation of all convolutions, in place (Hiasa 2020); not of those without memory."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            # Random numbers on the meta device make torch load its compiler, which takes seconds.
            if module.weight.is_meta:
                continue
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class PoolPositive(nn.Module):
    """The maximum of 2 × 2 pixels where no value is negative, as behind a ReLU.

    Of such numbers the larger one also has the larger bits, and integers are compared several times
    faster on a CPU than numbers of 16 bits.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)``, all ≥ 0, H and W even, to ``(N, C, H / 2, W / 2)``."""
        if x.device.type != "cpu":
            return functional.max_pool2d(x, 2)
        bits = x.view(INTEGERS[x.dtype.itemsize])
        rows = torch.maximum(bits[:, :, ::2], bits[:, :, 1::2])
        return torch.maximum(rows[..., ::2], rows[..., 1::2]).view(x.dtype)


class BayesianUNet(nn.Module):
    """U-Net whose dropout may stay random at inference.

    Args:
        channels: input channels (the slice, or the slice with its neighbours).
        classes: output channels, background included.
        levels: resolution levels of the encoder ("layers" of the papers).
        base: filters of the first level; doubled at each level.
        batch_norm: batch normalisation after each 3×3 convolution (Soufi 2024).
        dropout: probability; 0.5 in the papers.

    Input ``(N, channels, H, W)`` with H and W multiples of ``2 ** (levels - 1)``; output logits
    ``(N, classes, H, W)``.
    """

    def __init__(
        self,
        channels: int = 1,
        classes: int = 23,
        *,
        levels: int = 5,
        base: int = 32,
        batch_norm: bool = False,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        widths = [base * 2**level for level in range(levels)]
        self.multiple = 2 ** (levels - 1)
        self.encoder = nn.ModuleList(
            two_convolutions(a, b, batch_norm=batch_norm)
            for a, b in zip([channels, *widths[:-1]], widths, strict=True)
        )
        self.pool = nn.ModuleList(
            nn.Sequential(McDropout(dropout), nn.MaxPool2d(2)) for _ in widths[1:]
        )
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(width, width, 3, stride=2, padding=1, output_padding=1),
                McDropout(dropout),
            )
            for width in widths[:0:-1]
        )
        self.decoder = nn.ModuleList(
            two_convolutions(3 * width, width, batch_norm=batch_norm) for width in widths[-2::-1]
        )
        self.head = nn.Conv2d(base, classes, 3, padding=1)
        self.split: SplitBlock | None = None
        self._special = False
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the batch."""
        return self.after_stem(self.stem(x))

    def stem(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """The part before the first dropout: the same for every draw of a slice."""
        out: Tensor = self.encoder[0](x)
        return out if self.split is None else (out, self.split.early(out))

    def after_stem(self, features: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """Everything that depends on the draw, from the output of :meth:`stem` to the logits."""
        skips = [features if isinstance(features, Tensor) else features[0]]
        for pool, block in zip(self.pool, self.encoder[1:], strict=True):
            skips.append(block(pool(skips[-1])))
        x = skips.pop()
        for up, block in zip(self.up, self.decoder, strict=True):
            skip, raised = skips.pop(), up(x)
            if skips or self.split is None:
                x = block(cat([skip, raised], dim=1))
            else:
                x = self.split(raised, features[1])
        logits: Tensor = self.head(x)
        return logits

    def specialise(self, *, split: bool) -> None:
        """See :class:`mskt.networks.inference.Specialises`; it cannot be trained any more.

        The convolutions beside each dropout do its scaling, pooling knows that nothing is negative
        behind a ReLU, and half of the finest block is computed once for all draws.
        """
        if self._special:
            return
        self._special = True
        absorb_dropout(self.pool, self.encoder[1:], self.up)
        if split:
            finest = self.decoder[-1]
            assert isinstance(finest, nn.Sequential)
            self.split = SplitBlock(finest)
            self.decoder[-1] = nn.Identity()


def absorb_dropout(pools: nn.ModuleList, blocks: nn.ModuleList, ups: nn.ModuleList) -> None:
    """Scaling of dropout is done by the convolutions beside it; what is pooled is not negative.

    Args:
        pools: dropout and pooling, behind a ReLU.
        blocks: what follows each of them, first a convolution.
        ups: transposed convolution and dropout.
    """
    for pool, block in zip(_pairs(pools), _pairs(blocks), strict=True):
        _dropout(pool[0]).absorb(block[0].get_parameter("weight"))
        pool[1] = PoolPositive()
    for up in _pairs(ups):
        _dropout(up[1]).absorb(*up[0].parameters())


class SplitBlock(nn.Module):
    """Two convolutions behind a skip connection, of which the first is cut in two by its input.

    What comes through the skip connection of the finest level has met no dropout: its share of the
    first convolution is the same for every draw, and nothing has to be joined in memory.

    Args:
        block: :func:`two_convolutions`, batch normalisation folded; a third of its input is the skip.
    """

    def __init__(self, block: nn.Sequential) -> None:
        super().__init__()
        first = block[0]
        assert isinstance(first, nn.Conv2d)
        skip = first.in_channels // 3
        self.early = _part(first, slice(skip), biased=True)
        self.late = ConvSumReLU(_part(first, slice(skip, None), biased=False))
        after = [isinstance(layer, nn.ReLU) for layer in block].index(True) + 1
        self.rest = block[after:]

    def forward(self, raised: Tensor, early: Tensor) -> Tensor:
        """The block's output from what comes from below, ``(N, 2 W, …)``, and ``early(skip)``."""
        out: Tensor = self.rest(self.late(raised, early))
        return out


def _part(whole: nn.Conv2d, channels: slice, *, biased: bool) -> nn.Conv2d:
    """The convolution of some of the input channels."""
    weight = whole.weight[:, channels]
    part = nn.Conv2d(weight.shape[1], whole.out_channels, 3, padding=1, bias=biased)
    with torch.no_grad():
        part.weight.copy_(weight)
        if part.bias is not None and whole.bias is not None:
            part.bias.copy_(whole.bias)
    return part


def _pairs(modules: nn.ModuleList) -> Iterator[nn.Sequential]:
    for module in modules:
        assert isinstance(module, nn.Sequential)
        yield module


def _dropout(module: nn.Module) -> McDropout:
    assert isinstance(module, McDropout)
    return module

"""The 3-D U-Net (Çiçek 2016), that Haque 2019 and Kim 2024 compare against.

Two 3×3×3 convolutions a level, max pooling, up-convolutions, skip connections. As in the paper, the
channels double before each pooling and the up-convolution keeps its number. Crops of a volume come
two at a time, too few for the paper's batch normalisation: here it is instance normalisation.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, cat, nn

from mskt.core.dropout import McDropout
from mskt.networks.blocks3d import InstanceNorm
from mskt.networks.patch_variant import PatchVariant


@dataclass(frozen=True, kw_only=True)
class UNet3dVariant(PatchVariant):
    """A size of the network; the defaults are the paper's.

    Attributes:
        levels: resolutions; each side of the window is a multiple of ``2 ** (levels - 1)``.
        base: channels of the first convolution; a level has ``base * 2 ** level`` and twice that.
    """

    levels: int = 4
    base: int = 32


class UNet3d(nn.Module):
    """The network.

    Dropout stands where the 2-D network has it: before each pooling, after each up-convolution.

    Args:
        variant: its size.
        classes: output channels, background included.

    Input ``(N, 1, *window)`` from 0 to 1; output logits ``(N, classes, *window)``.
    """

    def __init__(self, variant: UNet3dVariant, classes: int) -> None:
        super().__init__()
        widths = [variant.base * 2 ** (level + 1) for level in range(variant.levels)]
        self.encoder = nn.ModuleList(
            _convolutions(below, width // 2, width)
            for below, width in zip([1, *widths[:-1]], widths, strict=True)
        )
        self.pool = nn.ModuleList(
            nn.Sequential(McDropout(variant.dropout), nn.MaxPool3d(2)) for _ in widths[1:]
        )
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose3d(width, width, 2, stride=2), McDropout(variant.dropout))
            for width in widths[:0:-1]
        )
        self.decoder = nn.ModuleList(
            _convolutions(3 * width, width, width) for width in widths[-2::-1]
        )
        self.head = nn.Conv3d(widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the batch."""
        skips = [self.encoder[0](x)]
        for pool, block in zip(self.pool, self.encoder[1:], strict=True):
            skips.append(block(pool(skips[-1])))
        y = skips.pop()
        for up, block in zip(self.up, self.decoder, strict=True):
            y = block(cat([skips.pop(), up(y)], dim=1))
        logits: Tensor = self.head(y)
        return logits


def _convolutions(inputs: int, between: int, outputs: int) -> nn.Sequential:
    """Two 3×3×3 convolutions, each followed by instance normalisation and ReLU."""
    layers: list[nn.Module] = []
    for before, after in ((inputs, between), (between, outputs)):
        layers += [
            nn.Conv3d(before, after, 3, padding=1, bias=False),
            InstanceNorm(),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)

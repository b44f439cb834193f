"""The 2-D U-Net with dropout before each pooling and after each up-convolution.

Hiasa 2020, Fig. 1(a): the places of the dropout follow Bayesian SegNet (Kendall 2017). The papers
give "layers" and parameter counts (≈10 M and ≈44 M) but not every width. Read as: layers =
resolution levels of the encoder, 32 filters at the first, doubled at each; 3×3 transposed convolutions that
keep the number of channels; skip and upsampled features joined before two 3×3 convolutions; a 3×3 head.
That gives 11.0 M and 44.0 M. With 2×2 up-convolutions that halve the channels, as in Ronneberger's
U-Net, it would be 7.8 M and 31.1 M.
"""

from __future__ import annotations

from torch import Tensor, cat, nn

from mskt.core.dropout import McDropout


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
    """He initialisation of all convolutions, in place (Hiasa 2020)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


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
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the batch."""
        return self.after_stem(self.stem(x))

    def stem(self, x: Tensor) -> Tensor:
        """The part before the first dropout: the same for every draw of a slice."""
        out: Tensor = self.encoder[0](x)
        return out

    def after_stem(self, features: Tensor) -> Tensor:
        """Everything that depends on the draw, from the output of :meth:`stem` to the logits."""
        skips = [features]
        for pool, block in zip(self.pool, self.encoder[1:], strict=True):
            skips.append(block(pool(skips[-1])))
        x = skips.pop()
        for up, block in zip(self.up, self.decoder, strict=True):
            x = block(cat([skips.pop(), up(x)], dim=1))
        logits: Tensor = self.head(x)
        return logits

"""The simplified U-Net: only two skip connections (Haque 2019, Fig. 3a).

The paper gives neither widths nor depth. Read as: skips at the two finest resolutions; where there
are more than three resolutions, the coarser ones have none and only widen what a pixel sees.
"""

from __future__ import annotations

from torch import Tensor, cat, nn

from mskt.core.dropout import McDropout
from mskt.networks.unet import absorb_dropout, initialise, two_convolutions

SKIPS = 2


class TwoSkipUNet(nn.Module):
    """U-Net with skip connections at its two finest resolutions.

    Args:
        channels: of the input.
        classes: of the output, background included.
        widths: filters at each resolution, the finest first; at least three.
        batch_norm: batch normalisation after each 3×3 convolution.
        dropout: before each pooling and after each up-convolution.

    Input ``(N, channels, H, W)`` with H and W multiples of ``multiple``; output logits
    ``(N, classes, H, W)``.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        widths: tuple[int, ...],
        *,
        batch_norm: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.multiple = 2 ** (len(widths) - 1)
        self.encoder = nn.ModuleList(
            two_convolutions(a, b, batch_norm=batch_norm)
            for a, b in zip((channels, *widths), widths, strict=False)
        )
        self.pool = nn.ModuleList(
            nn.Sequential(McDropout(dropout), nn.MaxPool2d(2)) for _ in widths[1:]
        )
        self.up, self.decoder = nn.ModuleList(), nn.ModuleList()
        for level in range(len(widths) - 2, -1, -1):
            up = nn.ConvTranspose2d(widths[level + 1], widths[level], 2, stride=2)
            self.up.append(nn.Sequential(up, McDropout(dropout)))
            inputs = widths[level] * (2 if level < SKIPS else 1)
            self.decoder.append(two_convolutions(inputs, widths[level], batch_norm=batch_norm))
        self.head = nn.Conv2d(widths[0], classes, 1)
        self._special = False
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the batch."""
        return self.after_stem(self.stem(x))

    def stem(self, x: Tensor) -> Tensor:
        """The part before the first dropout: the same for every draw of a slice."""
        out: Tensor = self.encoder[0](x)
        return out

    def specialise(self, *, split: bool) -> None:
        """See :class:`mskt.networks.inference.Specialises`; it cannot be trained any more."""
        if not self._special:
            self._special = True
            absorb_dropout(self.pool, self.encoder[1:], self.up)

    def after_stem(self, features: Tensor) -> Tensor:
        """Everything that depends on the draw, from the output of :meth:`stem` to the logits."""
        levels = [features]
        for pool, block in zip(self.pool, self.encoder[1:], strict=True):
            levels.append(block(pool(levels[-1])))
        x = levels[-1]
        for level, up, block in zip(
            range(len(levels) - 2, -1, -1), self.up, self.decoder, strict=True
        ):
            x = up(x)
            x = block(cat([levels[level], x], dim=1) if level < SKIPS else x)
        logits: Tensor = self.head(x)
        return logits

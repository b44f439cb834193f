"""The U-Net with an encoder of segmentation-models-pytorch or timm; dropout by the same rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, cat, nn

from mskt.core.dropout import McDropout
from mskt.core.errors import UsageError

_PROBE = 64


class BackboneUNet(nn.Module):
    """U-Net decoder over a named encoder.

    Dropout stands where the papers put it: before each step to a coarser resolution (what the skip
    connection takes is untouched) and after each up-convolution.

    Args:
        backbone: ``resnet34``, ``efficientnet-b0``, … or ``tu-NAME`` for any timm encoder.
        channels, classes, dropout: as for the U-Net of the papers.

    Raises:
        UsageError: the encoder is unknown, or gives no features a U-Net can use.
    """

    multiple = 32

    def __init__(
        self, backbone: str, channels: int = 1, classes: int = 23, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.encoder = _encoder(backbone, channels)
        widths = list(self.encoder.out_channels[1:])
        self.down_dropout = nn.ModuleList(McDropout(dropout) for width in widths[:-1] if width)
        self._place_dropout(channels)
        targets = [max(16, widths[0] or 32) // 2, *[width or 32 for width in widths[:-1]]]
        self.up, self.decoder = nn.ModuleList(), nn.ModuleList()
        below = widths[-1]
        for target, skip in zip(targets[::-1], [0, *widths[:-1]][::-1], strict=True):
            self.up.append(
                nn.Sequential(
                    nn.ConvTranspose2d(below, target, 3, stride=2, padding=1, output_padding=1),
                    McDropout(dropout),
                )
            )
            self.decoder.append(_block(target + skip, target))
            below = target
        self.head = nn.Conv2d(below, classes, 3, padding=1)

    def _place_dropout(self, channels: int) -> None:
        """Hook a dropout in front of whatever module first takes each feature map further down.

        Encoders differ too much in their inner names to go by these; one small forward pass shows
        which module receives which feature map.
        """
        calls: list[tuple[nn.Module, Tensor]] = []

        def note(module: nn.Module, args: tuple[Any, ...]) -> None:
            if args and isinstance(args[0], Tensor):
                calls.append((module, args[0].detach().clone()))

        hooks = [m.register_forward_pre_hook(note) for m in self.encoder.modules()]
        training = self.encoder.training
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            features = self.encoder.eval()(torch.randn(1, channels, _PROBE, _PROBE))[1:-1]
        self.encoder.train(training)
        for hook in hooks:
            hook.remove()
        for feature, dropout in zip(
            [f for f in features if f.shape[1]], self.down_dropout, strict=True
        ):
            taker = _first_taker(calls, feature)
            taker.register_forward_pre_hook(
                lambda _, args, drop=dropout: (drop(args[0]), *args[1:])
            )

    def stem(self, x: Tensor) -> Tensor:
        """Nothing is shared between draws: the encoder is taken as one piece."""
        return x

    def after_stem(self, x: Tensor) -> Tensor:
        """Logits ``(N, classes, H, W)``."""
        features: Sequence[Tensor] = self.encoder(x)[1:]
        y = features[-1]
        skips = [None, *features[:-1]]
        for up, block in zip(self.up, self.decoder, strict=True):
            y, skip = up(y), skips.pop()
            y = block(y if skip is None or skip.shape[1] == 0 else cat([skip, y], dim=1))
        logits: Tensor = self.head(y)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the batch."""
        return self.after_stem(x)


def _encoder(name: str, channels: int) -> Any:
    import segmentation_models_pytorch as smp

    try:
        encoder = smp.encoders.get_encoder(name, in_channels=channels, depth=5, weights=None)
    except (KeyError, RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise UsageError(
            "--backbone",
            f"{name!r} cannot be used as an encoder ({error})",
            "Use an encoder of segmentation-models-pytorch such as resnet34 or "
            "efficientnet-b0, or tu-NAME for one of timm such as tu-convnext_tiny.",
        ) from error
    if len(encoder.out_channels) != 6:
        raise UsageError(
            "--backbone",
            f"{name!r} has {len(encoder.out_channels) - 1} resolution levels",
            "Take an encoder with five levels (stride 32).",
        )
    return encoder


def _first_taker(calls: Sequence[tuple[nn.Module, Tensor]], feature: Tensor) -> nn.Module:
    """The first (outermost) module called with the values of ``feature``, in whatever layout."""
    values = feature.flatten().sort().values
    for module, given in calls:
        if given.numel() == values.numel() and torch.equal(given.flatten().sort().values, values):
            return module
    raise UsageError(
        "--backbone",
        "no place for dropout was found in this encoder",
        "Take another encoder, such as resnet34 or tu-convnext_tiny.",
    )


def _block(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)

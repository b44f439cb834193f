"""``fcn8s``: the fully convolutional network with stride 8 that Hiasa 2020 compares against.

Long, Shelhamer and Darrell 2015: the convolutions of VGG-16, its fully connected layers as
convolutions with dropout, scores of three depths added from coarse to fine. It gives logits at an
eighth of the resolution, enlarged bilinearly: that is the point of the comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn import functional

from mskt.core.anatomy import LabelSet
from mskt.core.dropout import McDropout
from mskt.networks.family import Family
from mskt.networks.slice_segmenter import SliceSegmenter
from mskt.networks.slice_variant import SliceVariant

if TYPE_CHECKING:
    from mskt.training.task import TrainingTask

NAME = "fcn8s"


@dataclass(frozen=True, kw_only=True)
class FcnVariant(SliceVariant):
    """A size of the network.

    Attributes:
        convolutions: of VGG at each of its five resolutions.
        widths: channels there.
        batch_norm: after each of them.
        fc_width: channels of the former fully connected layers.
        fc_kernel: side of the first of them.
        backbone: always empty: the encoder is what makes this network.
    """

    convolutions: tuple[int, ...] = (2, 2, 3, 3, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    batch_norm: bool = False
    fc_width: int = 4096
    fc_kernel: int = 7
    backbone: str = ""


VARIANTS: Mapping[str, FcnVariant] = {
    # VGG-16: 134 M parameters, most of them in the former fully connected layers.
    "paper": FcnVariant(),
    # For two CPU cores: VGG-11; batch normalisation, since there are no pre-trained weights to start from.
    "compact": FcnVariant(
        convolutions=(1, 1, 2, 2, 2),
        batch_norm=True,
        fc_width=512,
        fc_kernel=3,
        dropout=0.5,
        spacing_mm=(2.0, 2.0, 3.0),
        dense_slope=0.25,
    ),
    # For checks of the machinery, never for patients.
    "tiny": FcnVariant(
        convolutions=(1, 1, 1, 1, 1),
        widths=(4, 4, 4, 8, 8),
        fc_width=8,
        fc_kernel=3,
        spacing_mm=(8.0, 8.0, 6.0),
    ),
}


class FCN8s(nn.Module):
    """VGG with scores from the strides 32, 16 and 8.

    Args:
        variant: encoder and widths.
        classes: output channels, background included.

    Input ``(N, channels, H, W)`` with H and W multiples of 32; logits ``(N, classes, H, W)``.
    """

    multiple = 32

    def __init__(self, variant: FcnVariant, classes: int) -> None:
        super().__init__()
        inputs = (variant.channels, *variant.widths[:-1])
        self.stages = nn.ModuleList(
            _stage(a, b, number, batch_norm=variant.batch_norm)
            for a, b, number in zip(inputs, variant.widths, variant.convolutions, strict=True)
        )
        stride8, stride16, stride32 = variant.widths[-3:]
        width = variant.fc_width
        self.fc = nn.Sequential(
            nn.Conv2d(stride32, width, variant.fc_kernel, padding=variant.fc_kernel // 2),
            nn.ReLU(inplace=True),
        )
        self.fc_again = nn.Sequential(
            McDropout(variant.dropout),
            nn.Conv2d(width, width, 1),
            nn.ReLU(inplace=True),
            McDropout(variant.dropout),
            nn.Conv2d(width, classes, 1),
        )
        self.score16 = nn.Conv2d(stride16, classes, 1)
        self.score8 = nn.Conv2d(stride8, classes, 1)

    def stem(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features of stride 32 and scores of strides 16 and 8: all that lies before the dropout."""
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return self.fc(x), self.score16(features[-2]), self.score8(features[-3])

    def after_stem(self, x: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Logits, from what :meth:`stem` returns."""
        deep, score16, score8 = x
        score = _enlarge(self.fc_again(deep), 2) + score16
        return _enlarge(_enlarge(score, 2) + score8, 8)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the batch."""
        return self.after_stem(self.stem(x))


def _stage(inputs: int, outputs: int, number: int, *, batch_norm: bool) -> nn.Sequential:
    """Some 3×3 convolutions, then half the resolution."""
    layers: list[nn.Module] = []
    for channels in (inputs, *[outputs] * (number - 1)):
        layers.append(nn.Conv2d(channels, outputs, 3, padding=1, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm2d(outputs))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers, nn.MaxPool2d(2))


def _enlarge(x: Tensor, times: int) -> Tensor:
    """Bilinear, with fixed weights: in the published networks learning them gained nothing."""
    return functional.interpolate(x, scale_factor=times, mode="bilinear", align_corners=False)


FAMILY = Family(NAME, VARIANTS, FCN8s)


def fcn8s(
    weights: str = "",
    variant: str = "",
    backbone: str = "",
    label_set: str = "",
    device: str = "auto",
    precision: str = "auto",
    region_check: str | bool = "on",
) -> SliceSegmenter:
    """FCN-8s over VGG-16 (Long 2015; the comparison of Hiasa 2020, section III).

    Args:
        weights: name of a set of weights or path; ``random`` builds an untrained network.
        variant: ``paper``, ``compact`` or ``tiny`` (checks only); empty takes that of the weights.
        backbone: must be empty; the encoder is VGG.
        label_set: with random weights: which classes.
        device: ``auto``, ``cpu``, ``cuda``, …
        precision: ``auto``, ``float32`` or ``bfloat16`` for the convolutions.
        region_check: ``on`` or ``off`` (docs/regions.md).
    """
    model = FAMILY.load(weights, variant, backbone, label_set)
    return SliceSegmenter(model, device, precision, region_check)


def training(label_set: LabelSet, options: Mapping[str, Any]) -> Sequence[TrainingTask]:
    """The one part, ``muscles``; options: ``variant``."""
    from mskt.training.slice_networks import family_tasks

    return family_tasks(FAMILY, label_set, options)

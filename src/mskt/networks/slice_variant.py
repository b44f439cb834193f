"""What distinguishes the sizes in which a 2-D segmenter comes: its network and its input."""

from __future__ import annotations

from dataclasses import dataclass

from mskt.core.slicewise import SliceInput
from mskt.networks.backbone import BackboneUNet
from mskt.networks.unet import BayesianUNet
from mskt.networks.variant import Variant

PAPER_SPACING_MM = (360 / 512, 360 / 512, 1.0)
"""Hiasa 2020: 512 × 512 pixels for 360 × 360 mm, slices of 1 mm."""


@dataclass(frozen=True, kw_only=True)
class SliceVariant(Variant):
    """The input of a 2-D segmenter, and how much of the network is dropped.

    Attributes:
        dropout: probability of the network's dropout.
        context: neighbouring slices on each side given as further channels; 0 in the papers.
        spacing_mm: working grid along right, anterior, superior.
        hu_window: values are clamped to this range and mapped linearly to [-1, 1].
        dense_slope: above the window, see :func:`mskt.core.intensity.normalised`; 0 in the papers.
    """

    dropout: float = 0.5
    context: int = 0
    spacing_mm: tuple[float, float, float] = PAPER_SPACING_MM
    hu_window: tuple[float, float] = (-150.0, 350.0)
    dense_slope: float = 0.0

    @property
    def channels(self) -> int:
        """Of the network's input."""
        return 2 * self.context + 1

    @property
    def multiple(self) -> int:
        """Height and width of the network's input are multiples of this."""
        return 32

    @property
    def given(self) -> SliceInput:
        """For :class:`~mskt.core.slicewise.SliceSweep`."""
        return SliceInput(self.hu_window, self.dense_slope, self.context)

    @property
    def case_shape(self) -> tuple[int, int, int]:
        """Voxels of a training case: about 384 × 288 mm; 360 × 360 mm on the papers' grid."""
        if self.spacing_mm[0] < 1:
            return (512, 512, 64)
        x, y, _ = self.spacing_mm
        return (round(384 / x / 16) * 16, round(288 / y / 16) * 16, 96)


@dataclass(frozen=True, kw_only=True)
class UNetVariant(SliceVariant):
    """A U-Net.

    Attributes:
        levels, base, batch_norm: see :class:`~mskt.networks.unet.BayesianUNet`.
        backbone: encoder of :class:`~mskt.networks.backbone.BackboneUNet`; empty for the U-Net of
            the papers.
    """

    levels: int = 5
    base: int = 32
    batch_norm: bool = False
    backbone: str = ""

    @property
    def multiple(self) -> int:
        """Height and width of the input are multiples of this."""
        return BackboneUNet.multiple if self.backbone else 2 ** (self.levels - 1)


def build_unet(variant: UNetVariant, classes: int) -> BayesianUNet | BackboneUNet:
    """An untrained network of a variant."""
    if variant.backbone:
        return BackboneUNet(variant.backbone, variant.channels, classes, variant.dropout)
    return BayesianUNet(
        variant.channels,
        classes,
        levels=variant.levels,
        base=variant.base,
        batch_norm=variant.batch_norm,
        dropout=variant.dropout,
    )

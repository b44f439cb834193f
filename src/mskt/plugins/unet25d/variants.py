"""The sizes of the networks, and the three planes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch

from mskt.networks.backbone import BackboneUNet
from mskt.networks.family import Family
from mskt.networks.inference import count
from mskt.networks.variant import Variant
from mskt.plugins.unet25d.network import TwoSkipUNet

PLANES: Final[Mapping[str, int]] = {"axial": 2, "coronal": 1, "sagittal": 0}
"""Which axis of a leg's grid runs across the slices of a plane."""


@dataclass(frozen=True, kw_only=True)
class PlaneVariant(Variant):
    """Everything that fixes the networks and the grid that they work on.

    Attributes:
        widths, batch_norm, dropout: see :class:`~mskt.plugins.unet25d.network.TwoSkipUNet`.
        backbone: encoder of :class:`~mskt.networks.backbone.BackboneUNet`; empty for the simplified
            U-Net of the paper.
        neighbour_mm: the first and the last channel are the slices so far away.
        grid_shape, grid_mm: voxels of a leg's grid, and their size.
        hu_window: values are clamped to this range and mapped linearly to [-1, 1].
    """

    widths: tuple[int, ...]
    batch_norm: bool = True
    dropout: float = 0.2
    backbone: str = ""
    neighbour_mm: float = 4.0
    grid_shape: tuple[int, int, int] = (128, 128, 180)
    grid_mm: tuple[float, float, float] = (2.0, 2.0, 2.0)
    hu_window: tuple[float, float] = (-100.0, 250.0)

    @property
    def multiple(self) -> int:
        """Height and width of the input are multiples of this."""
        return BackboneUNet.multiple if self.backbone else int(2 ** (len(self.widths) - 1))

    def stride(self, axis: int) -> int:
        """Distance of the neighbours in slices across ``axis``."""
        return max(1, round(self.neighbour_mm / self.grid_mm[axis]))


VARIANTS: Final[Mapping[str, PlaneVariant]] = {
    # For two CPU cores: narrow, two coarser resolutions without skips instead.
    "compact": PlaneVariant(widths=(24, 48, 96, 96)),
    # Haque 2019: two skips, no dropout. Widths are ours; Ronneberger's halved.
    "haque": PlaneVariant(widths=(32, 64, 128), batch_norm=False, dropout=0.0),
    # The same with dropout by the rule of Hiasa 2020, for Monte Carlo dropout.
    "haque-bayes": PlaneVariant(widths=(32, 64, 128), dropout=0.5),
    # For checks of the machinery: seconds where the others take minutes.
    "tiny": PlaneVariant(
        widths=(8, 8, 8), grid_shape=(64, 64, 90), grid_mm=(4.0, 4.0, 4.0), neighbour_mm=8.0
    ),
}


def build(variant: PlaneVariant, classes: int) -> TwoSkipUNet | BackboneUNet:
    """An untrained network of one plane."""
    if variant.backbone:
        return BackboneUNet(variant.backbone, 3, classes, variant.dropout)
    return TwoSkipUNet(
        3,
        classes,
        variant.widths,
        batch_norm=variant.batch_norm,
        dropout=variant.dropout,
    )


def variant_sizes() -> dict[str, str]:
    """Parameters of one plane of each variant, with ten classes."""
    sizes = {}
    for name, made in VARIANTS.items():
        with torch.device("meta"):
            sizes[name] = f"3 × {count(build(made, 11)) / 1e6:.2f} M parameters"
    return sizes


FAMILY: Final = Family(
    "unet25d",
    VARIANTS,
    build,
    parts=tuple(PLANES),
    backbones=True,
    default_weights="unet25d-compact",
    default_labels="thigh10",
)

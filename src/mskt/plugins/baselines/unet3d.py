"""``unet3d``: the 3-D U-Net that Haque 2019 and Kim 2024 compare against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from mskt.core.anatomy import LabelSet
from mskt.core.patchwise import Blend
from mskt.networks import unet3d
from mskt.networks.family import Family
from mskt.networks.patch_segmenter import PatchSegmenter
from mskt.networks.unet3d import UNet3dVariant

if TYPE_CHECKING:
    from mskt.training.task import TrainingTask

NAME: Final = "unet3d"
VARIANTS: Final = {
    # Çiçek 2016 on the grid and grey values of Kim 2024: 19 M parameters; for a GPU.
    "paper": UNet3dVariant(),
    # For two CPU cores: the grid and window of the compact unetr (a test holds the two together), so that
    # comparing them compares networks.
    "compact": UNet3dVariant(
        spacing_mm=(4.0, 4.0, 5.0), window=(96, 64, 48), levels=4, base=6, dropout=0.1
    ),
    # For checks of the machinery, never for patients.
    "tiny": UNet3dVariant(
        spacing_mm=(8.0, 8.0, 6.0), window=(32, 32, 16), levels=3, base=2, dropout=0.1
    ),
}
FAMILY: Final = Family(NAME, VARIANTS, unet3d.UNet3d)


def segmenter(
    weights: str = "",
    variant: str = "",
    label_set: str = "",
    device: str = "auto",
    precision: str = "auto",
    region_check: str | bool = "on",
    overlap: float = 0.5,
    blend: Blend = "gaussian",
) -> PatchSegmenter:
    """3-D U-Net in overlapping windows (Çiçek 2016).

    Args:
        weights: name of a set of weights or path; ``random`` builds an untrained network.
        variant: ``paper``, ``compact`` or ``tiny`` (checks only); empty takes that of the weights.
        label_set: with random weights: which classes.
        device: ``auto``, ``cpu``, ``cuda``, …
        precision: ``auto``, ``float32`` or ``bfloat16`` for the network.
        region_check: ``on`` or ``off`` (docs/regions.md).
        overlap: of neighbouring windows, part of their length (docs/patches.md).
        blend: weights of a window's voxels, ``gaussian`` or ``hann``.
    """
    model = FAMILY.load(weights, variant, "", label_set)
    return PatchSegmenter(model, device, precision, region_check, overlap, blend)


def training(label_set: LabelSet, options: Mapping[str, Any]) -> Sequence[TrainingTask]:
    """The one part, ``muscles``; option: ``variant``."""
    from mskt.training.patch_networks import patch_task

    return (patch_task(FAMILY, label_set, options),)

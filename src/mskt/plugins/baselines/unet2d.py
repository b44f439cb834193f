"""``unet2d``: the plain 2-D U-Net that the papers compare against, one slice at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mskt.core.anatomy import LabelSet
from mskt.networks.family import Family
from mskt.networks.slice_segmenter import SliceSegmenter
from mskt.networks.slice_variant import UNetVariant, build_unet

if TYPE_CHECKING:
    from mskt.training.task import TrainingTask

NAME = "unet2d"
VARIANTS: Mapping[str, UNetVariant] = {
    # Ronneberger 2015 at the widths of Hiasa 2020's 5layers, without its dropout.
    "paper": UNetVariant(dropout=0.0),
    # For two CPU cores: that of unet_bayes, without dropout and without neighbouring slices.
    "compact": UNetVariant(
        base=16, batch_norm=True, dropout=0.0, spacing_mm=(2.0, 2.0, 3.0), dense_slope=0.25
    ),
    # For checks of the machinery, never for patients.
    "tiny": UNetVariant(levels=3, base=16, dropout=0.0, spacing_mm=(8.0, 8.0, 6.0)),
}


FAMILY = Family(NAME, VARIANTS, build_unet, backbones=True)


def unet2d(
    weights: str = "",
    variant: str = "",
    backbone: str = "",
    label_set: str = "",
    device: str = "auto",
    precision: str = "auto",
    region_check: str | bool = "on",
) -> SliceSegmenter:
    """A 2-D U-Net without dropout: the same result every time (Haque 2019's 2-D comparison).

    Args:
        weights: name of a set of weights or path; ``random`` builds an untrained network.
        variant: ``paper``, ``compact`` or ``tiny`` (checks only); empty takes that of the weights.
        backbone: encoder of segmentation-models-pytorch or ``tu-NAME`` of timm.
        label_set: with random weights: which classes.
        device: ``auto``, ``cpu``, ``cuda``, …
        precision: ``auto``, ``float32`` or ``bfloat16`` for the convolutions.
        region_check: ``on`` or ``off`` (docs/regions.md).
    """
    model = FAMILY.load(weights, variant, backbone, label_set)
    return SliceSegmenter(model, device, precision, region_check)


def training(label_set: LabelSet, options: Mapping[str, Any]) -> Sequence[TrainingTask]:
    """The one part, ``muscles``; options: ``variant``, ``backbone``."""
    from mskt.training.slice_networks import family_tasks

    return family_tasks(FAMILY, label_set, options)

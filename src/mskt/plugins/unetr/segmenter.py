"""The segmenter ``unetr``."""

from __future__ import annotations

from mskt.core.patchwise import Blend
from mskt.networks.patch_segmenter import PatchSegmenter
from mskt.plugins.unetr.variants import FAMILY


def unetr(
    weights: str = "",
    variant: str = "",
    label_set: str = "",
    device: str = "auto",
    precision: str = "auto",
    region_check: str | bool = "on",
    overlap: float = 0.5,
    blend: Blend = "gaussian",
) -> PatchSegmenter:
    """3-D UNETR in overlapping windows (Kim 2024; Hatamizadeh 2022).

    Args:
        weights: name of a set of weights or path; ``random`` builds an untrained network.
        variant: ``vitb``, ``compact`` or ``tiny`` (checks only); empty takes that of the weights.
        label_set: with random weights: which classes, ``thigh30`` if not given.
        device: ``auto``, ``cpu``, ``cuda``, …
        precision: ``auto``, ``float32`` or ``bfloat16`` for the network.
        region_check: ``on`` or ``off`` (docs/regions.md).
        overlap: of neighbouring windows, part of their length (docs/patches.md).
        blend: weights of a window's voxels, ``gaussian`` or ``hann``.
    """
    model = FAMILY.load(weights, variant, "", label_set)
    return PatchSegmenter(model, device, precision, region_check, overlap, blend)

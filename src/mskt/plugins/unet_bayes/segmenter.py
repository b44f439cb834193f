"""The segmenter ``unet_bayes``: a 2-D network behind the body network that it was trained with."""

from __future__ import annotations

from mskt.networks.slice_segmenter import SliceSegmenter
from mskt.plugins.unet_bayes.cascade import load_cascade


class UNetBayes(SliceSegmenter):
    """Bayesian 2-D U-Net behind a body network (Hiasa 2020, Soufi 2024).

    Args:
        weights: name of a set of weights or path; empty takes the shipped ones, ``random`` builds
            an untrained network (checks and benchmarks only).
        variant: ``5layers``, ``6layers`` or ``compact``; empty takes that of the weights.
        backbone: encoder of segmentation-models-pytorch or ``tu-NAME`` of timm; needs weights for it.
        label_set: with random weights: which classes.
        device: ``auto``, ``cpu``, ``cuda``, …
        precision: ``auto``, ``float32`` or ``bfloat16`` for the convolutions.
        region_check: ``on`` keeps structures out of slices where they cannot be and computes no
            slice where none can be (docs/regions.md); ``off`` takes every slice as hip or thigh.
            Never with random weights.
    """

    def __init__(
        self,
        weights: str = "",
        variant: str = "",
        backbone: str = "",
        label_set: str = "",
        device: str = "auto",
        precision: str = "auto",
        region_check: str | bool = "on",
    ) -> None:
        model, body = load_cascade(weights, variant, backbone, label_set)
        super().__init__(model, device, precision, region_check, body)

"""Bayesian 2-D U-Net in a cascade, body first (Hiasa 2020, Soufi 2024)."""

from __future__ import annotations

from collections.abc import Iterable

from mskt.core.hookspecs import hookimpl
from mskt.core.specs import SegmenterSpec


@hookimpl
def mskt_segmenter() -> Iterable[SegmenterSpec]:
    """Announce ``unet_bayes``."""
    yield SegmenterSpec(
        name="unet_bayes",
        factory="mskt.plugins.unet_bayes.segmenter:UNetBayes",
        summary="Bayesian 2-D U-Net with dropout, body network first (Hiasa 2020, Soufi 2024)",
        training="mskt.plugins.unet_bayes.training:training",
    )

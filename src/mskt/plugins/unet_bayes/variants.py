"""The sizes in which ``unet_bayes`` comes."""

from __future__ import annotations

from mskt.networks.family import Family
from mskt.networks.slice_variant import UNetVariant, build_unet

VARIANTS: dict[str, UNetVariant] = {
    # Hiasa 2020: about 10 M parameters, no batch normalisation.
    "5layers": UNetVariant(),
    # Soufi 2024: about 44 M parameters, batch normalisation in every block.
    "6layers": UNetVariant(levels=6, batch_norm=True),
    # For two CPU cores: coarser grid, narrower, sees its neighbouring slices instead.
    "compact": UNetVariant(
        base=16,
        batch_norm=True,
        dropout=0.2,
        context=2,
        spacing_mm=(2.0, 2.0, 3.0),
        dense_slope=0.25,
    ),
}
PAPER_SIZES = {"5layers": "about 10 M", "6layers": "about 44 M"}
"""Soufi 2024, section 2.3."""

FAMILY = Family(
    "unet_bayes", VARIANTS, build_unet, default_weights="unet_bayes-compact", backbones=True
)

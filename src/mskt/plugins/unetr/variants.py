"""The sizes in which ``unetr`` comes, and how they are loaded."""

from __future__ import annotations

from typing import Final

from mskt.networks.family import Family
from mskt.plugins.unetr.network import UNETR, UnetrVariant

NAME: Final = "unetr"
VARIANTS: Final = {
    # Kim 2024 (Hatamizadeh 2022): ViT-B, 93 M parameters; for a GPU.
    "vitb": UnetrVariant(),
    # For two CPU cores: a window sees 200 × 200 × 144 mm, a hip or thigh with its surroundings.
    "compact": UnetrVariant(
        spacing_mm=(2.5, 2.5, 3.0),
        window=(80, 80, 48),
        embedding=192,
        depth=8,
        heads=6,
        mlp=768,
        features=8,
        dropout=0.1,
    ),
    # For checks of the machinery, never for patients.
    "tiny": UnetrVariant(
        spacing_mm=(8.0, 8.0, 6.0),
        window=(32, 32, 16),
        embedding=24,
        depth=8,
        heads=2,
        mlp=48,
        features=2,
        dropout=0.1,
    ),
}
FAMILY: Final = Family(NAME, VARIANTS, UNETR, default_labels="thigh30")

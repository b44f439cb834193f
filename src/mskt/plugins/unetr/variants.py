"""The sizes in which ``unetr`` comes, and how they are loaded."""

from __future__ import annotations

from typing import Final

from mskt.networks.family import Family
from mskt.plugins.unetr.network import UNETR, UnetrVariant

NAME: Final = "unetr"
VARIANTS: Final = {
    # Kim 2024 (Hatamizadeh 2022): ViT-B, 93 M parameters; for a GPU.
    "vitb": UnetrVariant(),
    # For two CPU cores: a window sees 384 × 256 × 240 mm, both hips or thighs at once, so that where a
    # muscle lies can be learned from few steps. Finer windows learned bones only (docs/experiments/0005).
    "compact": UnetrVariant(
        spacing_mm=(4.0, 4.0, 5.0),
        window=(96, 64, 48),
        embedding=192,
        depth=8,
        heads=6,
        mlp=768,
        features=16,
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
FAMILY: Final = Family(
    NAME, VARIANTS, UNETR, default_labels="thigh30", default_weights="unetr-compact"
)

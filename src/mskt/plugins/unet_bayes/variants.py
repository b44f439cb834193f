"""The sizes of the network: those of the papers, and compact ones for a computer without a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mskt.core.anatomy import suggestion
from mskt.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class Variant:
    """Everything that fixes a network and the grid that it works on.

    Attributes:
        levels, base, batch_norm, dropout: see :class:`~mskt.plugins.unet_bayes.network.BayesianUNet`.
        context: neighbouring slices on each side given as further channels; 0 in the papers.
        spacing_mm: working grid along right, anterior, superior.
        hu_window: values are clamped to this range and mapped linearly to [-1, 1].
        backbone: encoder name of segmentation-models-pytorch, empty for the U-Net of the papers.
        dense_slope: above the window, see :func:`mskt.core.intensity.normalised`; 0 in the papers.
    """

    levels: int = 5
    base: int = 32
    batch_norm: bool = False
    dropout: float = 0.5
    context: int = 0
    spacing_mm: tuple[float, float, float] = (360 / 512, 360 / 512, 1.0)
    hu_window: tuple[float, float] = (-150.0, 350.0)
    backbone: str = ""
    dense_slope: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """For model cards and ``run.json``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Variant:
        """The inverse of :meth:`as_dict` after a journey through JSON."""
        plain: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**plain)


VARIANTS: dict[str, Variant] = {
    # Hiasa 2020: about 10 M parameters, no batch normalisation.
    "5layers": Variant(),
    # Soufi 2024: about 44 M parameters, batch normalisation in every block.
    "6layers": Variant(levels=6, batch_norm=True),
    # For two CPU cores: coarser grid, narrower, sees its neighbouring slices instead.
    "compact": Variant(
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

BODY = Variant(
    levels=5,
    base=12,
    batch_norm=True,
    dropout=0.0,
    spacing_mm=(4.0, 4.0, 3.0),
    hu_window=(-500.0, 300.0),
)
"""The first stage: where is the body. Deterministic; coarse, since skin is a strong edge."""


def variant(name: str) -> Variant:
    """The variant of that name."""
    if name not in VARIANTS:
        raise UsageError(
            "", f"no variant of unet_bayes named {name!r}.", suggestion(name, tuple(VARIANTS))
        )
    return VARIANTS[name]

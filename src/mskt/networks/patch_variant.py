"""What distinguishes the sizes in which a 3-D segmenter comes: its network and its input."""

from __future__ import annotations

from dataclasses import dataclass

from mskt.core.patchwise import Blend, PatchInput
from mskt.networks.variant import Variant


@dataclass(frozen=True, kw_only=True)
class PatchVariant(Variant):
    """The input of a 3-D segmenter, and how much of the network is dropped; as Kim 2024 has it.

    Attributes:
        dropout: see :class:`~mskt.networks.variant.Variant`; 0 in the paper.
        spacing_mm: working grid along right, anterior, superior.
        window: voxels that the network takes along each axis.
        hu_window, gamma: see :func:`mskt.core.intensity.brightness`.
    """

    spacing_mm: tuple[float, float, float] = (1.5, 1.5, 2.0)
    window: tuple[int, int, int] = (96, 96, 96)
    hu_window: tuple[float, float] = (-57.0, 164.0)
    gamma: float = 2.0

    def given(self, overlap: float, blend: Blend) -> PatchInput:
        """For :class:`~mskt.core.patchwise.PatchSweep`."""
        return PatchInput(self.window, self.hu_window, self.gamma, overlap, blend)

    @property
    def case_shape(self) -> tuple[int, int, int]:
        """Voxels of a training case: 384 × 288 × 288 mm, or a window where that is more."""
        x, y, z = (
            max(round(extent / step / 16) * 16, least)
            for extent, step, least in zip(
                (384, 288, 288), self.spacing_mm, self.window, strict=True
            )
        )
        return x, y, z

"""When further draws would change nothing: ``--samples auto``.

Each region of a scan stops for itself. After 4, 6, 8 … draws the mean doubt of each class in the
region is compared with what it was two draws before; the region has settled when the sum of the
changes, weighted by voxels, is below a twentieth of the whole. A structure spans many regions, whose
remaining errors average out.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from mskt.plugins.uncertainty.measures import MEASURES, Accumulator

FIRST: Final = 4
EVERY: Final = 2
TOLERANCE: Final = 0.05


class Watch:
    """Looks at one region's draws as they come.

    Args:
        measure: name of :data:`MEASURES` that must settle.
    """

    def __init__(self, measure: str) -> None:
        self._measure = measure
        self._before: Tensor | None = None

    def settled(self, accumulator: Accumulator) -> bool:
        """True if the draws taken so far are enough; to be asked after each draw."""
        count = accumulator.count
        if count < FIRST or (count - FIRST) % EVERY:
            return False
        now = self._sums(accumulator)
        before, self._before = self._before, now
        if before is None:
            return bool(now.sum() == 0)  # nothing here but background
        return bool((now - before).abs().sum() <= TOLERANCE * now.sum())

    def _sums(self, accumulator: Accumulator) -> Tensor:
        """Σ of the measure over the voxels of each class but the background, ``(C,)``.

        A variance with 1/T grows with T by (T − 1)/T even where nothing changes: taken out here.
        """
        mean, doubt = accumulator.so_far(self._measure)
        if MEASURES[self._measure].spread:
            doubt = doubt * (accumulator.count / (accumulator.count - 1))
        winner = mean.argmax(dim=0).flatten()
        sums = torch.zeros(len(mean), dtype=torch.float64, device=mean.device)
        sums.index_add_(0, winner, doubt.flatten().double())
        return sums[1:]

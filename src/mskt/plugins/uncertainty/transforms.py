"""Test-time augmentation: a segmenter that sees the image as another scanner might have given it.

Draw 0 is the image itself. In the others the HU are scaled and shifted at random (calibration of
scanners, contrast), and every second draw is mirrored left to right where the segmenter was trained
for that. Nothing is interpolated, so each draw lies on the segmenter's own working grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from torch import Tensor

from mskt.core.anatomy import LabelSet
from mskt.core.interfaces import Region, ReportsEvents, Segmenter, Tags, still
from mskt.core.seeding import generator
from mskt.core.volume import Volume

SHIFT_HU: Final = 10.0
GAIN: Final = 0.05
"""Standard deviations: about twice what training varied (docs/training.md)."""


class Transformed(Segmenter):
    """Another segmenter's draws, draw ``t`` of image ``t``.

    Args:
        inner: the segmenter.
        random: its draws are random too (Monte Carlo dropout).
    """

    def __init__(self, inner: Segmenter, *, random: bool) -> None:
        self._inner = inner
        self._random = random
        self.label_set = inner.label_set
        self.tags = Tags(stochastic=True, members=1)
        self._swapped = _swapped(inner.label_set) if inner.tags.mirror else None
        self._seen: tuple[Volume, dict[tuple[int, int], Volume]] | None = None

    def prepare(self, image: Volume) -> Sequence[Volume]:
        """That of the inner segmenter."""
        return self._inner.prepare(image)

    def regions(self, image: Volume) -> Sequence[Region]:
        """Those of the inner segmenter."""
        return self._inner.regions(image)

    def draw(self, image: Volume, region: Region, *, index: int, seed: int) -> Tensor:
        """Change the image, draw, and change the result back."""
        number = index if index >= 0 else still(index)
        mirrored = self._swapped is not None and number % 2 == 1
        changed = self._changed(image, number, seed, mirrored)
        axis = image.grid.axis_order[0]
        there = _mirrored(region, axis, image.data.shape[axis]) if mirrored else region
        inner = number if self._random else still(number)
        draw = self._inner.draw(changed, there, index=inner, seed=seed)
        return draw[self._swapped].flip(1 + axis) if mirrored else draw

    def events(self) -> Sequence[str]:
        """Those of the inner segmenter."""
        return self._inner.events() if isinstance(self._inner, ReportsEvents) else ()

    def _changed(self, image: Volume, number: int, seed: int, mirrored: bool) -> Volume:
        """The image of a draw; those of one working grid are kept, as every region wants them."""
        if number == 0:
            return image
        if self._seen is None or self._seen[0] is not image:
            self._seen = (image, {})
        held = self._seen[1]
        if (number, seed) not in held:
            held[number, seed] = _change(image, number, seed, mirrored)
        return held[number, seed]


def _change(image: Volume, number: int, seed: int, mirrored: bool) -> Volume:
    rng = generator(seed, "test-time augmentation", number)
    gain, shift = 1 + GAIN * rng.standard_normal(), SHIFT_HU * rng.standard_normal()
    data = (image.data * np.float32(gain) + np.float32(shift)).astype(np.float32)
    mask = image.mask
    if mirrored:
        axis = image.grid.axis_order[0]
        data = np.flip(data, axis).copy(order="K")
        mask = None if mask is None else np.flip(mask, axis).copy(order="K")
    if not image.data.flags.writeable:  # a sweep remembers what it computed of such an image
        data.flags.writeable = False
        if mask is not None:
            mask.flags.writeable = False
    return replace(image, data=data, mask=mask)


def _mirrored(region: Region, axis: int, length: int) -> Region:
    start, stop = list(region.start), list(region.stop)
    start[axis], stop[axis] = length - region.stop[axis], length - region.start[axis]
    return Region((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def _swapped(label_set: LabelSet) -> list[int] | None:
    """For each channel the one of the other side; None where a structure has no counterpart."""
    other = {"left": "right", "right": "left"}
    by_elements = {s.elements: s.index for s in label_set.structures if s.elements}
    channels = [0]
    for structure in label_set.structures:
        mirror = frozenset((name, other.get(side, side)) for name, side in structure.elements)
        if structure.elements and mirror not in by_elements:
            return None
        channels.append(by_elements.get(mirror, structure.index))
    return channels

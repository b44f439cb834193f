"""Batches of axial slices with their neighbours, drawn from a window of cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mskt.core.seeding import generator
from mskt.training.cases import TrainingCase

P_LABELLED = 0.85
"""Chance to look for a slice with labels; the rest are slices of any kind."""


@dataclass(frozen=True)
class SliceBatches:
    """Batch ``step`` is a function of (seed, step, cases) alone.

    Attributes:
        context: neighbouring slices on each side, as channels.
        size: pixels (x, y) of the crop.
        hu_window: mapped linearly to [-1, 1].
        batch: slices a batch.
        seed: of the choice of slices, crops and flips.
    """

    context: int
    size: tuple[int, int]
    hu_window: tuple[float, float]
    batch: int = 16
    seed: int = 0

    def get(
        self, step: int, cases: Sequence[TrainingCase]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Images ``(batch, 2·context + 1, x, y)`` and targets ``(batch, x, y)``."""
        rng = generator(self.seed, "batch", step)
        pairs = [self._slice(cases[int(rng.integers(len(cases)))], rng) for _ in range(self.batch)]
        return np.stack([image for image, _ in pairs]), np.stack([target for _, target in pairs])

    def _slice(
        self, case: TrainingCase, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        depth = case.image.shape[2]
        labelled = np.flatnonzero(((case.target > 0) & (case.target < 255)).any(axis=(0, 1)))
        if len(labelled) and rng.random() < P_LABELLED:
            k = int(rng.choice(labelled))
        else:
            k = int(rng.integers(depth))
        box = _box(case.body[:, :, k], self.size, rng)
        numbers = np.clip(np.arange(k - self.context, k + self.context + 1), 0, depth - 1)
        planes = case.image[box][:, :, numbers].astype(np.float32)
        # What inference does: air outside the body; now and then with an uncertain border or not.
        if rng.random() < 0.9:
            planes[~case.body[box][:, :, numbers]] = -1024
        planes += rng.normal(0, 6)
        planes *= rng.uniform(0.96, 1.04)
        low, high = self.hu_window
        image = (np.clip(planes, low, high) - low) * (2 / (high - low)) - 1
        target = case.target[box][:, :, k].astype(np.int64)
        image, target = _padded(image, self.size, -1.0), _padded(target, self.size, 0)
        if rng.random() < 0.5:  # both sides share a class
            image, target = image[::-1], target[::-1]
        return np.ascontiguousarray(image.transpose(2, 0, 1), np.float32), target.copy()


def _box(
    body: NDArray[np.bool_], size: tuple[int, int], rng: np.random.Generator
) -> tuple[slice, slice]:
    """A crop of that size whose middle lies in the body's bounding box."""
    spans = []
    for axis in (0, 1):
        busy = np.flatnonzero(body.any(axis=1 - axis))
        first, last = (int(busy[0]), int(busy[-1])) if len(busy) else (0, body.shape[axis] - 1)
        low, high = first - 8, last + 9 - size[axis]
        start = int(rng.integers(min(low, high), max(low, high) + 1))
        start = int(np.clip(start, 0, max(0, body.shape[axis] - size[axis])))
        spans.append(slice(start, start + size[axis]))
    return spans[0], spans[1]


def _padded(array: NDArray, size: tuple[int, int], value: float) -> NDArray:  # type: ignore[type-arg]
    pad = [(0, max(0, s - n)) for s, n in zip(size, array.shape, strict=False)]
    pad += [(0, 0)] * (array.ndim - 2)
    return np.pad(array, pad, constant_values=value)

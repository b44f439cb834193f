"""Axial slices with their neighbours: the task of every 2-D network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from mskt.core.anatomy import LabelSet
from mskt.core.errors import UsageError
from mskt.core.intensity import normalised
from mskt.core.resample import AIR_HU
from mskt.training.augment import draw_placement, take
from mskt.training.cases import TrainingCase
from mskt.training.recipes import Recipe
from mskt.training.task import Sample, TrainingTask, jittered

MARGIN = 8
"""Pixels that a crop may reach beyond the bounding box of the body."""


@dataclass(frozen=True)
class SliceTask(TrainingTask):
    """A 2-D network that takes a slice, or a slice with its neighbours as further channels.

    Attributes:
        name, network, label_set, spacing_mm, shape, card, fallback: see :class:`TrainingTask`.
        hu_window, dense_slope: see :func:`mskt.core.intensity.normalised`.
        context: neighbouring slices on each side.
        multiple: height and width that the network takes are multiples of this.
    """

    name: str
    network: Callable[[], nn.Module]
    label_set: LabelSet
    spacing_mm: tuple[float, float, float] = (2.0, 2.0, 3.0)
    hu_window: tuple[float, float] = (-150.0, 350.0)
    dense_slope: float = 0.0
    context: int = 0
    multiple: int = 1
    shape: tuple[int, int, int] = (192, 144, 96)
    card: Mapping[str, Any] = field(default_factory=dict)
    fallback: str = ""

    def size(self, recipe: Recipe) -> tuple[int, int]:
        """Pixels (x, y) of a training sample."""
        crop = recipe.sampling.crop or self.shape[:2]
        if len(crop) != 2:
            raise UsageError(
                f"recipe {recipe.name!r}",
                f"has crops of {len(crop)} axes; {self.name!r} is a 2-D network",
                "Choose a recipe for 2-D networks, or set sampling.crop in one of your own.",
            )
        return _up(crop[0], self.multiple), _up(crop[1], self.multiple)

    def adapted(self, case: TrainingCase) -> Sequence[TrainingCase]:
        """The case itself, each slice in one piece of memory: taking samples costs a third less."""
        return (
            replace(
                case,
                image=np.asfortranarray(case.image),
                target=np.asfortranarray(case.target),
                body=np.asfortranarray(case.body),
            ),
        )

    def sample(self, case: TrainingCase, recipe: Recipe, rng: np.random.Generator) -> Sample:
        """A random crop of a random slice."""
        depth = case.image.shape[2]
        labelled = rng.random() < recipe.sampling.labelled
        if labelled and len(case.labelled_slices):
            k = int(rng.choice(case.labelled_slices))
        else:
            k = int(rng.integers(depth))
        size = self.size(recipe)
        centre = crop_centre(case.body[:, :, k], size, rng)
        placed = draw_placement(size, centre, self.spacing_mm, recipe.augmentation, rng)
        numbers = self._neighbours(k, depth)
        planes = take(case.image[:, :, numbers], placed, fill=AIR_HU, linear=True)
        if rng.random() < recipe.sampling.masked:
            inside = take(case.body[:, :, numbers], placed, fill=0.0, linear=False) > 0.5
            planes = np.where(inside, planes, np.float32(AIR_HU))
        target = take(self.truth(case, k), placed, fill=0.0, linear=False)
        return self.finished(jittered(planes, recipe, rng), target)

    def tiles(self, case: TrainingCase, recipe: Recipe) -> Iterator[Sample]:
        """Whole slices, evenly spaced where the recipe limits their number."""
        depth = case.image.shape[2]
        limit = recipe.checks.slices
        count = min(limit, depth) if limit else depth
        for k in np.unique(np.linspace(0, depth - 1, count).round().astype(int)):
            numbers = self._neighbours(int(k), depth)
            planes = case.image[:, :, numbers].astype(np.float32)
            if recipe.sampling.masked:
                planes[~case.body[:, :, numbers]] = AIR_HU
            ends = [(0, -n % self.multiple) for n in planes.shape[:2]]
            planes = np.pad(planes, [*ends, (0, 0)], constant_values=AIR_HU)
            target = np.pad(self.truth(case, int(k)), ends, constant_values=0)
            yield self.finished(planes, target)

    def samples_in(self, case: TrainingCase, recipe: Recipe) -> int:
        """Its slices."""
        return int(case.image.shape[2]) * recipe.sampling.per_case

    def truth(self, case: TrainingCase, k: int) -> NDArray[Any]:
        """The target of slice ``k``, (x, y)."""
        return case.target[:, :, k]

    def finished(self, planes: NDArray[np.float32], target: NDArray[Any]) -> Sample:
        """From HU ``(x, y, channels)`` and classes ``(x, y)`` to what the network takes."""
        values = normalised(planes, self.hu_window, self.dense_slope)
        image = np.ascontiguousarray(values.transpose(2, 0, 1))
        return image, target.astype(np.int64)

    def _neighbours(self, k: int, depth: int) -> NDArray[np.intp]:
        return np.clip(np.arange(k - self.context, k + self.context + 1), 0, depth - 1)


def crop_centre(
    body: NDArray[np.bool_], size: tuple[int, ...], rng: np.random.Generator
) -> NDArray[np.float64]:
    """The centre of a crop of that size at a random place over the body.

    Along an axis on which the crop is larger than the array, the array lies in its middle.

    Args:
        body: two or three axes.
        size: of the crop, as many axes.
        rng: for the place.
    """
    centre = []
    for axis, length in enumerate(size):
        others = tuple(a for a in range(body.ndim) if a != axis)
        busy = np.flatnonzero(body.any(axis=others))
        room = body.shape[axis] - length
        if room <= 0:
            start = room // 2
        else:
            first, last = (busy[0], busy[-1]) if len(busy) else (0, body.shape[axis] - 1)
            ends = sorted((int(first) - MARGIN, int(last) + 1 + MARGIN - length))
            start = int(np.clip(rng.integers(ends[0], ends[1] + 1), 0, room))
        centre.append(start + (length - 1) / 2)
    return np.array(centre)


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple

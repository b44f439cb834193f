"""Boxes of voxels: the task of every 3-D network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from torch import nn

from mskt.core.anatomy import LabelSet
from mskt.core.errors import UsageError
from mskt.core.intensity import brightness
from mskt.core.resample import AIR_HU
from mskt.training.augment import draw_placement, take
from mskt.training.cases import TrainingCase
from mskt.training.losses import IGNORED
from mskt.training.recipes import Recipe
from mskt.training.slices import crop_centre
from mskt.training.task import Sample, TrainingTask, jittered


@dataclass(frozen=True)
class PatchTask(TrainingTask):
    """A 3-D network that takes boxes of one size.

    Attributes:
        name, network, label_set, spacing_mm, shape, card, fallback: see :class:`TrainingTask`.
        hu_window, gamma: see :func:`mskt.core.intensity.brightness`.
        patch: voxels (x, y, z) where the recipe names no crop.
    """

    name: str
    network: Callable[[], nn.Module]
    label_set: LabelSet
    spacing_mm: tuple[float, float, float] = (1.5, 1.5, 2.0)
    hu_window: tuple[float, float] = (-57.0, 164.0)
    gamma: float = 1.0
    patch: tuple[int, int, int] = (96, 96, 96)
    shape: tuple[int, int, int] = (256, 192, 144)
    card: Mapping[str, Any] = field(default_factory=dict)
    fallback: str = ""

    def size(self, recipe: Recipe) -> tuple[int, int, int]:
        """Voxels (x, y, z) of a training sample."""
        crop = recipe.sampling.crop or self.patch
        if len(crop) != 3:
            raise UsageError(
                f"recipe {recipe.name!r}",
                f"has crops of {len(crop)} axes; {self.name!r} is a 3-D network",
                "Choose a recipe for 3-D networks, or set sampling.crop in one of your own.",
            )
        return crop[0], crop[1], crop[2]

    def sample(self, case: TrainingCase, recipe: Recipe, rng: np.random.Generator) -> Sample:
        """A random box; around a labelled voxel as often as the recipe says."""
        size = self.size(recipe)
        centre = crop_centre(case.body, size, rng)
        if rng.random() < recipe.sampling.labelled and len(case.labelled_slices):
            k = int(rng.choice(case.labelled_slices))
            there = np.argwhere((case.target[:, :, k] > 0) & (case.target[:, :, k] < IGNORED))
            centre = np.array([*there[rng.integers(len(there))], k], float)
        placed = draw_placement(size, centre, self.spacing_mm, recipe.augmentation, rng)
        values = take(case.image, placed, fill=AIR_HU, linear=True)
        if rng.random() < recipe.sampling.masked:
            inside = take(case.body, placed, fill=0.0, linear=False) > 0.5
            values = np.where(inside, values, np.float32(AIR_HU))
        target = take(case.target, placed, fill=0.0, linear=False)
        image = brightness(jittered(values, recipe, rng), self.hu_window, self.gamma)
        return image[None], target.astype(np.int64)

    def tiles(self, case: TrainingCase, recipe: Recipe) -> Iterator[Sample]:
        """Boxes that hold all of the case; none sticks out of it if it is large enough.

        The last of an axis begins where it fits, as in inference: what it has in common with the one
        before it counts for nothing there, as does what sticks out.
        """
        size = self.size(recipe)
        counts = [-(-n // s) for n, s in zip(case.image.shape, size, strict=True)]
        for place in product(*map(range, counts)):
            box, known = [], []
            for p, s, n in zip(place, size, case.image.shape, strict=True):
                start = max(0, min(p * s, n - s))
                box.append(slice(start, start + s))
                known.append(slice(0, p * s - start))
            inside = tuple(box)
            values = case.image[inside].astype(np.float32)
            target = case.target[inside].astype(np.int64)
            if recipe.sampling.masked:
                values[~case.body[inside]] = AIR_HU
            for axis, twice in enumerate(known):
                np.moveaxis(target, axis, 0)[twice] = IGNORED
            ends = [(0, s - n) for s, n in zip(size, values.shape, strict=True)]
            values = np.pad(values, ends, constant_values=AIR_HU)
            target = np.pad(target, ends, constant_values=IGNORED)
            yield brightness(values, self.hu_window, self.gamma)[None], target

    def samples_in(self, case: TrainingCase, recipe: Recipe) -> int:
        """``per_case`` of the recipe, whatever its size."""
        return recipe.sampling.per_case

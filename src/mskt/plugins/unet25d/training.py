"""How ``unet25d`` is trained: one network for each plane, on legs aligned as in inference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from mskt.core.anatomy import LabelSet
from mskt.core.errors import UsageError
from mskt.core.intensity import normalised
from mskt.core.levelnet import shipped as shipped_levels
from mskt.core.resample import AIR_HU, resample_labels
from mskt.core.volume import FloatArray, Grid, Volume
from mskt.networks.variant import DEFAULT_VARIANT
from mskt.plugins.unet25d.alignment import FieldOfView, leg_grid, on_grid
from mskt.plugins.unet25d.legs import Leg
from mskt.plugins.unet25d.planes import with_neighbours
from mskt.plugins.unet25d.thigh import Finder, Found
from mskt.plugins.unet25d.variants import FAMILY, PLANES, PlaneVariant, build
from mskt.training.augment import draw_placement, take
from mskt.training.cases import TrainingCase
from mskt.training.losses import IGNORED
from mskt.training.recipes import Recipe
from mskt.training.slice_networks import check_options
from mskt.training.task import Sample, TrainingTask, jittered

CASE_MM = (384.0, 288.0, 380.0)
"""Size of a synthetic case: both thighs, and a field of view of 360 mm with some room."""
FEMUR = "femur"


def training(label_set: LabelSet, options: Mapping[str, Any]) -> Sequence[TrainingTask]:
    """The three parts, ``axial``, ``coronal`` and ``sagittal``, on one footing.

    Args:
        label_set: classes of the networks.
        options: ``variant`` (``compact`` if not given) and ``backbone``.
    """
    check_options(FAMILY.segmenter, options, ("variant", "backbone"))
    name = str(options.get("variant") or DEFAULT_VARIANT)
    made: PlaneVariant = FAMILY.variant(name, str(options.get("backbone", "")))
    shape = tuple(round(mm / step / 2) * 2 for mm, step in zip(CASE_MM, made.grid_mm, strict=True))
    return [
        PlaneTask(
            plane,
            partial(build, made, len(label_set.names) + 1),
            label_set,
            made,
            made.grid_mm,
            (shape[0], shape[1], shape[2]),
            {"variant_name": name, "variant": made.as_dict()},
        )
        for plane in PLANES
    ]


@dataclass(frozen=True)
class PlaneTask(TrainingTask):
    """The network of one plane.

    Attributes:
        name: the plane.
        network, label_set, spacing_mm, shape, card, fallback: see :class:`TrainingTask`.
        variant: the input of the network, and the grid of a leg.
    """

    name: str
    network: Callable[[], nn.Module]
    label_set: LabelSet
    variant: PlaneVariant
    spacing_mm: tuple[float, float, float]
    shape: tuple[int, int, int]
    card: Mapping[str, Any] = field(default_factory=dict)
    fallback: str = ""

    @property
    def axis(self) -> int:
        """Of a leg's grid, across the slices."""
        return PLANES[self.name]

    def adapted(self, case: TrainingCase) -> Sequence[TrainingCase]:
        """Each leg on its whole field of view, by the steps of inference; none without a femur.

        Where no femur is found in the image, that of the labels is taken, if they have one.
        """
        affine = np.diag([*self.spacing_mm, 1.0])
        image = Volume(case.image.astype(np.float32), affine, mask=case.body)
        finder = Finder(
            FieldOfView(self.variant.grid_shape, self.variant.grid_mm), None, shipped_levels()
        )
        found = finder.find(image)
        if not found.legs and FEMUR in self.label_set.names:
            found = finder.find(image, case.target == self.label_set[FEMUR].index)
        return [self._leg(case, image, found, leg, finder.view) for leg in found.legs]

    def _leg(
        self, case: TrainingCase, image: Volume, found: Found, leg: Leg, view: FieldOfView
    ) -> TrainingCase:
        """One leg of a case; labels of what is no part of it count for nothing."""
        grid: Grid = leg_grid(leg.shaft, leg.side, found.lower_mm, view)
        data = on_grid(image.data, image.grid, grid)
        body = on_grid(leg.mask.astype(np.float32), found.grid, grid, fill=0.0) > 0.5
        target = resample_labels(case.target, image.grid, grid)
        target[(target > 0) & ~body] = IGNORED
        return replace(case, image=np.rint(data).astype(np.int16), target=target, body=body)

    def sample(self, case: TrainingCase, recipe: Recipe, rng: np.random.Generator) -> Sample:
        """A random slice of this plane through the leg."""
        body = np.moveaxis(case.body, self.axis, 0)
        numbers: NDArray[np.intp] = np.flatnonzero(np.asarray(body.any(axis=(1, 2))))
        if rng.random() < recipe.sampling.labelled:
            target = np.moveaxis(case.target, self.axis, 0)
            labelled = np.flatnonzero(((target > 0) & (target < IGNORED)).any(axis=(1, 2)))
            numbers = labelled if len(labelled) else numbers
        n = int(rng.choice(numbers)) if len(numbers) else int(rng.integers(len(body)))
        planes, target = self._slice(case, n, masked=rng.random() < recipe.sampling.masked)
        size = self._size(recipe)
        # Legs are right legs: nothing is flipped.
        varied = replace(recipe.augmentation, flip=0.0)
        centre = (np.array(target.shape) - 1) / 2
        placed = draw_placement(size, centre, self._plane_mm, varied, rng)
        moved = take(planes.transpose(1, 2, 0), placed, fill=AIR_HU, linear=True)
        truth = take(target, placed, fill=0.0, linear=False)
        return self._finished(jittered(moved, recipe, rng).transpose(2, 0, 1), truth)

    def tiles(self, case: TrainingCase, recipe: Recipe) -> Iterator[Sample]:
        """Whole slices through the leg, evenly spaced where the recipe limits their number."""
        inside = np.asarray(np.moveaxis(case.body, self.axis, 0).any(axis=(1, 2)))
        numbers = np.flatnonzero(inside) if inside.any() else np.arange(len(inside))
        count = min(recipe.checks.slices or len(numbers), len(numbers))
        chosen = np.linspace(0, len(numbers) - 1, count).round().astype(int)
        for n in numbers[np.unique(chosen)]:
            planes, target = self._slice(case, int(n), masked=recipe.sampling.masked > 0)
            ends = [(0, -size % self.variant.multiple) for size in target.shape]
            planes = np.pad(planes, [(0, 0), *ends], constant_values=AIR_HU)
            yield self._finished(planes, np.pad(target, ends))

    def samples_in(self, case: TrainingCase, recipe: Recipe) -> int:
        """The slices of two legs."""
        return 2 * self.variant.grid_shape[self.axis] * recipe.sampling.per_case

    @property
    def _plane_mm(self) -> tuple[float, ...]:
        return tuple(mm for a, mm in enumerate(self.variant.grid_mm) if a != self.axis)

    def _size(self, recipe: Recipe) -> tuple[int, ...]:
        """Pixels of a sample."""
        whole = tuple(n for a, n in enumerate(self.variant.grid_shape) if a != self.axis)
        crop = recipe.sampling.crop or whole
        if len(crop) != 2:
            raise UsageError(
                f"recipe {recipe.name!r}",
                f"has crops of {len(crop)} axes; {self.name!r} is a 2-D network",
                "Choose a recipe for 2-D networks, or set sampling.crop in one of your own.",
            )
        return tuple(n + -n % self.variant.multiple for n in crop)

    def _slice(
        self, case: TrainingCase, n: int, *, masked: bool
    ) -> tuple[FloatArray, NDArray[np.uint8]]:
        """HU ``(3, rows, columns)`` and classes of a slice; masked: air around the leg."""
        target = np.moveaxis(case.target, self.axis, 0)[n]
        stride = self.variant.stride(self.axis)
        planes = with_neighbours(case.image, self.axis, n, stride)
        if masked:
            inside = with_neighbours(case.body.astype(np.float32), self.axis, n, stride) > 0.5
            planes = np.where(inside, planes, np.float32(AIR_HU))
            target = np.where(target == IGNORED, 0, target) * inside[1]
        return planes, target.astype(np.uint8)

    def _finished(self, planes: FloatArray, target: NDArray[Any]) -> Sample:
        values = normalised(planes, self.variant.hu_window)
        return np.ascontiguousarray(values), target.astype(np.int64)

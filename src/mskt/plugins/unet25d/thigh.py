"""From a CT to its thighs: region, legs, femurs, alignment (Haque 2019, sections 2.1 and 2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mskt.core.levelnet import LevelNet, slice_levels
from mskt.core.regions import SliceLevels, standard_mm, summary
from mskt.core.resample import AIR_HU, resample_image, working_grid
from mskt.core.volume import FloatArray, Grid, Volume
from mskt.networks.body import body_mask
from mskt.plugins.unet25d.alignment import FieldOfView, aligned, in_image, leg_grid, lower_end_mm
from mskt.plugins.unet25d.femur import shafts, shafts_of
from mskt.plugins.unet25d.legs import Leg, separated

SEARCH_MM = (2.0, 2.0, 3.0)
"""Grid on which body, regions and femurs are found."""
SHAFT = (0.1, 0.9)
"""Body coordinates between which the femur is a shaft."""
LIKELY = 0.5
"""Probability with which a slice must lie there to be searched."""
NO_THIGH = "no thigh in view"
NO_FEMUR = "no femur found"


@dataclass(frozen=True)
class Finder:
    """Finds thighs in images of any field of view.

    Attributes:
        view: size of a leg's grid.
        body: network that finds the body; None takes the image's own mask, or everything.
        levels: network that says at which level a slice lies; None takes every slice as thigh.
        device, dtype: of the body network.
    """

    view: FieldOfView
    body: nn.Module | None = None
    levels: LevelNet | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32

    def find(self, image: Volume, femur: NDArray[np.bool_] | None = None) -> Found:
        """The legs of an image, and where their fields of view begin.

        Args:
            image: HU on any grid.
            femur: on the image's grid, where that is known: bone is then not looked for.
        """
        grid = working_grid(image.grid, SEARCH_MM)
        data = resample_image(image.data, image.grid, grid)
        body = self._body_on(image, data, grid)
        levels = None if self.levels is None else slice_levels(data, grid, body, self.levels)
        where = _shaft_slices(levels, body)
        if not where.any():
            return Found(grid, (), 0.0, f"{NO_THIGH}{_shown(levels)}; nothing done")
        femurs = (
            shafts(data, grid, body, where)
            if femur is None
            else shafts_of(_on(femur, image.grid, grid), grid, where)
        )
        if not femurs:
            return Found(grid, (), 0.0, f"{NO_FEMUR} in the thigh; nothing done")
        lower = lower_end_mm(levels, grid, self.view.length_mm)
        legs = separated(body, grid, femurs)
        return Found(grid, legs, lower, _told(legs))

    def thighs(self, image: Volume) -> tuple[Volume, ...]:
        """Each thigh on its own grid, the right one first.

        Where there is none, one voxel with an empty mask and a note that says why.
        """
        found = self.find(image)
        notes = (*image.notes, found.note) if found.note else image.notes
        if not found.legs:
            air = np.full((1, 1, 1), np.float32(AIR_HU))
            return (replace(image, data=air, mask=np.zeros((1, 1, 1), bool), notes=notes),)
        return tuple(
            replace(aligned(image, leg, found.grid, self.grid(found, leg, image.grid)), notes=notes)
            for leg in found.legs
        )

    def grid(self, found: Found, leg: Leg, image: Grid) -> Grid:
        """The part of a leg's field of view that the image has."""
        return in_image(leg_grid(leg.shaft, leg.side, found.lower_mm, self.view), image)

    def _body_on(self, image: Volume, data: FloatArray, grid: Grid) -> NDArray[np.bool_]:
        if self.body is not None:
            return body_mask(data, grid, self.body, self.device, self.dtype)
        if image.mask is None:
            return np.ones(grid.shape, bool)
        return _on(image.mask, image.grid, grid)


@dataclass(frozen=True)
class Found:
    """What :meth:`Finder.find` found.

    Attributes:
        grid: canonical, of the legs' masks.
        legs: the right one first.
        lower_mm: world height at which the fields of view begin.
        note: a sentence for the report, where something is not as usual.
    """

    grid: Grid
    legs: tuple[Leg, ...]
    lower_mm: float
    note: str


def _on(mask: NDArray[np.bool_], source: Grid, grid: Grid) -> NDArray[np.bool_]:
    """A mask on another grid."""
    return np.asarray(resample_image(mask.astype(np.float32), source, grid, fill=0.0) > 0.5)


def _shaft_slices(levels: SliceLevels | None, body: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Slices in which a femoral shaft is to be looked for."""
    there = np.asarray(body.any(axis=(0, 1)))
    if levels is None:
        return there
    low, high = (float(standard_mm(u)) for u in SHAFT)
    return np.asarray(there & (levels.within(low, high) >= LIKELY))


def _shown(levels: SliceLevels | None) -> str:
    return "" if levels is None else f" (the scan shows {summary(levels.regions())})"


def _told(legs: Sequence[Leg]) -> str:
    """What is unusual; nothing where there are two legs."""
    if len(legs) == 2:
        return ""
    other = "left" if legs[0].side == "right" else "right"
    return f"only the {legs[0].side} femur was found: the {other} leg is not segmented"

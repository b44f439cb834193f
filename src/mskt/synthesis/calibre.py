"""Structures compete for the space of a slice; each can be thickened or thinned beforehand.

The cross-sections of a person are signed distances. A structure's *offset* at a level (mm) moves its
outline outwards (positive) or inwards, and what it then occupies is decided against its neighbours.
``fit`` finds the offsets that give each group of structures the volume that the person shall have,
counted after the competition, right and left by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mskt.synthesis.labelmap import MIDLINE
from mskt.synthesis.sections import (
    BAND_MM,
    GRID_SHAPE,
    Float32,
    StructureField,
    area_mm2,
)
from mskt.synthesis.shape_table import Float

Offsets = tuple[Float32, ...]
"""One array of mm per structure of a stack, at the levels of its field."""

ROUNDS = 14
FACTOR_RANGE = (0.08, 4.0)  # of a structure's areas, before competition
OFFSETS_MM = np.arange(-18.0, 9.1, 1.0)


@dataclass(frozen=True, slots=True)
class Stack:
    """All structures of a half body, ready to be cut at any height.

    Attributes:
        atoms: id of each structure.
        fields: signed distances, negative inside.
        depths: mm, one array over the levels of each field: how deep the structure is there.
    """

    atoms: NDArray[np.uint8]
    fields: list[StructureField]
    depths: list[Float32]


@dataclass(frozen=True, slots=True)
class Section:
    """One slice before the competition.

    Attributes:
        level: fractional index of its level in the shape table.
        present: ``(n,)`` rows of the stack.
        depth: ``(n,)`` mm.
        voxels: ``(m,)`` flat indices of the pixels near any structure.
        value: ``(n, m)`` distance over depth there.
        shape: of the slice.
    """

    level: float
    present: NDArray[np.intp]
    depth: Float32
    voxels: NDArray[np.intp]
    value: Float32
    shape: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Build:
    """What a person shall measure.

    Attributes:
        femur_mm: length of the femur, its ends included; sets the size of the whole body.
        volumes_cm3: atoms that count as one structure, to its volumes (right, left); a midline
            bone has half its volume on each side.
        followers: atoms without a volume of their own that change as the others do on average.
    """

    femur_mm: float
    volumes_cm3: Mapping[frozenset[int], tuple[float, float]]
    followers: frozenset[int]

    def resized(self, factor: float) -> Build:
        """The same person enlarged or reduced."""
        volumes = {
            atoms: (right * factor**3, left * factor**3)
            for atoms, (right, left) in self.volumes_cm3.items()
        }
        return Build(self.femur_mm * factor, volumes, self.followers)


def volumes_cm3(labels: NDArray[np.uint8], spacing_mm: float) -> Float:
    """Volume of every id, ``(256,)``."""
    return np.asarray(np.bincount(labels.ravel(), minlength=256) * (spacing_mm**3 / 1000))


def cut(stack: Stack, level: float, grid: Float) -> Section:
    """Distances near the pixels whose places in the reference grid are ``grid`` ``(x, y, 2)``.

    Depth makes a thin muscle and a thick one equals where mixing makes them overlap.
    """
    present, depth, scores = _planes(stack, level)
    shape = (grid.shape[0], grid.shape[1])
    if not present:
        nothing = np.zeros(0, np.intp)
        return Section(level, nothing, depth, nothing, np.zeros((0, 0), np.float32), shape)
    # Only pixels near something are worth interpolating.
    near = scores.min(0) < 1.5
    low = np.floor(grid).astype(int)
    held = ((low >= 0) & (low < np.array(GRID_SHAPE) - 1)).all(-1)
    np.clip(low, 0, np.array(GRID_SHAPE) - 2, out=low)
    held &= near[low[..., 0], low[..., 1]] | near[low[..., 0] + 1, low[..., 1] + 1]
    corner = low[held][:, 0] * GRID_SHAPE[1] + low[held][:, 1]
    u, v = (grid[held] - low[held]).astype(np.float32).T
    flat = scores.reshape(len(present), -1)
    value = (1 - u) * (1 - v) * flat[:, corner] + (1 - u) * v * flat[:, corner + 1]
    value += u * (1 - v) * flat[:, corner + GRID_SHAPE[1]]
    value += u * v * flat[:, corner + GRID_SHAPE[1] + 1]
    return Section(level, np.array(present), depth, np.flatnonzero(held), value, shape)


def occupy(section: Section, stack: Stack, offsets: Offsets | None = None) -> NDArray[np.uint8]:
    """Labels ``(x, y)`` of a slice: who is deepest inside itself takes the pixel."""
    labels = np.zeros(section.shape, np.uint8)
    if not len(section.present):
        return labels
    value = section.value
    if offsets is not None:
        value = value - (_at(offsets, stack, section) / section.depth)[:, None]
    best = value.argmin(0)
    inside = value[best, np.arange(len(best))] < 0
    labels.ravel()[section.voxels] = np.where(inside, stack.atoms[section.present[best]], 0)
    return labels


def _planes(stack: Stack, level: float) -> tuple[list[int], Float32, Float32]:
    """Structures near one height, their depths and distances over depth ``(n, *GRID_SHAPE)``."""
    present, depths, planes = [], [], []
    for i, field in enumerate(stack.fields):
        at = level - field.first_level
        k = int(np.floor(at))
        if not 0 <= k < len(field.distance) - 1:
            if at != len(field.distance) - 1:
                continue
            k -= 1
        part = np.float32(at - k)
        plane = (1 - part) * field.distance[k] + part * field.distance[k + 1]
        if plane.min() >= 0:
            continue
        depth = (1 - part) * stack.depths[i][k] + part * stack.depths[i][k + 1]
        whole = np.full(GRID_SHAPE, BAND_MM, np.float32)
        x, y = field.corner
        whole[x : x + plane.shape[0], y : y + plane.shape[1]] = plane / depth
        present.append(i)
        depths.append(depth)
        planes.append(whole)
    stacked = np.stack(planes) if planes else np.zeros((0, *GRID_SHAPE), np.float32)
    return present, np.array(depths, np.float32), stacked


def _at(offsets: Offsets, stack: Stack, section: Section) -> Float32:
    """Offset of each structure of a section at its level, mm."""
    at = [
        np.interp(
            section.level - stack.fields[i].first_level, np.arange(len(offsets[i])), offsets[i]
        )
        for i in section.present
    ]
    return np.array(at, np.float32)


def fit(
    stack: Stack, sections: Sequence[Section], voxel_cm3: float, build: Build
) -> tuple[Offsets, Offsets]:
    """Offsets of the right and of the left half that give the volumes of ``build``.

    Structures that grow take from their neighbours, so the factors of all areas are corrected
    together, ``ROUNDS`` times, by what was measured after the competition.

    Args:
        stack: of the half body.
        sections: its slices on a regular grid.
        voxel_cm3: volume of one of their pixels.
        build: volumes wanted, at the size of ``sections``.
    """
    areas = [_areas(field) for field in stack.fields]
    rows = {
        group: [i for i, atom in enumerate(stack.atoms) if int(atom) in group]
        for group in build.volumes_cm3
    }
    follow = [i for i, atom in enumerate(stack.atoms) if int(atom) in build.followers]
    found: list[Offsets] = []
    for side in (0, 1):
        factor = np.ones(len(stack.atoms))
        offsets = _offsets(areas, factor)
        for _ in range(ROUNDS):
            counts = _volumes(stack, sections, offsets) * voxel_cm3
            for group, wanted in build.volumes_cm3.items():
                have = counts[sorted(group)].sum()
                if have > 0 and rows[group]:
                    factor[rows[group]] *= wanted[side] / have
            known = [i for members in rows.values() for i in members]
            factor[follow] = np.exp(np.log(factor[known]).mean()) if known else 1.0
            np.clip(factor, *FACTOR_RANGE, out=factor)
            offsets = _offsets(areas, factor)
        found.append(offsets)
    return _with_equal_midline(stack, found[0], found[1])


def _volumes(stack: Stack, sections: Sequence[Section], offsets: Offsets | None) -> Float:
    """Pixels of each atom in all sections."""
    counts = np.zeros(256)
    for section in sections:
        counts += np.bincount(occupy(section, stack, offsets).ravel(), minlength=256)
    return counts


def _areas(field: StructureField) -> Float32:
    """Area in mm² of each level ``(offsets, levels)`` after each of ``OFFSETS_MM``."""
    return np.stack([area_mm2(field.distance - np.float32(o)) for o in OFFSETS_MM])


def _offsets(areas: Sequence[Float32], factor: Float) -> Offsets:
    """Offsets that multiply every level's area by the structure's factor."""
    none = int(np.abs(OFFSETS_MM).argmin())
    out = []
    for table, f in zip(areas, factor, strict=True):
        offset = [
            np.interp(f * level[none], level, OFFSETS_MM) if level[none] > 1 else 0.0
            for level in table.T
        ]
        out.append(np.array(offset, np.float32))
    return tuple(out)


def _with_equal_midline(stack: Stack, right: Offsets, left: Offsets) -> tuple[Offsets, Offsets]:
    """The same outline of midline bones in both halves: the mean of the two."""
    pairs = []
    for atom, a, b in zip(stack.atoms, right, left, strict=True):
        same = np.asarray((a + b) / 2, np.float32)
        pairs.append((same, same) if int(atom) in MIDLINE else (a, b))
    return tuple(a for a, _ in pairs), tuple(b for _, b in pairs)

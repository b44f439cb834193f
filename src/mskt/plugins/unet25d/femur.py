"""The femoral shafts, from the image alone: dense sections that follow each other from slice to slice.

In the thigh the femur is the only bone, and its section is a small compact disc. Discs of
neighbouring slices are linked to chains; the longest and thickest chain is a shaft, and so is the
best one at a leg's distance from it. Metal is dense: the stem or nail of an implant counts as femur.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mskt.core.volume import FloatArray, Grid

BONE_HU = (250.0, 160.0)
"""Tried in this order: the second is for thin, osteoporotic cortex."""
SECTION_MM2 = (120.0, 2600.0)
"""Area of a section of the shaft with its marrow: larger than a vessel, smaller than the condyles."""
WIDEST_MM = 72.0
COMPACT = 0.5
"""Share of its bounding box that a section fills; a disc fills 0.79."""
STEP_MM = 9.0
"""How far a section may lie from that of the next slice."""
GAP_MM = 15.0
"""Slices that a chain may skip, where metal or motion hides the bone."""
SHORTEST_MM = 36.0
LEG_TO_LEG_MM = (45.0, 420.0)
"""Distance of two femurs: crossed legs to abducted ones."""
STRAIGHT_MM = 60.0
"""A shaft shorter than this says nothing about its direction."""
STEEPEST = 0.9
"""Largest sideways run per mm of height that is believed (42°)."""


class Section(NamedTuple):
    """The bone in one slice: world height, centroid and area."""

    z: float
    x: float
    y: float
    area: float


@dataclass(frozen=True)
class Shaft:
    """A femur as a straight line.

    Attributes:
        sections: what was seen of it, from below.
        point: where the line is at the middle of what was seen, RAS mm.
        direction: unit vector along it, upwards.
    """

    sections: tuple[Section, ...]
    point: NDArray[np.float64]
    direction: NDArray[np.float64]

    def at(self, z: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Points of the line at heights ``z``: ``(..., 3)``."""
        height = np.asarray(z, float)
        along = (height - self.point[2]) / self.direction[2]
        return np.asarray(self.point + along[..., None] * self.direction)

    @property
    def tilt_deg(self) -> float:
        """Angle to the body's long axis."""
        return float(np.degrees(np.arccos(np.clip(self.direction[2], -1, 1))))


@dataclass
class _Chain:
    sections: list[Section] = field(default_factory=list)

    @property
    def length(self) -> float:
        return self.sections[-1].z - self.sections[0].z

    @property
    def bulk(self) -> float:
        return sum(one.area for one in self.sections)


def shafts(
    data: FloatArray, grid: Grid, inside: NDArray[np.bool_], where: NDArray[np.bool_]
) -> tuple[Shaft, ...]:
    """The femurs of an image: two, one or none.

    Args:
        data: HU on a canonical grid.
        grid: of the image.
        inside: the body.
        where: slices in which a femoral shaft may be.

    Returns:
        From left to right in the world, i.e. by growing x.
    """
    for threshold in BONE_HU:
        found = shafts_of(inside & (data > threshold), grid, where)
        if found:
            return found
    return ()


def shafts_of(bone: NDArray[np.bool_], grid: Grid, where: NDArray[np.bool_]) -> tuple[Shaft, ...]:
    """The same from a mask of what is bone."""
    slices = np.flatnonzero(where)
    if not len(slices):
        return ()
    chains = _chains([_sections(bone[:, :, k], grid, int(k)) for k in slices])
    view = (slices[-1] - slices[0]) * grid.spacing_mm[2]
    shortest = min(SHORTEST_MM, 0.6 * view) - 1e-6
    ranked = sorted((c for c in chains if c.length >= shortest), key=lambda c: -c.bulk)
    found: list[Shaft] = []
    for chain in ranked:
        shaft = _line(chain.sections)
        if all(_apart(shaft, other) for other in found):
            found.append(shaft)
        if len(found) == 2:
            break
    return tuple(sorted((_completed(one, ranked) for one in found), key=lambda s: s.point[0]))


def _sections(bone: NDArray[np.bool_], grid: Grid, k: int) -> list[Section]:
    """Compact pieces of bone in one slice, marrow included."""
    if not bone.any():
        return []
    dx, dy, _ = grid.spacing_mm
    pieces, _ = ndimage.label(ndimage.binary_fill_holes(bone), np.ones((3, 3)))
    out = []
    for number, box in enumerate(ndimage.find_objects(pieces), start=1):
        piece = pieces[box] == number
        area = float(piece.sum()) * dx * dy
        width, height = piece.shape[0] * dx, piece.shape[1] * dy
        if not SECTION_MM2[0] <= area <= SECTION_MM2[1] or max(width, height) > WIDEST_MM:
            continue
        if area < COMPACT * width * height:
            continue
        i, j = np.nonzero(piece)
        centre = [i.mean() + box[0].start, j.mean() + box[1].start, k, 1.0]
        x, y, z = (grid.affine @ centre)[:3]
        out.append(Section(float(z), float(x), float(y), area))
    return out


def _chains(slices: Sequence[Sequence[Section]]) -> list[_Chain]:
    """Sections that follow each other; each section belongs to the nearest chain below it."""
    chains: list[_Chain] = []
    for sections in slices:
        free = list(sections)
        pairs = [
            (np.hypot(s.x - c.sections[-1].x, s.y - c.sections[-1].y), n, m)
            for n, c in enumerate(chains)
            for m, s in enumerate(free)
            if 0 < s.z - c.sections[-1].z <= GAP_MM
        ]
        taken: set[int] = set()
        grown: set[int] = set()
        for distance, n, m in sorted(pairs):
            if distance <= STEP_MM and n not in grown and m not in taken:
                chains[n].sections.append(free[m])
                grown.add(n)
                taken.add(m)
        chains += [_Chain([s]) for m, s in enumerate(free) if m not in taken]
    return chains


def _line(sections: Sequence[Section]) -> Shaft:
    """A straight line through the sections that outliers cannot turn (Tukey's biweight)."""
    rows = np.array(sections)
    z, places = rows[:, 0], rows[:, 1:3]
    middle = (z[0] + z[-1]) / 2
    if z[-1] - z[0] < STRAIGHT_MM:
        slope, centre = np.zeros(2), np.median(places, axis=0)
    else:
        design = np.stack([np.ones_like(z), z - middle], axis=1)
        weight = np.ones(len(z))
        for _ in range(12):
            root = np.sqrt(weight)[:, None]
            fit = np.linalg.lstsq(design * root, places * root, rcond=None)[0]
            miss = np.linalg.norm(places - design @ fit, axis=1)
            scale = 4.7 * max(1.0, 1.48 * float(np.median(miss)))
            weight = np.clip(1 - (miss / scale) ** 2, 1e-6, None) ** 2
        centre, slope = fit[0], fit[1]
        slope = slope * min(1.0, STEEPEST / max(float(np.linalg.norm(slope)), 1e-9))
    direction = np.array([*slope, 1.0])
    return Shaft(
        tuple(sections), np.array([*centre, middle]), direction / np.linalg.norm(direction)
    )


def _apart(one: Shaft, other: Shaft) -> bool:
    """True if two shafts may belong to two legs."""
    z = np.array([s.z for s in one.sections])
    gap = np.linalg.norm((one.at(z) - other.at(z))[:, :2], axis=1)
    return bool(LEG_TO_LEG_MM[0] <= np.median(gap) <= LEG_TO_LEG_MM[1])


def _completed(shaft: Shaft, chains: Sequence[_Chain]) -> Shaft:
    """The shaft with further chains that lie on its line: a fracture or metal had cut it."""
    seen = {s.z for s in shaft.sections}
    more = []
    for chain in chains:
        z = np.array([s.z for s in chain.sections])
        places = np.array([(s.x, s.y) for s in chain.sections])
        off = np.linalg.norm(places - shaft.at(z)[:, :2], axis=1)
        if np.median(off) <= 1.5 * STEP_MM:
            more += [s for s in chain.sections if s.z not in seen]
    return _line(sorted({*shaft.sections, *more})) if more else shaft

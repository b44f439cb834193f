"""The mid-sagittal plane, from the labels alone.

Where both sides are shown, it lies between the two components of paired structures; where one leg is
shown, along that leg's inner edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mskt.core.anatomy import LabelSet, Structure
from mskt.core.components import Components
from mskt.core.volume import Grid

# How far to the side the centroid of each atom lies, in mm from the mid-sagittal plane: rounded
# mean of the six sides of the Visible Human male and female (Andreassen 2023, CC BY 4.0) and the
# BodyParts3D male (DBCLS, CC BY 4.0). Only the order from medial to lateral matters.
_LATERAL_MM = {
    "gluteus_maximus": 95,
    "gluteus_medius": 122,
    "gluteus_minimus": 120,
    "iliacus_proximal": 89,
    "iliacus_distal": 93,
    "psoas_major_proximal": 47,
    "psoas_major_distal": 72,
    "obturator_externus": 60,
    "obturator_internus": 48,
    "gemellus_superior": 89,
    "gemellus_inferior": 93,
    "quadratus_femoris": 98,
    "piriformis": 58,
    "pectineus": 66,
    "adductor_longus": 56,
    "adductor_brevis": 62,
    "adductor_magnus": 64,
    "adductor_minimus": 62,
    "gracilis": 29,
    "rectus_femoris": 112,
    "vastus_lateralis": 143,
    "vastus_intermedius": 119,
    "vastus_medialis": 76,
    "biceps_femoris_long_head": 106,
    "biceps_femoris_short_head": 115,
    "semimembranosus": 63,
    "semitendinosus": 74,
    "tensor_fasciae_latae": 145,
    "hip_bone": 74,
    "femur": 102,
}
_BESIDE_PART = 0.75
"""Of a structure's usual distance from the plane. Where the scan ends before that, most of it is outside:
its centre is further away, and people differ by less."""
_PAIR_RATIO = 0.25  # the smaller of two sides has at least this part of the larger one's voxels
_PAIR_ACROSS = 0.6  # … and lies at least this part of the distance straight across the body
_PAIRED_PART = 1 / 3  # of the structures that must come in pairs before both legs are believed
_MIDLINE_PART = 0.002  # of the foreground: a smaller "sacrum" is a stray blob
_ORDER_AGREES = 0.4  # correlation with the medial-to-lateral order that settles the side of one leg
_ORDER_SPREAD_MM = 15.0
_REACH_MM, _CLEARANCE_MM = 50.0, 3.0  # from a muscle's centroid to its edge; to the plane
_SLOPE_SD, _MIDPOINT_SD_MM = 0.2, 8.0  # prior of the plane's tilt (11°), scatter of midpoints


@dataclass(frozen=True, slots=True)
class Midplane:
    """The mid-sagittal plane: ``x = offset_mm + slope_y·y + slope_z·z`` in RAS mm."""

    offset_mm: float
    slope_y: float = 0.0
    slope_z: float = 0.0

    def signed_mm(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distance of points ``(n, 3)`` from the plane, positive on the patient's right."""
        normal = np.array([1.0, -self.slope_y, -self.slope_z])
        length = float(np.linalg.norm(normal))
        return np.asarray((points_mm @ normal - self.offset_mm) / length, np.float64)


def estimate_midplane(
    labels: NDArray[np.uint8], grid: Grid, label_set: LabelSet
) -> Midplane | None:
    """Estimate the mid-sagittal plane from the labels; None if they do not show it.

    In this order: midpoints between the two components of paired structures together with midline
    bones; midline bones alone; for one leg, the order of its structures from medial to lateral,
    which puts the plane at the leg's inner edge.
    """
    components = Components.find(labels, grid)
    if components is None:
        return None
    return midplane_of(components, label_set, pairs_of(components, label_set))


def pairs_of(components: Components, label_set: LabelSet) -> dict[int, tuple[int, int]]:
    """For each structure that shows both sides: its right and its left component.

    None are believed unless a good part of the structures comes in pairs: in a scan of one leg a
    muscle may be in pieces that look like two sides.
    """
    present = [
        s.index for s in label_set.structures if s.side == "both" and components.of(s.index).size
    ]
    found = {index: _pair(components, components.of(index)) for index in present}
    pairs = {index: pair for index, pair in found.items() if pair is not None}
    return pairs if len(pairs) >= _PAIRED_PART * len(present) else {}


def _pair(components: Components, largest_first: NDArray[np.int64]) -> tuple[int, int] | None:
    """Find the right and the left component of one structure.

    They are the largest component and the largest other one that is of comparable size and lies
    beside it, not above or below: pieces of one muscle lie along the leg.
    """
    first, *others = largest_first[:5].tolist()
    for other in others:
        if components.voxels[other] < _PAIR_RATIO * components.voxels[first]:
            return None
        apart = components.centre_mm[first] - components.centre_mm[other]
        if abs(apart[0]) >= _PAIR_ACROSS * np.linalg.norm(apart):
            return (first, other) if apart[0] > 0 else (other, first)
    return None


def midplane_of(
    components: Components, label_set: LabelSet, pairs: dict[int, tuple[int, int]]
) -> Midplane | None:
    """See :func:`estimate_midplane`."""
    paired = [s for s in label_set.structures if s.side == "both" and components.of(s.index).size]
    if not paired:
        return None
    enough = _MIDLINE_PART * components.voxels[1:].sum()
    points = [
        components.centre_mm[main]
        for structure in label_set.structures
        if structure.side == "midline"
        for main in components.of(structure.index)[:1]
        if components.voxels[main] >= enough
    ]
    points += [components.centre_mm[list(pair)].mean(axis=0) for pair in pairs.values()]
    if points:
        return _fit_plane(np.array(points))
    return _beside_one_leg(components, paired)


def _fit_plane(points_mm: NDArray[np.float64]) -> Midplane:
    """Fit the plane to points that should lie on it; outliers are left out once.

    Ridge regression of x on y and z: few points near each other must not tilt the plane, so the
    slopes have a prior of 0 ± ``_SLOPE_SD``.
    """
    centre = np.median(points_mm, axis=0)
    keep = np.ones(len(points_mm), bool)
    slopes, offset = np.zeros(2), float(centre[0])
    for _ in range(2):
        away = points_mm[keep] - centre
        ridge = np.diag([0.0, *[(_MIDPOINT_SD_MM / _SLOPE_SD) ** 2] * 2])
        design = np.c_[np.ones(len(away)), away[:, 1:]]
        solution = np.linalg.solve(design.T @ design + ridge, design.T @ away[:, 0])
        slopes, offset = solution[1:], float(centre[0] + solution[0])
        residual = np.abs(points_mm[:, 0] - offset - (points_mm[:, 1:] - centre[1:]) @ slopes)
        keep = residual <= max(3 * 1.4826 * float(np.median(residual)), _MIDPOINT_SD_MM)
    return Midplane(offset - float(slopes @ centre[1:]), float(slopes[0]), float(slopes[1]))


def beside_the_scan(
    plane: Midplane | None, grid: Grid, label_set: LabelSet
) -> frozenset[tuple[int, str]]:
    """Which structures lie to the right or left of what the scan shows, as one of a single hip does.

    Args:
        plane: mid-sagittal plane; None tells nothing.
        grid: of the image.
        label_set: its structures that come in pairs are asked for.

    Returns:
        ``(index, side)``, ``right`` or ``left``.
    """
    if plane is None:
        return frozenset()
    ends = np.array(np.meshgrid(*((-0.5, n - 0.5) for n in grid.shape), indexing="ij"))
    corners = ends.reshape(3, -1).T @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    signed = plane.signed_mm(corners)
    reach = {"right": float(signed.max()), "left": float(-signed.min())}
    nearest = min(_LATERAL_MM.values())  # where a structure lies that crosses the leg (sartorius)
    usual = {
        one.index: nearest if (away := _lateral_mm(one)) is None else away
        for one in label_set.structures
        if one.side == "both"
    }
    return frozenset(
        (index, side)
        for index, away in usual.items()
        for side, end in reach.items()
        if end < _BESIDE_PART * away
    )


def _beside_one_leg(components: Components, paired: list[Structure]) -> Midplane | None:
    """Lay the plane along the inner edge of a single leg: its lateral structures point outwards."""
    mains = [(s, int(components.of(s.index)[0])) for s in paired]
    known = [(_lateral_mm(s), main) for s, main in mains if _lateral_mm(s) is not None]
    lateral = np.array([offset for offset, _ in known], float)
    x = components.centre_mm[[main for _, main in known], 0]
    if len(known) < 2 or np.ptp(lateral) < _ORDER_SPREAD_MM or np.ptp(x) == 0:
        return None
    order = float(np.corrcoef(lateral, x)[0, 1])
    if abs(order) < _ORDER_AGREES:
        return None
    outwards = 1.0 if order > 0 else -1.0
    edges = [_inner_edge_mm(components, main, outwards) for _, main in mains]
    return Midplane(outwards * (min(edges) - _CLEARANCE_MM))


def _inner_edge_mm(components: Components, component: int, outwards: float) -> float:
    """Find how far a component reaches towards the midline, along x times ``outwards``.

    Not further than a thick muscle does from its centroid: a component that hangs together with
    the other leg's must not carry the plane into that leg.
    """
    edge = float((outwards * components.corners_mm(component)[:, 0]).min())
    centre = float(outwards * components.centre_mm[component, 0])
    return max(edge, centre - _REACH_MM)


def _lateral_mm(structure: Structure) -> float | None:
    """How far to the side a structure usually lies; None where that is not known."""
    known = [_LATERAL_MM[atom] for atom, _ in structure.elements if atom in _LATERAL_MM]
    return sum(known) / len(known) if known else None

"""Left and right told apart.

Left and right share a class in most label sets and are separated afterwards, as in Soufi 2024:
connected components, and a watershed where the two sides hang together (the pelvis at the
symphysis). A side is always the patient's own: it follows from the affine, so feet-first scans and
any order of the array axes need no special case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from mskt.core.anatomy import LabelSet, Structure
from mskt.core.foreground import CONNECTIVITY, foreground_box, slabs
from mskt.core.volume import Grid, to_canonical

UNSIDED, RIGHT, LEFT = 0, 1, 2
SIDE_CODES = {"right": RIGHT, "left": LEFT}
SIDE_NAMES = ("both", "right", "left")
"""Name of each side code in the results table."""

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
_PAIR_RATIO = 0.25  # the smaller of two sides has at least this part of the larger one's voxels
_PAIR_ACROSS = 0.6  # … and lies at least this part of the distance straight across the body
_PAIRED_PART = 1 / 3  # of the structures that must come in pairs before both legs are believed
_MIDLINE_PART = 0.002  # of the foreground: a smaller "sacrum" is a stray blob
_ORDER_AGREES = 0.4  # correlation with the medial-to-lateral order that settles the side of one leg
_ORDER_SPREAD_MM = 15.0
_REACH_MM, _CLEARANCE_MM = 50.0, 3.0  # from a muscle's centroid to its edge; to the plane
_SLOPE_SD, _MIDPOINT_SD_MM = 0.2, 8.0  # prior of the plane's tilt (11°), scatter of midpoints
_JOINED_PART, _JOINED_MM = 0.05, 8.0  # a component beyond the plane by so much spans both sides
_NECK_MM = 20.0  # how far from the plane the narrowest cross-section is looked for
_BAND_MM = 5.0  # around the neck, where the watershed decides


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


@dataclass(frozen=True, slots=True)
class _Runs:
    """An image as runs of voxels that stand beside each other in memory and are of one component.

    A run ends with its row. There are far fewer runs than voxels, and what is to be known of a
    component follows from them without a look at every voxel.

    Attributes:
        order: axes of the image from the slowest to the fastest in memory.
        component: of each run; 0 is background.
        start: flat place of each run's first voxel, axes in ``order``.
        length: voxels of each run.
    """

    order: tuple[int, int, int]
    component: NDArray[Any]
    start: NDArray[np.int64]
    length: NDArray[np.int64]


@dataclass(frozen=True)
class _Components:
    """Connected components of a label map, cropped and canonical.

    Attributes:
        image: component numbers 1 … n; 0 is background.
        runs: the same in memory order, as runs.
        crop: where ``image`` lies in the canonical view of the labels.
        affine: voxel of ``image`` to RAS mm.
        index, voxels, centre_mm, box: structure, size, centroid (RAS mm) and index ranges
            ``(n + 1, 3, 2)`` of each component; row 0 stands for the background.
    """

    image: NDArray[Any]
    runs: _Runs
    crop: tuple[slice, slice, slice]
    affine: NDArray[np.float64]
    index: NDArray[np.uint8]
    voxels: NDArray[np.int64]
    centre_mm: NDArray[np.float64]
    box: NDArray[np.int64]

    def of(self, structure: int) -> NDArray[np.int64]:
        """Components of a structure, largest first."""
        mine = np.flatnonzero(self.index == structure)
        mine = mine[mine > 0]
        return np.asarray(mine[np.argsort(-self.voxels[mine], kind="stable")], np.int64)


def separate_sides(
    labels: NDArray[np.uint8], grid: Grid, label_set: LabelSet, *, plane: Midplane | None = None
) -> NDArray[np.uint8]:
    """Give every labelled voxel its side.

    Structures with the side ``left`` or ``right`` in the label set have it by definition, those
    with ``midline`` none. Of the others, each connected component is given to the side of the
    mid-sagittal plane where its centroid lies; one that reaches well across the plane is cut at its
    narrowest place.

    Args:
        labels: label map, not changed.
        grid: of ``labels``.
        label_set: says which structures come in pairs.
        plane: the mid-sagittal plane where it is known; by default it is estimated
            (:func:`estimate_midplane`).

    Returns:
        uint8, shape and memory order of ``labels``: 0 unsided, 1 right, 2 left. Where nothing
        tells left from right (a single structure of one leg), paired structures stay unsided.
    """
    sides = _zeros_like(labels)
    fixed = np.zeros(256, np.uint8)
    for structure in label_set.structures:
        fixed[structure.index] = SIDE_CODES.get(structure.side, UNSIDED)
    if fixed.any():
        for part in slabs(labels):
            sides[part] = fixed[labels[part]]
    components = _components(labels, grid, label_set)
    if components is None:
        return sides
    pairs = _pairs(components, label_set)
    plane = plane or _midplane(components, label_set, pairs)
    if plane is not None:
        view = to_canonical(sides, grid)[components.crop]
        _write_sides(components, label_set, pairs, plane, view)
    return sides


def _zeros_like(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Zeros of the same shape and memory order; what is not written to takes no memory."""
    order = np.argsort([-abs(stride) for stride in labels.strides], kind="stable")
    zeros = np.zeros([labels.shape[axis] for axis in order], np.uint8)
    return zeros.transpose(np.argsort(order))


def estimate_midplane(
    labels: NDArray[np.uint8], grid: Grid, label_set: LabelSet
) -> Midplane | None:
    """Estimate the mid-sagittal plane from the labels; None if they do not show it.

    In this order: midpoints between the two components of paired structures together with midline
    bones; midline bones alone; for one leg, the order of its structures from medial to lateral,
    which puts the plane at the leg's inner edge.
    """
    components = _components(labels, grid, label_set)
    if components is None:
        return None
    return _midplane(components, label_set, _pairs(components, label_set))


def _components(labels: NDArray[np.uint8], grid: Grid, label_set: LabelSet) -> _Components | None:
    """Find the connected components; None if there is no paired structure."""
    view = to_canonical(labels, grid)
    box = foreground_box(view)
    if box is None or not any(structure.side == "both" for structure in label_set.structures):
        return None
    values = view[box].copy(order="K")
    image = cc3d.connected_components(values, connectivity=CONNECTIVITY)
    runs = _runs(image)
    number = int(runs.component.max()) + 1
    index = np.zeros(number, np.uint8)
    index[runs.component] = values.transpose(runs.order).reshape(-1)[runs.start]
    voxels, centre, ranges = _facts(runs, image.shape, number)
    affine = grid.canonical().affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [part.start for part in box]
    centre = centre @ affine[:3, :3].T + affine[:3, 3]
    return _Components(image, runs, box, affine, index, voxels, centre, ranges)


def _runs(image: NDArray[Any]) -> _Runs:
    """Find the runs of an image whose voxels lie together in memory."""
    first, second, third = np.argsort([-abs(s) for s in image.strides], kind="stable").tolist()
    order = (first, second, third)
    flat = image.transpose(order).reshape(-1)
    begins = np.empty(flat.size, bool)
    np.not_equal(flat[1:], flat[:-1], out=begins[1:])
    begins[:: image.shape[third]] = True
    start = np.flatnonzero(begins)
    return _Runs(order, flat[start], start, np.diff(start, append=flat.size))


def _facts(
    runs: _Runs, shape: tuple[int, ...], number: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Sum up what the runs tell of the components 1 … ``number - 1``; row 0 stays empty.

    Returns:
        Size, mean index along each axis ``(number, 3)`` and index ranges ``(number, 3, 2)``, both
        ends included.
    """
    voxels = np.zeros(number, np.int64)
    centre, ranges = np.zeros((number, 3)), np.zeros((number, 3, 2), np.int64)
    here = np.flatnonzero(runs.component)
    # Sixteen bits are sorted several times faster than more.
    component = runs.component[here].astype(np.uint16 if number <= 1 << 16 else np.uint32)
    order = np.argsort(component, kind="stable")
    here = here[order]
    begins = np.searchsorted(component[order], np.arange(1, number, dtype=component.dtype))
    length = runs.length[here]
    voxels[1:] = np.add.reduceat(length, begins)
    place = runs.start[here]
    for step, axis in enumerate(reversed(runs.order)):
        place, low = np.divmod(place, shape[axis])
        more = 0 if step else length - 1  # along the fastest axis a run goes on
        total = np.add.reduceat((2 * low + more) * length, begins)  # twice: whole numbers
        centre[1:, axis] = total / 2 / voxels[1:]
        ranges[1:, axis, 0] = np.minimum.reduceat(low, begins)
        ranges[1:, axis, 1] = np.maximum.reduceat(low + more, begins)
    return voxels, centre, ranges


def _pairs(components: _Components, label_set: LabelSet) -> dict[int, tuple[int, int]]:
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


def _pair(components: _Components, largest_first: NDArray[np.int64]) -> tuple[int, int] | None:
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


def _midplane(
    components: _Components, label_set: LabelSet, pairs: dict[int, tuple[int, int]]
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


def _beside_one_leg(components: _Components, paired: list[Structure]) -> Midplane | None:
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


def _inner_edge_mm(components: _Components, component: int, outwards: float) -> float:
    """Find how far a component reaches towards the midline, along x times ``outwards``.

    Not further than a thick muscle does from its centroid: a component that hangs together with
    the other leg's must not carry the plane into that leg.
    """
    edge = float((outwards * _corners_mm(components, component)[:, 0]).min())
    centre = float(outwards * components.centre_mm[component, 0])
    return max(edge, centre - _REACH_MM)


def _lateral_mm(structure: Structure) -> float | None:
    """How far to the side a structure usually lies; None where that is not known."""
    known = [_LATERAL_MM[atom] for atom, _ in structure.elements if atom in _LATERAL_MM]
    return sum(known) / len(known) if known else None


def _corners_mm(components: _Components, component: int) -> NDArray[np.float64]:
    """List the eight corners of a component's box, RAS mm."""
    ranges = components.box[component]
    corners = np.array(np.meshgrid(*ranges, indexing="ij"), float).reshape(3, -1).T
    return np.asarray(corners @ components.affine[:3, :3].T + components.affine[:3, 3], np.float64)


def _write_sides(
    components: _Components,
    label_set: LabelSet,
    pairs: dict[int, tuple[int, int]],
    plane: Midplane,
    sides: NDArray[np.uint8],
) -> None:
    """Fill the canonical, cropped view ``sides`` for all paired structures."""
    table = np.where(plane.signed_mm(components.centre_mm) > 0, RIGHT, LEFT).astype(np.uint8)
    both = [s.index for s in label_set.structures if s.side == "both"]
    table[~np.isin(components.index, both)] = UNSIDED
    table[0] = UNSIDED
    for right, left in pairs.values():
        # Beside each other is stronger evidence than the plane: legs may lie obliquely.
        table[right], table[left] = RIGHT, LEFT
    runs = components.runs
    given = np.repeat(table[runs.component], runs.length)
    given = given.reshape([components.image.shape[axis] for axis in runs.order])
    # Sided structures of the same set have been written already, in other voxels.
    view = sides.transpose(runs.order)
    np.bitwise_or(view, given, out=view)
    settled = {component for pair in pairs.values() for component in pair}
    for component in np.flatnonzero(table).tolist():
        if component not in settled and _may_span(components, component, plane):
            _split(components, component, plane, sides)


def _may_span(components: _Components, component: int, plane: Midplane) -> bool:
    """Tell whether the box of a component reaches well to both sides of the plane."""
    signed = plane.signed_mm(_corners_mm(components, component))
    return bool(signed.min() < -_JOINED_MM and signed.max() > _JOINED_MM)


def _split(
    components: _Components, component: int, plane: Midplane, sides: NDArray[np.uint8]
) -> None:
    """Cut a component where it is narrowest, if it spans both sides."""
    ranges = components.box[component]
    box = (
        slice(ranges[0, 0], ranges[0, 1] + 1),
        slice(ranges[1, 0], ranges[1, 1] + 1),
        slice(ranges[2, 0], ranges[2, 1] + 1),
    )
    mask = components.image[box] == component
    signed = _signed_mm(mask, components.affine, ranges[:, 0], plane)
    values = signed[mask]
    spacing = np.linalg.norm(components.affine[:3, :3], axis=0)
    smaller = min(np.count_nonzero(values > 0), np.count_nonzero(values < 0))
    if smaller < _JOINED_PART * values.size or min(values.max(), -values.min()) < _JOINED_MM:
        return
    signed -= _neck_mm(values, float(spacing[0]))
    sides[box][mask] = np.where(signed[mask] > 0, RIGHT, LEFT)
    _follow_neck(mask, signed, spacing, sides[box])


def _signed_mm(
    mask: NDArray[np.bool_],
    affine: NDArray[np.float64],
    start: NDArray[np.int64],
    plane: Midplane,
) -> NDArray[np.float32]:
    """Signed distance from the plane of every voxel of a box: a sum of three vectors.

    In the memory order of ``mask``: picking one array by another of other order takes long.
    """
    unit = np.eye(3)
    zero = plane.signed_mm(affine[:3, 3] + affine[:3, :3] @ start)
    along = [
        plane.signed_mm(affine[:3, :3] @ unit[a]) - plane.signed_mm(np.zeros(3)) for a in range(3)
    ]
    i, j, k = (np.arange(n) * float(along[a]) for a, n in enumerate(mask.shape))
    signed = np.empty_like(mask, np.float32)
    np.add((i + zero)[:, None, None] + j[:, None], k, out=signed, casting="same_kind")
    return signed


def _neck_mm(signed_mm: NDArray[np.float32], step_mm: float) -> float:
    """Where near the plane a component's cross-section is smallest.

    Smoothed over three sections, and weighted so that of similar sections the one nearest to the
    plane is taken.
    """
    reach = min(_NECK_MM, float(min(signed_mm.max(), -signed_mm.min())) / 2)
    half = max(1, int(reach / step_mm))
    bins = np.rint(signed_mm / step_mm).astype(np.int64)
    near = bins[np.abs(bins) <= half + 1] + half + 1
    area = np.convolve(np.bincount(near, minlength=2 * half + 3), np.ones(3) / 3, "valid")
    offsets = np.arange(-half, half + 1)
    cost = (area + 1.0) * (1.0 + np.abs(offsets) / (4.0 * half))
    return float(offsets[int(np.argmin(cost))] * step_mm)


def _follow_neck(
    mask: NDArray[np.bool_],
    signed: NDArray[np.float32],
    spacing: NDArray[np.float64],
    sides: NDArray[np.uint8],
) -> None:
    """Watershed on the distance transform, seeded from both sides, within a band around the neck.

    The band is narrow so that the seeds hold the deep part of either side: a flood that starts in a
    thin branch (the superior ramus) would otherwise run through the neck before the other side's.
    """
    # Both take long to load, and most maps need neither.
    import edt
    from skimage.segmentation import watershed

    width = max(_BAND_MM, 2.0 * float(spacing[0]))
    hit = np.flatnonzero((mask & (np.abs(signed) <= 2 * width)).any(axis=(1, 2)))
    if not hit.size:
        return
    part = slice(int(hit[0]), int(hit[-1]) + 1)
    mask, signed, sides = np.ascontiguousarray(mask[part]), signed[part], sides[part]
    seeds = np.where(signed > width, RIGHT, np.where(signed < -width, LEFT, UNSIDED))
    seeds = np.where(mask, seeds, UNSIDED).astype(np.int32)
    depth = edt.edt(mask, anisotropy=tuple(spacing.tolist()), black_border=False, parallel=1)
    found = watershed(  # type: ignore[no-untyped-call]
        -depth, seeds, connectivity=np.ones((3, 3, 3)), mask=mask
    )
    np.copyto(sides, found.astype(np.uint8), where=found > 0)

"""Label maps of new people, mixed from the shape table.

A seed draws weights for the measured persons. Sizes and pose of the skeleton are mixed with those
weights, cross-sections with a sharper version of them (a half-and-half mixture of two real
cross-sections looks like neither), both halves of the body alike. Posture, asymmetry and finer
variation are the business of later steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mskt.synthesis import shape_table
from mskt.synthesis.calibre import Build, Offsets, Section, Stack, cut, fit, occupy, volumes_cm3
from mskt.synthesis.constructed import add_trunk
from mskt.synthesis.labelmap import ATOM_IDS, LEFT_OFFSET, MIDLINE, LabelMap
from mskt.synthesis.sections import GRID_ORIGIN_MM, GRID_STEP_MM, mix, reference_of
from mskt.synthesis.shape_table import (
    PELVIS_FROM_MM,
    SHAFT_RADIUS_MM,
    THIGH_FROM_MM,
    Float,
    Frame,
    ShapeTable,
    map_height,
    map_plane,
)

Axes = tuple[Float, Float, Float]

ABOVE_CREST_MM = 40.0
BELOW_KNEE_MM = 55.0
HALF_WIDTH_MM = 224.0
FRONT_MM, BACK_MM = 150.0, -170.0
MARGIN_MM = 8.0
SYMPHYSIS_MM = 4.0
CLEARANCE_MM = 5.0  # from the innermost thigh muscle to the midline
FIT_MM = 4.0  # voxels on which volumes are fitted

SHARPNESS = 2.0
SMALLEST_SHARE = 0.06
EXTRAPOLATION = 1.15
# Adductor minimus was drawn apart from magnus in one person only and lies inside it in the
# others: it must win there. The gemelli are thinner than the neighbours' mismatch.
PRIORITY = {
    ATOM_IDS["adductor_minimus"]: 3.0,
    ATOM_IDS["gemellus_superior"]: 2.5,
    ATOM_IDS["gemellus_inferior"]: 2.5,
}
# Taken whole from the heaviest person: small structures at different heights in different people
# have no overlap to mix, and the wing of the ilium is so thin that mixing tears holes into it.
UNMIXED = frozenset(
    ATOM_IDS[n] for n in ("patella", "coccyx", "gemellus_superior", "gemellus_inferior", "hip_bone")
)


def draw_weights(seed: int, persons: int) -> Float:
    """Weights of the persons, summing to 1; a little outside the triangle they span at times."""
    raw = np.random.default_rng([seed, 0x5A9E]).dirichlet(np.full(persons, 0.8))
    return np.asarray(1 / persons + EXTRAPOLATION * (raw - 1 / persons))


def canonical_labels(
    seed: int,
    *,
    spacing_mm: float = 2.0,
    weights: Sequence[float] | None = None,
    build: Build | None = None,
) -> LabelMap:
    """Make a person's label map in the canonical pose: upright, hips straight.

    Args:
        seed: the person. The same seed gives the same person at every spacing.
        spacing_mm: isotropic voxel size.
        weights: one number per measured person, summing to 1, instead of drawing them.
        build: size of the body and volumes of its structures, right and left; without it they are
            as mixed, and left mirrors right.

    Returns:
        Labels from 55 mm below the femur to 40 mm above the iliac crest; the origin of the world
        lies midway between the hip centres.

    Raises:
        ValueError: spacing is not positive, or the weights do not fit the table.
    """
    if not spacing_mm > 0:
        raise ValueError(f"spacing_mm must be positive, not {spacing_mm}")
    table = shape_table.packaged()
    share = draw_weights(seed, len(table.persons)) if weights is None else np.asarray(weights)
    if share.shape != (len(table.persons),) or abs(share.sum() - 1) > 1e-6:
        raise ValueError(f"weights must be {len(table.persons)} numbers with sum 1, not {weights}")
    stack = _stack(table, share)
    frame = Frame.mix(list(table.frames), share)
    size = 1.0
    sides: tuple[Offsets | None, ...] = (None,)
    if build is not None:
        frame, size, sides = _fitted(table, frame, stack, build)
    frame = _abduct(frame, table, stack)
    axes = _axes(frame, spacing_mm / size)
    halves = _half_bodies(table, frame, stack, axes, sides)
    for half in halves:
        _finish(half, axes, frame)
    return _both_halves(halves[0], halves[-1], axes, frame, size)


def _axes(frame: Frame, spacing_mm: float) -> Axes:
    """Positions of the voxels of a right half body."""
    bottom, top = frame.knots_mm[0] - BELOW_KNEE_MM, frame.knots_mm[-1] + ABOVE_CREST_MM
    return (
        np.arange(spacing_mm / 2, HALF_WIDTH_MM, spacing_mm),
        np.arange(BACK_MM, FRONT_MM, spacing_mm),
        np.arange(bottom, top, spacing_mm),
    )


def _finish(half: NDArray[np.uint8], axes: Axes, frame: Frame) -> None:
    """What follows the competition, in place."""
    xs, ys, zs = axes
    _drop_crumbs(half)
    # The symphysis: the halves of a symmetric body would otherwise fuse into one bone.
    gap = half[xs < SYMPHYSIS_MM / 2]
    gap[gap == ATOM_IDS["hip_bone"]] = 0
    half[xs < SYMPHYSIS_MM / 2] = gap
    _split_iliopsoas(half, int(np.searchsorted(zs, frame.head_radius_mm)))
    add_trunk(half, xs, ys, zs, frame.half_hip_mm)


def _stack(table: ShapeTable, weights: Float) -> Stack:
    sharp = np.maximum(weights, 0) ** SHARPNESS
    sharp /= sharp.sum()
    sharp = np.where(sharp < SMALLEST_SHARE, 0, sharp)
    sharp /= sharp.sum()
    atoms, fields, depths = [], [], []
    for atom in table.structures():
        field = mix(table, atom, _owner(table, atom, sharp) if atom in UNMIXED else sharp)
        if field is not None:
            atoms.append(atom)
            fields.append(field)
            depth = np.clip(-field.distance.min((1, 2)), 1.5, 15.0)
            depths.append((depth / PRIORITY.get(atom, 1.0)).astype(np.float32))
    return Stack(np.array(atoms, np.uint8), fields, depths)


def _owner(table: ShapeTable, atom: int, weights: Float) -> Float:
    """All weight to the heaviest person who has the structure."""
    has = np.isfinite(table.extents_mm[:, atom, 0])
    return np.asarray(np.eye(len(weights))[int(np.where(has, weights, -1.0).argmax())])


def _abduct(frame: Frame, table: ShapeTable, stack: Stack) -> Frame:
    """Spread the thighs just as far as their inner sides need to keep off the midline.

    A narrow pelvis with another person's thick thighs would otherwise put them into each other.
    """
    reference = reference_of(table)
    slope = 0.0
    for level in np.flatnonzero(table.levels_mm < THIGH_FROM_MM):
        height = float(table.levels_mm[level])
        innermost = np.inf
        for field in stack.fields:
            k = int(level) - field.first_level
            if 0 <= k < len(field.distance):
                inside = np.argwhere(field.distance[k] < 0) + np.array(field.corner)
                points = inside * GRID_STEP_MM + np.array(GRID_ORIGIN_MM)
                mapped = map_plane(points, int(level), height, reference, frame)
                innermost = min(innermost, float(mapped[:, 0].min(initial=np.inf)))
        slope = max(slope, (CLEARANCE_MM - innermost) / (PELVIS_FROM_MM - height))
    axis = frame.axis_mm.copy()
    axis[:, 0] += slope * np.maximum(PELVIS_FROM_MM - table.levels_mm, 0)
    return replace(frame, axis_mm=axis)


def _half_bodies(
    table: ShapeTable,
    frame: Frame,
    stack: Stack,
    axes: Axes,
    sides: Sequence[Offsets | None],
) -> list[NDArray[np.uint8]]:
    """Labels ``(x, y, z)`` of half bodies, each with its offsets, ids as for the right side."""
    xs, ys, zs = axes
    halves = [np.zeros((len(xs), len(ys), len(zs)), np.uint8) for _ in sides]
    for k, section in enumerate(_sections(table, frame, stack, axes)):
        for half, offsets in zip(halves, sides, strict=True):
            half[:, :, k] = occupy(section, stack, offsets)
    return halves


def _sections(table: ShapeTable, frame: Frame, stack: Stack, axes: Axes) -> Iterator[Section]:
    """Slices of the half body, from below."""
    xs, ys, zs = axes
    reference = reference_of(table)
    levels_mm = table.levels_mm
    pixels = np.stack(np.meshgrid(xs, ys, indexing="ij"), -1)
    for z in zs:
        height = float(map_height(np.array([z]), frame, reference)[0])
        level = float(np.interp(height, levels_mm, np.arange(len(levels_mm))))
        grid = (map_plane(pixels, level, height, frame, reference) - GRID_ORIGIN_MM) / GRID_STEP_MM
        yield cut(stack, level, grid)


def _fitted(
    table: ShapeTable, frame: Frame, stack: Stack, build: Build
) -> tuple[Frame, float, tuple[Offsets, Offsets]]:
    """Frame with the right girth, size (1 = as mixed) and offsets (right, left) for a build."""
    axes = _axes(frame, FIT_MM)
    plain = _half_bodies(table, frame, stack, axes, (None,))[0]
    size = build.femur_mm / _femur_mm(plain, FIT_MM)
    wanted = build.resized(1 / size)
    frame = replace(frame, girth_mm=_girth(frame, plain, axes[2], wanted))
    sections = list(_sections(table, _abduct(frame, table, stack), stack, axes))
    return frame, size, fit(stack, sections, FIT_MM**3 / 1000, wanted)


def _femur_mm(half: NDArray[np.uint8], spacing_mm: float) -> float:
    """Length of the femur along its own axis."""
    points = np.argwhere(half == ATOM_IDS["femur"]) * spacing_mm
    axis = np.linalg.svd(points - points.mean(0), full_matrices=False)[2][0]
    return float(np.ptp(points @ axis)) + spacing_mm


def _girth(frame: Frame, half: NDArray[np.uint8], zs: Float, build: Build) -> Float:
    """Girth of the thigh at which its muscles together have room for the volumes wanted."""
    thigh = half[:, :, zs < THIGH_FROM_MM]
    have = volumes_cm3(half, FIT_MM)
    there = volumes_cm3(thigh, FIT_MM)
    now = then = there[ATOM_IDS["femur"]]
    for atoms, wanted in build.volumes_cm3.items():
        members = sorted(atoms - {ATOM_IDS["femur"]})
        if there[members].sum() > 0:
            now += there[members].sum()
            then += there[members].sum() * max(wanted) / have[members].sum()
    return SHAFT_RADIUS_MM + (frame.girth_mm - SHAFT_RADIUS_MM) * float(np.sqrt(then / now))


def _split_iliopsoas(half: NDArray[np.uint8], first_proximal: int) -> None:
    """Rename iliacus and psoas below the femoral head's upper edge to their distal parts.

    The `iliopsoas` class of Kim et al. (2024) is this distal, conjoint part.
    """
    below = half[:, :, :first_proximal]
    for muscle in ("iliacus", "psoas_major"):
        below[below == ATOM_IDS[f"{muscle}_proximal"]] = ATOM_IDS[f"{muscle}_distal"]


def _drop_crumbs(half: NDArray[np.uint8]) -> None:
    """Unlabel pieces that are less than a tenth of their structure's largest one, in place.

    Mixing and competition leave such pieces at pointed ends; no structure here is that uneven.
    """
    for atom, box in enumerate(ndimage.find_objects(half), start=1):
        if box is None:
            continue
        block = half[box]
        pieces, count = ndimage.label(block == atom)
        if count > 1:
            size = np.bincount(pieces.ravel())
            size[0] = 0
            crumbs = size < 0.1 * size.max()
            crumbs[0] = False
            block[crumbs[pieces]] = 0


def _both_halves(
    right: NDArray[np.uint8], left: NDArray[np.uint8], axes: Axes, frame: Frame, size: float
) -> LabelMap:
    """Mirror the left half, cut away the empty margin, add landmarks, enlarge by ``size``."""
    xs, ys, zs = axes
    spacing = float(xs[1] - xs[0])
    margin = int(np.ceil(MARGIN_MM / spacing))
    any_half = (right > 0) | (left > 0)
    end = int(np.flatnonzero(any_half.any((1, 2)))[-1]) + 1 + margin
    filled = np.flatnonzero(any_half.any((0, 2)))
    first, last = max(filled[0] - margin, 0), filled[-1] + 1 + margin
    half, other, ys = right[:end, first:last], left[:end, first:last], ys[first:last]
    paired = (other > 0) & ~np.isin(other, list(MIDLINE))
    other = other + np.where(paired, LEFT_OFFSET, 0).astype(np.uint8)
    labels = np.concatenate([other[::-1], half])
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = [-xs[: half.shape[0]][-1], ys[0], zs[0]]
    affine[:3] *= size
    condyles = half[:, :, zs < frame.knots_mm[0] + 20.0] == ATOM_IDS["femur"]
    (knee_x, knee_y), _ = _middle_and_top(condyles, xs, ys)
    _, (crest_x, crest_y) = _middle_and_top(half == ATOM_IDS["hip_bone"], xs, ys)
    landmarks = {}
    for side, sign in (("right", 1.0), ("left", -1.0)):
        landmarks[f"hip_{side}"] = np.array([sign * frame.half_hip_mm, 0.0, 0.0])
        landmarks[f"knee_{side}"] = np.array([sign * knee_x, knee_y, frame.knots_mm[0]])
        landmarks[f"crest_{side}"] = np.array([sign * crest_x, crest_y, frame.knots_mm[3]])
    landmarks = {name: size * point for name, point in landmarks.items()}
    return LabelMap(labels, affine, landmarks)


def _middle_and_top(
    mask: NDArray[np.bool_], xs: Float, ys: Float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """(x, y) of the middle of a mask's bounding box, and of the mean of its highest slice."""
    i, j, k = np.nonzero(mask)
    middle = (xs[i].min() + xs[i].max()) / 2, (ys[j].min() + ys[j].max()) / 2
    highest = k == k.max()
    return middle, (float(xs[i[highest]].mean()), float(ys[j[highest]].mean()))

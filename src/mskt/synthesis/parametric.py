"""Label maps of new people, mixed from the shape table.

A seed draws weights for the measured persons. Sizes and pose of the skeleton are mixed with those
weights, cross-sections with a sharper version of them (a half-and-half mixture of two real
cross-sections looks like neither), both halves of the body alike. Posture, asymmetry and finer
variation are the business of later steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mskt.synthesis import shape_table
from mskt.synthesis.constructed import add_trunk
from mskt.synthesis.labelmap import ATOM_IDS, LEFT_OFFSET, MIDLINE, LabelMap
from mskt.synthesis.sections import (
    BAND_MM,
    GRID_ORIGIN_MM,
    GRID_SHAPE,
    GRID_STEP_MM,
    Float32,
    StructureField,
    mix,
    reference_of,
)
from mskt.synthesis.shape_table import (
    PELVIS_FROM_MM,
    THIGH_FROM_MM,
    Float,
    Frame,
    ShapeTable,
    map_height,
    map_plane,
)

ABOVE_CREST_MM = 40.0
BELOW_KNEE_MM = 55.0
HALF_WIDTH_MM = 224.0
FRONT_MM, BACK_MM = 150.0, -170.0
MARGIN_MM = 8.0
SYMPHYSIS_MM = 4.0
CLEARANCE_MM = 5.0  # from the innermost thigh muscle to the midline

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


@dataclass(frozen=True, slots=True)
class _Stack:
    """All mixed structures, ready to be cut at any height."""

    atoms: NDArray[np.uint8]
    fields: list[StructureField]
    depths: list[Float32]


def draw_weights(seed: int, persons: int) -> Float:
    """Weights of the persons, summing to 1; a little outside the triangle they span at times."""
    raw = np.random.default_rng([seed, 0x5A9E]).dirichlet(np.full(persons, 0.8))
    return np.asarray(1 / persons + EXTRAPOLATION * (raw - 1 / persons))


def canonical_labels(
    seed: int, *, spacing_mm: float = 2.0, weights: Sequence[float] | None = None
) -> LabelMap:
    """Make a person's label map in the canonical pose: upright, hips straight, left mirrors right.

    Args:
        seed: the person. The same seed gives the same person at every spacing.
        spacing_mm: isotropic voxel size.
        weights: one number per measured person, summing to 1, instead of drawing them.

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
    frame = _abduct(Frame.mix(list(table.frames), share), table, stack)
    xs = np.arange(spacing_mm / 2, HALF_WIDTH_MM, spacing_mm)
    ys = np.arange(BACK_MM, FRONT_MM, spacing_mm)
    bottom, top = frame.knots_mm[0] - BELOW_KNEE_MM, frame.knots_mm[-1] + ABOVE_CREST_MM
    zs = np.arange(bottom, top, spacing_mm)
    half = _half_body(table, frame, stack, (xs, ys, zs))
    _drop_crumbs(half)
    # The symphysis: the halves of a symmetric body would otherwise fuse into one bone.
    gap = half[xs < SYMPHYSIS_MM / 2]
    gap[gap == ATOM_IDS["hip_bone"]] = 0
    half[xs < SYMPHYSIS_MM / 2] = gap
    _split_iliopsoas(half, int(np.searchsorted(zs, frame.head_radius_mm)))
    add_trunk(half, xs, ys, zs, frame.half_hip_mm)
    return _both_halves(half, (xs, ys, zs), frame)


def _stack(table: ShapeTable, weights: Float) -> _Stack:
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
    return _Stack(np.array(atoms, np.uint8), fields, depths)


def _owner(table: ShapeTable, atom: int, weights: Float) -> Float:
    """All weight to the heaviest person who has the structure."""
    has = np.isfinite(table.extents_mm[:, atom, 0])
    return np.asarray(np.eye(len(weights))[int(np.where(has, weights, -1.0).argmax())])


def _abduct(frame: Frame, table: ShapeTable, stack: _Stack) -> Frame:
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


def _half_body(
    table: ShapeTable, frame: Frame, stack: _Stack, axes: tuple[Float, Float, Float]
) -> NDArray[np.uint8]:
    """Labels ``(x, y, z)`` of the right half, ids as for the right side."""
    xs, ys, zs = axes
    half = np.zeros((len(xs), len(ys), len(zs)), np.uint8)
    reference = reference_of(table)
    levels_mm = table.levels_mm
    pixels = np.stack(np.meshgrid(xs, ys, indexing="ij"), -1)
    for k, z in enumerate(zs):
        height = float(map_height(np.array([z]), frame, reference)[0])
        level = float(np.interp(height, levels_mm, np.arange(len(levels_mm))))
        grid = (map_plane(pixels, level, height, frame, reference) - GRID_ORIGIN_MM) / GRID_STEP_MM
        half[:, :, k] = _slice(stack, level, grid)
    return half


def _slice(stack: _Stack, level: float, grid: Float) -> NDArray[np.uint8]:
    """Labels ``(x, y)`` where ``grid`` ``(x, y, 2)`` points into the reference grid."""
    present, scores = _cut(stack, level)
    labels = np.zeros(grid.shape[:2], np.uint8)
    if not present:
        return labels
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
    best = value.argmin(0)
    inside = value[best, np.arange(len(best))] < 0
    labels[held] = np.where(inside, stack.atoms[np.array(present)[best]], 0)
    return labels


def _cut(stack: _Stack, level: float) -> tuple[list[int], Float32]:
    """Structures near one height and their distances over their depth ``(n, *GRID_SHAPE)``.

    Depth makes a thin muscle and a thick one equals where mixing makes them overlap.
    """
    present, planes = [], []
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
        planes.append(whole)
    return present, np.stack(planes) if planes else np.zeros((0, *GRID_SHAPE), np.float32)


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
    half: NDArray[np.uint8], axes: tuple[Float, Float, Float], frame: Frame
) -> LabelMap:
    """Mirror the right half to the left, cut away the empty margin, add landmarks."""
    xs, ys, zs = axes
    spacing = float(xs[1] - xs[0])
    margin = int(np.ceil(MARGIN_MM / spacing))
    right = int(np.flatnonzero(half.any((1, 2)))[-1]) + 1 + margin
    filled = np.flatnonzero(half.any((0, 2)))
    first, last = max(filled[0] - margin, 0), filled[-1] + 1 + margin
    half, ys = half[:right, first:last], ys[first:last]
    paired = (half > 0) & ~np.isin(half, list(MIDLINE))
    left = half + np.where(paired, LEFT_OFFSET, 0).astype(np.uint8)
    labels = np.concatenate([left[::-1], half])
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = [-xs[: half.shape[0]][-1], ys[0], zs[0]]
    condyles = half[:, :, zs < frame.knots_mm[0] + 20.0] == ATOM_IDS["femur"]
    (knee_x, knee_y), _ = _middle_and_top(condyles, xs, ys)
    _, (crest_x, crest_y) = _middle_and_top(half == ATOM_IDS["hip_bone"], xs, ys)
    landmarks = {}
    for side, sign in (("right", 1.0), ("left", -1.0)):
        landmarks[f"hip_{side}"] = np.array([sign * frame.half_hip_mm, 0.0, 0.0])
        landmarks[f"knee_{side}"] = np.array([sign * knee_x, knee_y, frame.knots_mm[0]])
        landmarks[f"crest_{side}"] = np.array([sign * crest_x, crest_y, frame.knots_mm[3]])
    return LabelMap(labels, affine, landmarks)


def _middle_and_top(
    mask: NDArray[np.bool_], xs: Float, ys: Float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """(x, y) of the middle of a mask's bounding box, and of the mean of its highest slice."""
    i, j, k = np.nonzero(mask)
    middle = (xs[i].min() + xs[i].max()) / 2, (ys[j].min() + ys[j].max()) / 2
    highest = k == k.max()
    return middle, (float(xs[i[highest]].mean()), float(ys[j[highest]].mean()))

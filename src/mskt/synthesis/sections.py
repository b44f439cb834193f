"""Cross-sections of the shape table as signed distances, and mixtures of them.

Everything lives on one grid of the reference half body (``GRID_STEP_MM`` in the plane, the
table's levels along z). Negative is inside; distances are cut off at ``BAND_MM``.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mskt.synthesis import shape_table
from mskt.synthesis.shape_table import Contour, Float, Frame, ShapeTable, map_plane

Float32 = NDArray[np.float32]

GRID_STEP_MM = 2.0
GRID_ORIGIN_MM = (-30.0, -170.0)
GRID_SHAPE = (130, 160)
BAND_MM = 20.0
SAMPLE_STEP_MM = 1.2
OFFSET_RANGE_MM = (-4.0, 7.0)


@dataclass(frozen=True, slots=True)
class StructureField:
    """Signed distance of one structure, cropped in plane and in levels.

    Attributes:
        distance: ``(..., levels, h, w)`` float32 mm.
        first_level: index of the first level held.
        corner: grid index of ``[..., 0, 0]``.
    """

    distance: Float32
    first_level: int
    corner: tuple[int, int]


@functools.cache
def decode_packaged(person: int, atom: int) -> StructureField | None:
    """``decode`` of the packaged table; kept, because every seed needs it again."""
    return decode(shape_table.packaged(), person, atom)


def decode(table: ShapeTable, person: int, atom: int) -> StructureField | None:
    """Signed distance ``(levels, h, w)`` of one structure of one person, None if not measured."""
    low, high, box = _span(table, atom)
    outlines = _reference_outlines(table, person, atom)
    if not outlines:
        return None
    flat = {level: _plane_distance(points, box) for level, points in outlines.items()}
    shape = (box[2] - box[0], box[3] - box[1])
    field = np.full((high - low, *shape), BAND_MM, np.float32)
    extent = table.extents_mm[person, atom]
    present = sorted(flat)
    for level in range(low, high):
        if level in flat:
            field[level - low] = flat[level]
            continue
        # A cap: beyond the last outline the nearest point of the structure is on its end.
        z = table.levels_mm[level]
        for near in _neighbours(present, level):
            end = extent[0] if z < extent[0] else extent[1] if z > extent[1] else None
            gap = abs(z - (table.levels_mm[near] if end is None else end))
            if gap < BAND_MM:
                cap = np.hypot(np.maximum(flat[near], 0), gap)
                np.minimum(field[level - low], cap, out=field[level - low])
    return StructureField(field, low, (box[0], box[1]))


def mix(table: ShapeTable, atom: int, weights: Float) -> StructureField | None:
    """Mixture of one structure over persons.

    The weighted mean of signed distances is thinner than its parts wherever they do not coincide,
    so each level is shifted until its area is the weighted mean of the persons' areas.
    """
    packaged = table is shape_table.packaged()
    fields: list[StructureField] = []
    kept: list[int] = []
    for person in np.flatnonzero(weights > 0):
        one = decode_packaged(int(person), atom) if packaged else decode(table, int(person), atom)
        if one is not None:
            fields.append(one)
            kept.append(int(person))
    if not fields:
        return _fallback(table, atom)
    first, corner = fields[0].first_level, fields[0].corner
    levels = table.levels_mm[first : first + len(fields[0].distance)]
    share = np.where(
        (table.valid_mm[kept, :1] <= levels) & (levels <= table.valid_mm[kept, 1:]),
        weights[kept, None],
        1e-6,
    )
    share = (share / share.sum(0)).astype(np.float32)
    mean = np.zeros_like(fields[0].distance)
    target = np.zeros(len(levels), np.float32)
    for part, one in zip(share, fields, strict=True):
        mean += part[:, None, None] * one.distance
        target += part * area_mm2(one.distance)
    if len(fields) > 1:
        mean -= _area_offset(mean, target)[:, None, None]
    return StructureField(mean, first, corner)


def _fallback(table: ShapeTable, atom: int) -> StructureField | None:
    """Mixture of whoever has the structure when none of the chosen persons does."""
    owners = np.isfinite(table.extents_mm[:, atom, 0]).astype(np.float64)
    return mix(table, atom, owners / owners.sum()) if owners.any() else None


def area_mm2(distance: Float32) -> Float32:
    """Area in mm² of each level, voxels on the edge counted in part."""
    part = np.clip(0.5 - distance / GRID_STEP_MM, 0, 1)
    return np.asarray(part.sum((-2, -1)) * GRID_STEP_MM**2, np.float32)


def _area_offset(distance: Float32, target: Float32) -> Float32:
    """Shift of each level that gives it the wanted area, by bisection."""
    low = np.full(len(target), OFFSET_RANGE_MM[0], np.float32)
    high = np.full(len(target), OFFSET_RANGE_MM[1], np.float32)
    for _ in range(9):
        middle = (low + high) / 2
        small = area_mm2(distance - middle[:, None, None].astype(np.float32)) < target
        low = np.where(small, middle, low).astype(np.float32)
        high = np.where(small, high, middle).astype(np.float32)
    return np.asarray(np.where(target > GRID_STEP_MM**2, (low + high) / 2, 0), np.float32)


@functools.cache
def _reference_of_packaged() -> Frame:
    return shape_table.packaged().reference


def reference_of(table: ShapeTable) -> Frame:
    """Return the table's reference frame (kept for the packaged table)."""
    return _reference_of_packaged() if table is shape_table.packaged() else table.reference


def _reference_outlines(
    table: ShapeTable, person: int, atom: int
) -> dict[int, list[tuple[Float, Float]]]:
    """Points and outward normals of every contour, by level, in the reference frame."""
    reference, frame = reference_of(table), table.frames[person]
    outlines: dict[int, list[tuple[Float, Float]]] = {}
    for level, z in enumerate(table.levels_mm):
        for contour in table.contours.get((person, atom, level), ()):
            points = map_plane(_draw(contour), level, float(z), frame, reference)
            tangent = np.roll(points, -1, 0) - np.roll(points, 1, 0)
            normal = np.c_[tangent[:, 1], -tangent[:, 0]]
            normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
            outlines.setdefault(level, []).append((points, normal))
    return outlines


def _draw(contour: Contour) -> Float:
    count = int(np.clip(contour.length_mm / SAMPLE_STEP_MM, 24, 400))
    return contour.points(count)[0]


def _span(table: ShapeTable, atom: int) -> tuple[int, int, tuple[int, int, int, int]]:
    """Levels and grid box that hold one structure of every person with its band."""
    low, high, box = (
        _packaged_span(atom) if table is shape_table.packaged() else _find_span(table, atom)
    )
    return low, high, box


@functools.cache
def _packaged_span(atom: int) -> tuple[int, int, tuple[int, int, int, int]]:
    return _find_span(shape_table.packaged(), atom)


def _find_span(table: ShapeTable, atom: int) -> tuple[int, int, tuple[int, int, int, int]]:
    extents = table.extents_mm[:, atom]
    near = (table.levels_mm > np.nanmin(extents) - BAND_MM) & (
        table.levels_mm < np.nanmax(extents) + BAND_MM
    )
    levels = np.flatnonzero(near)
    points = [
        point
        for person in range(len(table.persons))
        for outlines in _reference_outlines(table, person, atom).values()
        for point, _ in outlines
    ]
    cloud = np.concatenate(points)
    start = np.floor((cloud.min(0) - GRID_ORIGIN_MM - BAND_MM) / GRID_STEP_MM)
    stop = np.ceil((cloud.max(0) - GRID_ORIGIN_MM + BAND_MM) / GRID_STEP_MM) + 1
    start = np.maximum(start, 0).astype(int)
    stop = np.minimum(stop, GRID_SHAPE).astype(int)
    box = (int(start[0]), int(start[1]), int(stop[0]), int(stop[1]))
    return int(levels[0]), int(levels[-1]) + 1, box


def _neighbours(present: list[int], level: int) -> list[int]:
    below = [p for p in present if p < level]
    above = [p for p in present if p > level]
    return below[-1:] + above[:1]


def _plane_distance(outlines: list[tuple[Float, Float]], box: tuple[int, int, int, int]) -> Float32:
    """Signed distance ``(h, w)`` to the nearest outline; its normal tells the side."""
    points = np.concatenate([p for p, _ in outlines]).astype(np.float32)
    normals = np.concatenate([n for _, n in outlines]).astype(np.float32)
    xs = GRID_ORIGIN_MM[0] + GRID_STEP_MM * np.arange(box[0], box[2], dtype=np.float32)
    ys = GRID_ORIGIN_MM[1] + GRID_STEP_MM * np.arange(box[1], box[3], dtype=np.float32)
    field = np.full((len(xs), len(ys)), BAND_MM, np.float32)
    (x0, y0), (x1, y1) = points.min(0) - BAND_MM, points.max(0) + BAND_MM
    rows = slice(*np.searchsorted(xs, [x0, x1]))
    columns = slice(*np.searchsorted(ys, [y0, y1]))
    grid = np.stack(np.meshgrid(xs[rows], ys[columns], indexing="ij"), -1).reshape(-1, 2)
    # |p - q|² without its constant |p|²: one matrix product finds the nearest point of each pixel.
    nearest = ((points**2).sum(1) - 2 * grid @ points.T).argmin(1)
    offset = grid - points[nearest]
    along = (offset * normals[nearest]).sum(1)
    straight = np.hypot(offset[:, 0], offset[:, 1])
    # Close to the outline the plane through the nearest point is more exact than the point.
    size = np.where(straight < 2 * SAMPLE_STEP_MM, np.abs(along), straight)
    signed = np.where(along < 0, -size, size)
    shape = field[rows, columns].shape
    field[rows, columns] = np.clip(signed, -np.inf, BAND_MM).reshape(shape)
    return field

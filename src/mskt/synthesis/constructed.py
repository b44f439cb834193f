"""Trunk structures that no measured map holds: lumbar spine, multifidus, abdominal wall.

They are simple solids set upon measured landmarks of the same person (promontory, sacral back,
iliac crest, anterior superior iliac spine, pubic tubercle), and they take only voxels that
nothing measured has claimed. Dimensions are ordinary adult ones (vertebral body 48 x 34 x 27 mm,
disc 9 mm, flank wall 20 mm, rectus 11 mm), scaled with the width of the pelvis.

All functions work on the right half body: ``labels`` (x, y, z) with the heights and positions
of its voxel centres in mm, x from the midsagittal plane.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mskt.synthesis.labelmap import ATOM_IDS
from mskt.synthesis.shape_table import Float

Labels = NDArray[np.uint8]

BODY_HALF_WIDTH_MM, BODY_HALF_DEPTH_MM, BODY_HALF_HEIGHT_MM = 24.0, 17.0, 13.5
DISC_MM = 9.0
# Forward tilt of the discs' and vertebrae's own upright from L5 upwards: the lumbar lordosis.
TILTS_DEG = (24.0, 10.0, 1.0, -5.0)
LINEA_ALBA_MM = 4.5
SEMILUNAR_MM = 62.0
FLANK_MM, RECTUS_MM = 20.0, 11.0


@dataclass(frozen=True, slots=True)
class _Guides:
    """Landmarks ``(3,)`` of the right half in mm, and a scale (1 = pelvis of average width)."""

    promontory: Float
    crest: Float
    iliac_spine: Float
    pubis: Float
    scale: float


def add_trunk(labels: Labels, xs: Float, ys: Float, zs: Float, half_hip_mm: float) -> None:
    """Paint lumbar vertebrae, multifidus, rectus abdominis and obliques into free voxels."""
    guides = _find_guides(labels, (xs, ys, zs), half_hip_mm / 90.0)
    spine = _vertebrae(guides, float(zs[-1]))
    for centre_y, centre_z, tilt in spine:
        _paint_vertebra(labels, (xs, ys, zs), (centre_y, centre_z), tilt, guides.scale)
    _paint_multifidus(labels, (xs, ys, zs), guides, spine)
    _paint_wall(labels, (xs, ys, zs), guides)


def _find_guides(labels: Labels, axes: tuple[Float, Float, Float], scale: float) -> _Guides:
    xs = axes[0]
    hip = _points(labels == ATOM_IDS["hip_bone"], axes)
    upper = hip[hip[:, 2] > 40.0]
    lower = hip[(hip[:, 2] < 20.0) & (hip[:, 0] < 40.0)]
    sacrum = _points(labels[xs < 12.0] == ATOM_IDS["sacrum"], axes)
    base = sacrum[sacrum[:, 2] > sacrum[:, 2].max() - 45.0]
    return _Guides(
        promontory=_extreme(base, 1),
        crest=_extreme(hip, 2),
        iliac_spine=_extreme(upper, 1),
        pubis=_extreme(lower, 1),
        scale=scale,
    )


def _extreme(points: Float, axis: int) -> Float:
    """Mean of the points that are within 3 mm of the largest coordinate: steadier than one."""
    return np.asarray(points[points[:, axis] > points[:, axis].max() - 3.0].mean(0))


def _points(mask: NDArray[np.bool_], axes: tuple[Float, Float, Float]) -> Float:
    index = np.argwhere(mask)
    return np.stack([axis[i] for axis, i in zip(axes, index.T, strict=True)], 1)


def _vertebrae(guides: _Guides, top_mm: float) -> list[tuple[float, float, float]]:
    """(y, z, tilt in radians) of the vertebral bodies, from L5 up to the top of the map."""
    half = (BODY_HALF_HEIGHT_MM + DISC_MM / 2) * guides.scale
    # The sacral plate rises backwards from the promontory: its middle lies behind and above it.
    y = guides.promontory[1] - 0.85 * BODY_HALF_DEPTH_MM * guides.scale
    z = guides.promontory[2] + 0.45 * BODY_HALF_DEPTH_MM * guides.scale
    spine = []
    for tilt in np.radians(TILTS_DEG):
        y, z = y + half * np.sin(tilt), z + half * np.cos(tilt)
        if z - 2 * half > top_mm:
            break
        spine.append((float(y), float(z), float(tilt)))
        y, z = y + half * np.sin(tilt), z + half * np.cos(tilt)
    return spine


def _paint_vertebra(
    labels: Labels,
    axes: tuple[Float, Float, Float],
    centre: tuple[float, float],
    tilt: float,
    scale: float,
) -> None:
    """Paint body, pedicles, laminae around the canal, facets, transverse and spinous processes."""
    xs, ys, zs = axes
    i = slice(0, int(np.searchsorted(xs, 50 * scale)))
    j = slice(*np.searchsorted(ys, [centre[0] - 75 * scale, centre[0] + 35 * scale]))
    k = slice(*np.searchsorted(zs, [centre[1] - 45 * scale, centre[1] + 45 * scale]))
    x = xs[i, None, None] / scale
    dy, dz = (ys[None, j, None] - centre[0]) / scale, (zs[None, None, k] - centre[1]) / scale
    front = dy * np.cos(tilt) - dz * np.sin(tilt)
    up = dy * np.sin(tilt) + dz * np.cos(tilt)
    waist = 1 - 0.1 * (1 - (up / BODY_HALF_HEIGHT_MM) ** 2)
    body = (x / (BODY_HALF_WIDTH_MM * waist)) ** 2.5 + np.abs(
        front / (BODY_HALF_DEPTH_MM * waist)
    ) ** 2.5 < 1
    solid = body & (np.abs(up) < BODY_HALF_HEIGHT_MM)
    back = front + BODY_HALF_DEPTH_MM
    solid |= _box(x, (9, 17), back, (-12, 3), up, (-1, 10))
    ring = np.hypot(x / 16.0, (back + 8.0) / 14.0)
    solid |= (ring < 1) & (back < -7) & (np.abs(up + 3 - (back + 20) * 0.3) < 9.5)
    for height, depth in ((13.0, -13.0), (-14.0, -18.0)):
        solid |= ((x - 16) / 7) ** 2 + ((back - depth) / 6) ** 2 + ((up - height) / 11) ** 2 < 1
    solid |= _box(x, (14, 42), back + 0.12 * x, (-4, 4), up, (-1, 8))
    solid |= _box(x, (0, 3.5), back, (-50, -20), up - 0.25 * (back + 20), (-14, 7))
    canal = (x / 11.0) ** 2 + ((back + 8.0) / 8.0) ** 2 < 1
    block = labels[i, j, k]
    block[solid & ~canal & (block == 0)] = ATOM_IDS["lumbar_vertebra"]


def _box(
    x: Float,
    x_range: tuple[float, float],
    y: Float,
    y_range: tuple[float, float],
    z: Float,
    z_range: tuple[float, float],
) -> NDArray[np.bool_]:
    inside = (x >= x_range[0]) & (x < x_range[1]) & (y >= y_range[0]) & (y < y_range[1])
    return np.asarray(inside & (z >= z_range[0]) & (z < z_range[1]))


def _paint_multifidus(
    labels: Labels,
    axes: tuple[Float, Float, Float],
    guides: _Guides,
    spine: list[tuple[float, float, float]],
) -> None:
    """Paint an oval column in the groove beside the spinous processes, thin on the sacrum."""
    xs, ys, zs = axes
    s = guides.scale
    sacral = _points(labels[xs < 22.0 * s] == ATOM_IDS["sacrum"], axes)
    bottom = float(sacral[:, 2].min())
    heights, backs = [], []
    for z in np.arange(bottom + 15.0, guides.promontory[2], 5.0):
        slab = sacral[np.abs(sacral[:, 2] - z) < 4.0]
        if len(slab):
            heights.append(float(z))
            backs.append(float(np.percentile(slab[:, 1], 8)))
    for y, z, _ in spine:
        heights.append(z)
        backs.append(y - (BODY_HALF_DEPTH_MM + 17.0) * s)
    full = guides.promontory[2] - 10.0
    for k in np.flatnonzero(zs > bottom + 20.0):
        size = float(np.interp(zs[k], [bottom + 20.0, full], [0.3, 1.0]))
        back = float(np.interp(zs[k], heights, backs))
        width, depth = 15.0 * s * size, 17.0 * s * size
        oval = ((xs[:, None] - 3.5 - width) / width) ** 2
        oval = oval + ((ys[None, :] - back + 0.75 * depth) / depth) ** 2
        _claim(labels[:, :, k], oval < 1, "multifidus")


def _paint_wall(labels: Labels, axes: tuple[Float, Float, Float], guides: _Guides) -> None:
    """Paint rectus from pubis to the top, obliques from crest and inguinal ligament upwards."""
    xs, ys, zs = axes
    crest_z, spine_z, pubis_z = guides.crest[2], guides.iliac_spine[2], guides.pubis[2]
    x, y = np.meshgrid(xs, ys, indexing="ij")
    centre_y = guides.crest[1] + 15.0
    front_y = guides.iliac_spine[1] + 30.0 * guides.scale
    for k in np.flatnonzero(zs > pubis_z + 5.0):
        z = float(zs[k])
        front = float(np.interp(z, [pubis_z, crest_z], [guides.pubis[1] + 6.0, front_y]))
        depth = np.where(y > centre_y, front - centre_y, 75.0 * guides.scale)
        ratio = np.hypot(x / (guides.iliac_spine[0] + 6.0), (y - centre_y) / depth)
        outside = (ratio - 1) * np.hypot(x, y - centre_y) / np.maximum(ratio, 1e-6)
        edge = float(np.interp(z, [pubis_z, spine_z], [24.0, SEMILUNAR_MM])) * guides.scale
        band = (np.abs(outside) < RECTUS_MM / 2) & (y > centre_y)
        _claim(labels[:, :, k], band & (x > LINEA_ALBA_MM) & (x < edge), "rectus_abdominis")
        # The flank muscles thin out towards their aponeurosis in front and at the back.
        part = np.clip((x - edge) / (0.35 * guides.iliac_spine[0]), 0.3, 1)
        wall = (np.abs(outside) < part * FLANK_MM / 2) & (x > edge + 3.0)
        wall &= _above_attachment(x, y, z, guides)
        _claim(labels[:, :, k], wall, "abdominal_oblique")


def _above_attachment(x: Float, y: Float, z: float, guides: _Guides) -> NDArray[np.bool_]:
    """Where the flank wall exists at height ``z``: above crest and inguinal ligament."""
    crest, spine, pubis = guides.crest, guides.iliac_spine, guides.pubis
    if z >= crest[2]:
        # Behind, the wall ends at the lateral edge of quadratus lumborum.
        return np.asarray((y > crest[1] - 35.0) & (x > 60.0 * guides.scale * (y < crest[1])))
    if z >= spine[2]:
        along = (crest[2] - z) / (crest[2] - spine[2])
        return np.asarray(y > crest[1] + along * (spine[1] - crest[1]))
    along = 1.6 * (spine[2] - z) / (spine[2] - pubis[2])
    return np.asarray((x < spine[0] + along * (pubis[0] - spine[0])) & (y > spine[1] - 10.0))


def _claim(plane: Labels, mask: NDArray[np.bool_], name: str) -> None:
    plane[mask & (plane == 0)] = ATOM_IDS[name]

"""The shape of one person: a single inverse map from scanner space to the source's space.

Order, from the output point inwards: mirror, two smooth displacements, trunk tilt and size, supine
flattening, pose of each leg about its hip joint, calibre of each muscle. All of it is smooth and is
evaluated on a lattice fixed in world space; labels are looked up once, on the output grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mskt.synthesis.config import SynthesisConfig
from mskt.synthesis.lattice import (
    Axes,
    CoarseLattice,
    FloatArray,
    NoiseField,
    child_rng,
    smoothstep,
)
from mskt.synthesis.source import LEFT, MUSCLES, PreparedSource

Points = tuple[FloatArray, FloatArray, FloatArray]


@dataclass(frozen=True)
class Shape:
    """The drawn parameters of one person's shape."""

    mirror: bool
    scale: FloatArray  # (3,)
    tilt: FloatArray  # (3,) degrees about x, y, z
    legs: FloatArray  # (2, 3) flexion, abduction, rotation; degrees; right, left of the source
    knees: FloatArray  # (2,) knee flexion, degrees
    calibre: dict[int, float]  # radius factor per sided id
    atrophy_mm: dict[int, float]  # rim lost to fat per sided id
    flattening: float
    wide: tuple[NoiseField, NoiseField, NoiseField]
    fine: tuple[NoiseField, NoiseField, NoiseField]
    wide_mm: float
    fine_mm: float


@dataclass(frozen=True)
class Warp:
    """Where each output voxel comes from, and the lattice it was computed on.

    Attributes:
        coarse: source coordinates (mm) at lattice nodes; full: at voxels.
        web_mm: how far a node was pushed out of the other leg's space (for the skin).
    """

    lattice: CoarseLattice
    coarse: Points
    full: Points
    web_mm: FloatArray


def draw_shape(seed: int, prepared: PreparedSource, config: SynthesisConfig) -> Shape:
    """Draw one person's shape."""
    rng = child_rng(seed, "shape")
    mirror = bool(rng.random() < config.p_mirror)
    scale = rng.uniform(*config.scale) * (1 + config.proportion_sd * rng.standard_normal(3))
    # the pelvis tilts on the table more easily than it leans or rolls
    tilt = config.tilt_sd * np.array([1.0, 0.5, 0.6]) * rng.standard_normal(3)
    pose = child_rng(seed, "pose")
    both = np.array([pose.uniform(*r) for r in (config.flexion, config.abduction, config.rotation)])
    each = np.array(
        [
            [pose.uniform(*r) for r in (config.flexion, config.abduction, config.rotation)]
            for _ in range(2)
        ]
    )
    shared = pose.random()  # 1: both legs alike, as most patients lie
    legs = shared * both + (1 - shared) * each
    bend = child_rng(seed, "knee").uniform(*config.knee_bend)
    knees = np.clip(bend * legs[:, 0], -3, 40)
    calibre, atrophy = _draw_muscles(seed, config)
    deform = child_rng(seed, "deform")
    wide = tuple(NoiseField.draw(deform, 80.0) for _ in range(3))
    fine = tuple(NoiseField.draw(deform, 32.0) for _ in range(3))
    return Shape(
        mirror=mirror,
        scale=scale.astype(np.float32),
        tilt=tilt.astype(np.float32),
        legs=legs.astype(np.float32),
        knees=knees.astype(np.float32),
        calibre=calibre,
        atrophy_mm=atrophy,
        flattening=float(rng.uniform(*config.flattening)),
        wide=(wide[0], wide[1], wide[2]),
        fine=(fine[0], fine[1], fine[2]),
        wide_mm=float(rng.uniform(*config.deform_wide_mm)),
        fine_mm=float(rng.uniform(*config.deform_fine_mm)),
    )


def _draw_muscles(seed: int, config: SynthesisConfig) -> tuple[dict[int, float], dict[int, float]]:
    rng = child_rng(seed, "muscles")
    person = 1 + config.muscle_scale_sd * rng.standard_normal()
    weak_side = rng.random() < config.p_atrophy
    side = int(rng.integers(2))
    loss = rng.uniform(*config.atrophy_mm) if weak_side else 0.0
    calibre, atrophy = {}, {}
    for atom in MUSCLES:
        common = person * (1 + config.muscle_scale_sd * rng.standard_normal())
        for s in (0, 1):
            own = 1 + 0.4 * config.muscle_scale_sd * rng.standard_normal()
            calibre[atom + LEFT * s] = float(np.clip(common * own, 0.75, 1.25))
            here = loss * rng.uniform(0.2, 1.2)
            atrophy[atom + LEFT * s] = float(here if s == side else 0.25 * here)
    return calibre, atrophy


def build_warp(axes: Axes, prepared: PreparedSource, shape: Shape) -> Warp:
    """Evaluate the inverse map on the grid spanned by ``axes`` (world mm)."""
    lattice = CoarseLattice.covering(axes)
    coarse, web = inverse_map(lattice, prepared, shape)
    full = tuple(lattice.upsample(v) for v in coarse)
    return Warp(lattice, coarse, (full[0], full[1], full[2]), web)


def inverse_map(
    lattice: CoarseLattice, prepared: PreparedSource, shape: Shape
) -> tuple[Points, FloatArray]:
    """Source coordinates (mm) of the lattice's nodes, and how far legs were kept apart (mm)."""
    flip = np.float32(-1 if shape.mirror else 1)
    ax = (lattice.axes[0] * flip, lattice.axes[1], lattice.axes[2])
    p = [np.broadcast_to(a, lattice.shape).astype(np.float32) for a in np.ix_(*ax)]
    for k in range(3):
        p[k] = p[k] + shape.wide_mm * shape.wide[k].at(ax) + shape.fine_mm * shape.fine[k].at(ax)
    # the pelvis tilts; chest and knees stay on the table
    share = (1 - 0.85 * smoothstep(p[2], 110, 260)) * (1 - 0.5 * smoothstep(-p[2], 60, 300))
    turned = _rotate(p, _rotation(shape.tilt), np.zeros(3, np.float32))
    p = [v + share * (t - v) for v, t in zip(p, turned, strict=True)]
    p = [v / s for v, s in zip(p, shape.scale, strict=True)]
    p = _flatten(p, prepared, shape.flattening)
    q, web = _pose(p, prepared, shape)
    q = _calibre(q, prepared, shape)
    return (q[0], q[1], q[2]), web


def _rotation(degrees: FloatArray) -> FloatArray:
    a, b, c = np.deg2rad(degrees.astype(float))
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return np.asarray(rz @ ry @ rx, np.float32)


def _rotate(p: list[FloatArray], r: FloatArray, centre: FloatArray) -> list[FloatArray]:
    d = [v - c for v, c in zip(p, centre, strict=True)]
    return [r[i, 0] * d[0] + r[i, 1] * d[1] + r[i, 2] * d[2] + centre[i] for i in range(3)]


def sample_hull(
    values: FloatArray, p: Points | list[FloatArray], src: PreparedSource
) -> FloatArray:
    """Trilinear values of an envelope field (5 mm grid) at source points, clamped at its ends."""
    idx = [(v - o) / np.float32(5.0) for v, o in zip(p, src.hull_origin_mm, strict=True)]
    return np.asarray(
        ndimage.map_coordinates(values, idx, order=1, mode="nearest", output=np.float32)
    )


def back_surface(prepared: PreparedSource) -> FloatArray:
    """Rear of the muscle hull, y in mm, on the hull grid's (x, z); NaN where there is none."""
    inside = prepared.hull_mm < 0
    first = inside.argmax(1)
    y = prepared.hull_origin_mm[1] + 5.0 * first
    return np.where(inside.any(1), y, np.nan).astype(np.float32)


def _flatten(p: list[FloatArray], src: PreparedSource, amount: float) -> list[FloatArray]:
    """Press the rear of pelvis and thighs towards a plane, as lying on a table does."""
    rear = back_surface(src)
    z = src.hull_origin_mm[2] + 5.0 * np.arange(rear.shape[1])
    pelvis = rear[:, (z > -40) & (z < 90)]
    plane = float(np.nanpercentile(pelvis, 25))
    bulge = np.nan_to_num(np.clip(rear - plane, -35, 25), nan=0.0)
    fade = np.clip((z + 420) / 200, 0, 1) * np.clip((230 - z) / 80, 0, 1)
    bulge = ndimage.gaussian_filter(bulge * fade, (3.0, 4.0)).astype(np.float32)
    ix = (p[0] - src.hull_origin_mm[0]) / 5.0
    iz = (p[2] - src.hull_origin_mm[2]) / 5.0
    shift = ndimage.map_coordinates(bulge, [ix, iz], order=1, mode="constant", output=np.float32)
    weight = 1 - smoothstep(p[1], plane + 5, plane + 85)
    return [p[0], p[1] + np.float32(amount) * weight * shift, p[2]]


def _pose(
    p: list[FloatArray], src: PreparedSource, shape: Shape
) -> tuple[list[FloatArray], FloatArray]:
    """Rotate each thigh about its hip joint; the blend runs along the femoral neck."""
    lean = np.tan(np.deg2rad(shape.legs[:, 1]))
    middle = -p[2] * np.float32(0.5 * (lean[0] - lean[1]))
    distal = smoothstep(-p[2], 30, 90)
    right_side = p[0] > middle * distal
    out = [np.empty_like(p[0]) for _ in range(3)]
    web = np.zeros_like(p[0])
    for side, mine in ((0, right_side), (1, ~right_side)):
        pts = [v[mine] for v in p]
        outward = 1.0 if side == 0 else -1.0
        hip = src.skeleton.hip[side]
        d = [v - c for v, c in zip(pts, hip, strict=True)]
        along = 0.74 * outward * d[0] - 0.67 * d[2]
        weight = smoothstep(along, 4, 62)
        turned = _turn(d, shape.legs[side], outward, weight)
        q = [v + c for v, c in zip(turned, hip, strict=True)]
        cross = np.clip(-(q[0] * outward), 0, None) * smoothstep(-q[2], 60, 110)
        q[0] = q[0] + outward * cross
        q = _bend_knee(q, src.skeleton.knee[side], float(shape.knees[side]))
        for k in range(3):
            out[k][mine] = q[k]
        web[mine] = cross
    return out, web


def _turn(
    d: list[FloatArray], angles: FloatArray, outward: float, weight: FloatArray
) -> list[FloatArray]:
    """Inverse rotation by ``weight`` times (flexion, abduction, rotation), degrees."""
    flex, abd, rot = (np.deg2rad(float(a)) * weight for a in angles)
    x, y, z = d
    # each step undoes one turn; flexion swings the distal end (z < 0) forwards (y > 0)
    c, s = np.cos(flex), np.sin(flex)
    y, z = c * y + s * z, -s * y + c * z
    c, s = np.cos(abd * outward), np.sin(abd * outward)
    x, z = c * x + s * z, -s * x + c * z
    c, s = np.cos(rot * outward), np.sin(rot * outward)
    x, y = c * x + s * y, -s * x + c * y
    return [x.astype(np.float32), y.astype(np.float32), z.astype(np.float32)]


def _bend_knee(q: list[FloatArray], knee: FloatArray, degrees: float) -> list[FloatArray]:
    """Undo a knee flexion: below the joint the leg swings backwards (y falls)."""
    centre = (knee[1], knee[2] + 18)
    weight = smoothstep(centre[1] - q[2], -14, 30)
    angle = np.deg2rad(degrees) * weight
    y, z = q[1] - centre[0], q[2] - centre[1]
    c, s = np.cos(angle), np.sin(angle)
    return [
        q[0],
        (c * y - s * z + centre[0]).astype(np.float32),
        (s * y + c * z + centre[1]).astype(np.float32),
    ]


def _calibre(q: list[FloatArray], src: PreparedSource, shape: Shape) -> list[FloatArray]:
    """Thicken or thin muscles about their own centre lines (inverse: divide the offset)."""
    dx = np.zeros_like(q[0]).ravel()
    dy = np.zeros_like(dx)
    total = np.full_like(dx, 0.25)
    x, y, z = (v.ravel() for v in q)
    order = np.argsort(z)
    ranked = z[order]
    for index, line in src.lines.items():
        factor = shape.calibre.get(index, 1.0)
        if abs(factor - 1) < 0.01:
            continue
        first, last = np.searchsorted(ranked, (line.z[0], line.z[-1]))
        at = order[first:last]
        zz = z[at]
        ox = x[at] - np.interp(zz, line.z, line.x).astype(np.float32)
        oy = y[at] - np.interp(zz, line.z, line.y).astype(np.float32)
        r = np.interp(zz, line.z, line.radius).astype(np.float32) + 4
        w = np.exp(-np.square((ox * ox + oy * oy) / (2.2 * r * r)))
        fade = np.minimum(zz - line.z[0], line.z[-1] - zz)
        w = w * np.clip(fade / 25, 0, 1)
        dx[at] += w * np.float32(1 / factor - 1) * ox
        dy[at] += w * np.float32(1 / factor - 1) * oy
        total[at] += w
    norm = np.maximum(total, 1)
    moved = [(d / norm).reshape(q[0].shape).astype(np.float32) for d in (dx, dy)]
    return [q[0] + moved[0], q[1] + moved[1], q[2]]


def lookup(values: NDArray[np.uint8], points: Points, src: PreparedSource) -> NDArray[np.int32]:
    """Flat index of the source voxel nearest to each point, clamped to the (empty) margin."""
    flat: NDArray[np.int32] | None = None
    for k in range(3):
        i = (points[k] - (src.origin_mm[k] - 0.5 * src.step_mm[k])) * (1 / src.step_mm[k])
        np.clip(i, 0, values.shape[k] - 1, out=i)
        ii = i.astype(np.int32)
        flat = ii if flat is None else flat * np.int32(values.shape[k]) + ii
    return np.asarray(flat)


def swap_sides(labels: NDArray[np.uint8], midline: tuple[int, ...]) -> NDArray[np.uint8]:
    """Exchange right (1…) and left (101…) ids."""
    table = np.arange(256)
    for atom in range(1, LEFT):
        if atom not in midline:
            table[atom], table[atom + LEFT] = atom + LEFT, atom
    return table.astype(np.uint8)[labels]

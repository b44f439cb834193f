"""Hip implants and screws, and the streaks that metal throws over a slice.

Which label an implant carries: stem, neck and head count as femur, cup and liner as hip bone,
because that is what they replace and what a reader outlines; bone that was resected and not
replaced becomes background; a screw keeps the label of the tissue it lies in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mskt.synthesis import materials as m
from mskt.synthesis.config import SynthesisConfig
from mskt.synthesis.joints import along_neck
from mskt.synthesis.lattice import Axes, FloatArray, child_rng
from mskt.synthesis.shape import Points
from mskt.synthesis.source import FEMUR, HIP, LEFT, PreparedSource


@dataclass(frozen=True)
class HipImplant:
    """A total hip replacement; lengths in mm."""

    side: int  # 0 right, 1 left, of the source
    cup_radius: float
    cup_wall: float
    head_radius: float
    stem_length: float
    stem_radius: float
    cemented: bool
    metal_head: bool


@dataclass(frozen=True)
class Screw:
    """A cylinder between two points in the source's space, mm."""

    start: FloatArray
    end: FloatArray
    radius: float


@dataclass(frozen=True)
class Hardware:
    """All metal of one person."""

    hips: tuple[HipImplant, ...]
    screws: tuple[Screw, ...]
    streak_hu: float


def draw_hardware(seed: int, src: PreparedSource, config: SynthesisConfig) -> Hardware:
    """Draw implants for none, one or both hips, or screws in a femoral neck."""
    rng = child_rng(seed, "metal")
    hips: list[HipImplant] = []
    screws: list[Screw] = []
    first = int(rng.integers(2))
    if rng.random() < config.p_implant:
        hips.append(_draw_hip(rng, first))
        if rng.random() < config.p_implant_second:
            hips.append(_draw_hip(rng, 1 - first))
    taken = {h.side for h in hips}
    if rng.random() < config.p_screws and first not in taken:
        screws = _draw_screws(rng, src, first)
    return Hardware(tuple(hips), tuple(screws), float(rng.uniform(30, 260)))


def _draw_hip(rng: np.random.Generator, side: int) -> HipImplant:
    cup = rng.uniform(22, 29)
    return HipImplant(
        side=side,
        cup_radius=float(cup),
        cup_wall=float(rng.uniform(2.5, 5.0)),
        head_radius=float(min(rng.uniform(11, 18), cup - 6)),
        stem_length=float(rng.uniform(90, 165)),
        stem_radius=float(rng.uniform(5.5, 8.5)),
        cemented=bool(rng.random() < 0.35),
        metal_head=bool(rng.random() < 0.7),
    )


def _draw_screws(rng: np.random.Generator, src: PreparedSource, side: int) -> list[Screw]:
    hip = src.skeleton.hip[side]
    base = _shaft(src, side, np.array([-30.0], np.float32))
    out = np.sign(hip[0])
    entry = np.array([base[0][0] + out * 26, base[1][0], -42.0])
    count = int(rng.integers(1, 4))
    size = rng.uniform(2.8, 6.0) if count == 1 else rng.uniform(2.5, 3.6)
    return [
        Screw(
            (entry + rng.uniform(-6, 6, 3)).astype(np.float32),
            (hip + rng.uniform(-7, 7, 3)).astype(np.float32),
            float(size),
        )
        for _ in range(count)
    ]


def _shaft(src: PreparedSource, side: int, z: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Centre of the femoral canal at height z, extended in a straight line above the shaft."""
    line = src.lines[FEMUR + LEFT * side]
    ok = (line.z > -170) & (line.z < -70)
    fit_x, fit_y = np.polyfit(line.z[ok], line.x[ok], 1), np.polyfit(line.z[ok], line.y[ok], 1)
    high = z > -90
    x = np.where(high, np.polyval(fit_x, z), np.interp(z, line.z, line.x))
    y = np.where(high, np.polyval(fit_y, z), np.interp(z, line.z, line.y))
    return x.astype(np.float32), y.astype(np.float32)


def place_hardware(
    hardware: Hardware,
    labels: NDArray[np.uint8],
    material: NDArray[np.uint8],
    points: Points,
    src: PreparedSource,
) -> NDArray[np.bool_]:
    """Put metal into labels and materials (in place); returns where metal is, (x, y, z)."""
    metal = np.zeros(labels.shape, bool)
    x, y, z = (v.ravel() for v in points)
    for hip in hardware.hips:
        _place_hip(hip, labels.ravel(), material.ravel(), (x, y, z), src)
    for screw in hardware.screws:
        axis = screw.end - screw.start
        length = float(np.linalg.norm(axis))
        near = _near((x, y, z), screw.start, length + 10)
        at = _distance_to_segment((x, y, z), near, screw.start, screw.end) < screw.radius
        material.ravel()[near[at]] = m.METAL
    if hardware.hips or hardware.screws:
        metal = material == m.METAL
    return metal


def _near(p: Points, centre: FloatArray, reach: float) -> NDArray[np.intp]:
    close = np.abs(p[2] - centre[2]) < reach
    close &= np.abs(p[0] - centre[0]) < reach
    close &= np.abs(p[1] - centre[1]) < reach
    return np.flatnonzero(close)


def _distance_to_segment(
    p: Points, at: NDArray[np.intp], a: FloatArray, b: FloatArray
) -> FloatArray:
    d = [v[at] - o for v, o in zip(p, a, strict=True)]
    axis = b - a
    t = np.clip((d[0] * axis[0] + d[1] * axis[1] + d[2] * axis[2]) / float(axis @ axis), 0, 1)
    r = [v - t * n for v, n in zip(d, axis, strict=True)]
    return np.asarray(np.sqrt(r[0] ** 2 + r[1] ** 2 + r[2] ** 2), np.float32)


def _place_hip(
    h: HipImplant,
    labels: NDArray[np.uint8],
    material: NDArray[np.uint8],
    p: Points,
    src: PreparedSource,
) -> None:
    centre = src.skeleton.hip[h.side]
    femur, pelvis = FEMUR + LEFT * h.side, HIP + LEFT * h.side
    at = _near(p, centre, h.stem_length + 40)
    if len(at) == 0:
        return
    x, y, z = (v[at] for v in p)
    radial = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2)
    opening = along_neck(p, at, centre)
    lab, mat = labels[at], material[at]
    # resected head and neck: bone between the cup and the cut at the neck's base
    cut = (lab == femur) & (opening < 38) & (z > -28) & (radial < 52)
    lab[cut], mat[cut] = 0, m.CAPSULE
    socket = (radial < h.cup_radius) & (opening < 3)
    lab[socket], mat[socket] = pelvis, m.LINER
    shell = socket & (radial > h.cup_radius - h.cup_wall)
    mat[shell] = m.METAL
    top = np.array([-24.0], np.float32)
    sx, sy = _shaft(src, h.side, top)
    neck_end = np.array([sx[0], sy[0], top[0]], np.float32)
    neck = _distance_to_segment(p, at, centre, neck_end) < 6.0
    depth = np.clip((centre[2] - 10 - z) / h.stem_length, 0, 1)
    cx, cy = _shaft(src, h.side, z)
    width = h.stem_radius * (1.25 - 0.65 * depth)
    off = np.hypot(x - cx, y - cy)
    inside = (z < -12) & (z > centre[2] - h.stem_length) & ((lab == femur) | (off < width))
    if h.cemented:
        mat[inside & (off < width + 3) & (lab == femur)] = m.CEMENT
    stem = inside & (off < width)
    lab[neck | stem], mat[neck | stem] = femur, m.METAL
    head = radial < h.head_radius
    lab[head], mat[head] = femur, m.METAL if h.metal_head else m.CERAMIC
    labels[at], material[at] = lab, mat


def add_streaks(
    hu: FloatArray, metal: NDArray[np.bool_], axes: Axes, strength: float, seed: int
) -> FloatArray:
    """Rays of bright and dark around each piece of metal, dark bands between two pieces."""
    levels = np.flatnonzero(metal.any((0, 1)))
    if len(levels) == 0:
        return hu
    first, last = int(levels[0]), int(levels[-1]) + 1
    rng = child_rng(seed, "streaks")
    slab = np.zeros(hu[:, :, first:last].shape, np.float32)
    right = metal.copy()
    middle = int(np.abs(axes[0]).argmin())
    right[:middle] = False
    pieces = [p for p in (right, metal & ~right) if p.any()]
    centres = []
    for piece in pieces:
        part = piece[:, :, first:last]
        area = part.sum((0, 1)).astype(np.float32)
        cx = np.where(
            area > 0, (part.sum(1) * axes[0][:, None]).sum(0) / np.maximum(area, 1), np.nan
        )
        cy = np.where(
            area > 0, (part.sum(0) * axes[1][:, None]).sum(0) / np.maximum(area, 1), np.nan
        )
        centres.append((cx, cy))
        slab += _rays(part, area, (cx, cy), axes, strength, rng)
    if len(centres) == 2:
        slab += _band(centres, axes, strength)
    hu = hu.copy()
    hu[:, :, first:last] += slab * (hu[:, :, first:last] > -950)
    return hu


def _rays(
    part: NDArray[np.bool_],
    area: FloatArray,
    centre: tuple[NDArray[np.floating], NDArray[np.floating]],
    axes: Axes,
    strength: float,
    rng: np.random.Generator,
) -> FloatArray:
    count = 240
    spokes = rng.standard_normal((count, part.shape[2]))
    fine = ndimage.gaussian_filter(spokes, (1.5, 0.8), mode="wrap")
    broad = ndimage.gaussian_filter(spokes, (7.0, 1.2), mode="wrap")
    turn = np.arange(count)[:, None] / count * 2 * np.pi
    # photons starve along the patient's width: dark and strongest towards the sides
    sideways = 0.45 + 0.55 * np.abs(np.cos(turn))
    spokes = (fine / fine.std() + 1.2 * broad / broad.std()) * sideways - 0.5 * sideways
    out = np.zeros(part.shape, np.float32)
    pixel = float((axes[0][1] - axes[0][0]) * (axes[1][1] - axes[1][0]))
    for k in np.flatnonzero(area > 0):
        dx = axes[0][:, None] - centre[0][k]
        dy = axes[1][None] - centre[1][k]
        r = np.hypot(dx, dy)
        angle = ((np.arctan2(dy, dx) / (2 * np.pi) + 1) * count).astype(int) % count
        size = np.sqrt(area[k] * pixel / np.pi)
        fall = np.exp(-np.clip(r - size, 0, None) / 55) * np.clip(size / 14, 0.15, 1.2)
        out[:, :, k] = strength * fall * spokes[angle, k]
    return out


def _band(
    centres: list[tuple[NDArray[np.floating], NDArray[np.floating]]], axes: Axes, strength: float
) -> FloatArray:
    (ax, ay), (bx, by) = centres
    out = np.zeros((len(axes[0]), len(axes[1]), len(ax)), np.float32)
    for k in np.flatnonzero(~np.isnan(ax + bx)):
        a, b = np.array([ax[k], ay[k]]), np.array([bx[k], by[k]])
        axis = b - a
        length = float(np.hypot(*axis))
        dx, dy = axes[0][:, None] - a[0], axes[1][None] - a[1]
        along = (dx * axis[0] + dy * axis[1]) / length**2
        off = (dx * axis[1] - dy * axis[0]) / length
        out[:, :, k] = -0.8 * strength * np.exp(-((off / 13) ** 2)) * ((along > 0) & (along < 1))
    return out

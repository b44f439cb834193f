"""Vessels from aorta to popliteal artery, sciatic nerve, inguinal nodes."""

from __future__ import annotations

import numpy as np

from mskt.synthesis import materials as m
from mskt.synthesis.canvas import Canvas, ellipsoid
from mskt.synthesis.config import SynthesisConfig
from mskt.synthesis.labelmap import ATOM_IDS
from mskt.synthesis.lattice import FloatArray
from mskt.synthesis.source import FEMUR, LEFT, PreparedSource

PSOAS = tuple(ATOM_IDS[f"psoas_major_{part}"] for part in ("proximal", "distal"))


def vessels(
    c: Canvas, src: PreparedSource, rng: np.random.Generator, config: SynthesisConfig
) -> None:
    """Aorta to popliteal artery with their veins, sciatic nerve, inguinal nodes."""
    sk = src.skeleton
    calibre = rng.uniform(*config.vessel_calibre)
    for k, side in ((0, 1.0), (1, -1.0)):
        line = vessel_path(src, k)
        line[:, 1:] += config.vessel_sway_mm * rng.standard_normal((len(line), 2))
        near = (c.x * side > -8) & (c.z > sk.map_bottom_z - 60) & (c.z < sk.crest_z + 260)
        near &= c.x * side < float(np.abs(line[:, 1]).max()) + 35
        at = np.flatnonzero(near)
        part = c.part(at)
        _artery_and_vein(part, line, side, calibre, rng.normal(0.0, 0.5), float(sk.hip[k][2]))
        _nerve_and_nodes(part, src, k, side, rng)
        c.tissue[at] = part.tissue


def _artery_and_vein(
    c: Canvas, line: FloatArray, side: float, calibre: float, turn: float, hip_z: float
) -> None:
    """The artery along ``line`` (z, x, y), the vein beside it, turned by ``turn`` radians."""
    low = np.clip((hip_z - c.z) / 200, 0, 1)
    x0, y0 = c.along_z(line[:, 0], line[:, 1]), c.along_z(line[:, 0], line[:, 2])
    wide = calibre * c.along_z((-300, 50, 250), (0.75, 1.1, 1.5))
    for offset, radius, code in ((0.0, 4.6, m.ARTERY), (10.0, 5.8, m.VEIN)):
        dx, dy = side * offset * (1 - 0.7 * low), 0.6 * offset * (0.4 + low)
        ex = c.x - x0 + dx * np.cos(turn) - dy * np.sin(turn)
        ey = c.y - y0 + dy * np.cos(turn) + dx * np.sin(turn)
        c.paint(ex**2 + ey**2 < (radius * wide) ** 2, code)


def _nerve_and_nodes(
    c: Canvas, src: PreparedSource, k: int, side: float, rng: np.random.Generator
) -> None:
    """Sciatic nerve of side ``k``, and a few inguinal nodes."""
    sk = src.skeleton
    femur = src.lines[FEMUR + LEFT * k]
    x0 = c.along_z(femur.z, femur.x) - side * c.along_z((-350, -60, 20), (0, 12, 30))
    y0 = c.along_z(femur.z, femur.y) - c.along_z((-350, -60, 20), (32, 40, 48))
    nerve = ((c.x - x0) / 7) ** 2 + ((c.y - y0) / 4) ** 2 < 1
    c.paint(nerve & (c.z < 20) & (c.z > sk.knee[k][2]), m.NERVE)
    for _ in range(int(rng.integers(0, 6))):
        spot = (
            float(sk.hip[k][0] - side * rng.uniform(-10, 35)),
            float(sk.hip[k][1] + rng.uniform(44, 66)),
            float(rng.uniform(-60, 15)),
        )
        s = rng.uniform(3, 7)
        c.paint(ellipsoid(c, spot, (s, s, 1.8 * s)) < 1, m.GENITAL)


def vessel_path(src: PreparedSource, k: int) -> FloatArray:
    """Knots (z, x, y) of the femoral artery of side ``k``, ascending in z, canonical mm."""
    sk = src.skeleton
    side = 1.0 if k == 0 else -1.0
    hip, knee = sk.hip[k], sk.knee[k]
    femur, sart = src.lines[FEMUR + LEFT * k], src.lines.get(20 + LEFT * k)
    knots = [
        (knee[2] - 60, knee[0], knee[1] - 28),
        (knee[2] + 10, knee[0], knee[1] - 34),
        (knee[2] + 80, knee[0] - side * 8, knee[1] - 28),
    ]
    if sart is not None:
        for f in (0.62, 0.45, 0.28):
            z = hip[2] + f * (knee[2] - hip[2])
            sx, sy = np.interp(z, sart.z, sart.x), np.interp(z, sart.z, sart.y)
            fx, fy = np.interp(z, femur.z, femur.x), np.interp(z, femur.z, femur.y)
            knots.append((z, 0.68 * sx + 0.32 * fx, 0.68 * sy + 0.32 * fy))
    knots.append((-30.0, hip[0] - side * 15, hip[1] + 44))
    knots += _beside_psoas(src, k, sk.sacrum_top[1] - 8)
    knots.append((sk.sacrum_top[1] + 38, side * 10, sk.sacrum_top[0] + 34))
    knots += [
        (float(z), side * 9, float(y) + 30)
        for z, y in zip(sk.spine_z[6::6], sk.spine_y[6::6], strict=True)
    ]
    table = np.array(knots, np.float32)
    return table[np.argsort(table[:, 0])]


def _beside_psoas(src: PreparedSource, k: int, top: float) -> list[tuple[float, float, float]]:
    """Knots (z, x, y) of the external and common iliac artery: along the medial edge of psoas."""
    sk, side = src.skeleton, 1.0 if k == 0 else -1.0
    own = [src.lines[i + LEFT * k] for i in PSOAS if i + LEFT * k in src.lines]
    if not own:
        hip = sk.hip[k]
        return [(8.0, hip[0] - side * 26, hip[1] + 40), (top, side * 26, sk.sacrum_top[0] + 34)]
    z = np.concatenate([line.z for line in own])
    order = np.argsort(z)
    x, y, radius = (
        np.concatenate([getattr(line, name) for line in own])[order]
        for name in ("x", "y", "radius")
    )
    knots = []
    for level in np.linspace(8.0, top, 7):
        px, py, r = (float(np.interp(level, z[order], v)) for v in (x, y, radius))
        inward = max(abs(px) - 0.8 * r - 6.5, 16.0)
        knots.append((float(level), side * inward, py + 4.0))
    return knots

"""Trunk envelope and skin: how far a point is from muscle, and where the body ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mskt.synthesis.config import SynthesisConfig
from mskt.synthesis.lattice import CoarseLattice, FloatArray, NoiseField, child_rng, smoothstep
from mskt.synthesis.shape import Points, Shape, back_surface, sample_hull
from mskt.synthesis.source import PreparedSource, Skeleton, TrunkLabels


@dataclass(frozen=True)
class Trunk:
    """Muscular envelope of the trunk: a superellipse per height z (canonical mm)."""

    z: FloatArray
    half_width: FloatArray
    front: FloatArray
    back: FloatArray
    centre: FloatArray

    def distance(self, p: Points) -> FloatArray:
        """Approximate signed distance (mm) to the envelope; negative inside."""
        x, y, z = p
        a = np.interp(z, self.z, self.half_width).astype(np.float32)
        yc = np.interp(z, self.z, self.centre).astype(np.float32)
        bf = np.interp(z, self.z, self.front).astype(np.float32) - yc
        bb = yc - np.interp(z, self.z, self.back).astype(np.float32)
        dy = y - yc
        b = np.where(dy > 0, bf, bb)
        power = np.float32(2.5)
        rho = ((np.abs(x) / a) ** power + (np.abs(dy) / b) ** power) ** (1 / power)
        below = np.clip(self.z[0] - z, 0, None)
        return np.asarray((rho - 1) * np.sqrt(a * b) + 1.5 * below, np.float32)


@dataclass(frozen=True)
class Genitals:
    """External genitals as ellipsoids: rows of centre (3) and semi-axes (3), canonical mm."""

    parts: FloatArray

    def distance(self, p: Points) -> FloatArray:
        """Approximate signed distance (mm); negative inside."""
        out = np.full(p[0].shape, np.float32(500))
        for part in self.parts:
            d = [(v - c) / s for v, c, s in zip(p, part[:3], part[3:], strict=True)]
            rho = np.sqrt(d[0] ** 2 + d[1] ** 2 + d[2] ** 2)
            out = np.minimum(out, (rho - 1) * part[3:].min())
        return out


def _draw_genitals(
    rng: np.random.Generator, sk: Skeleton, config: SynthesisConfig
) -> Genitals | None:
    if rng.random() >= config.p_genitals:
        return None
    size = rng.uniform(0.75, 1.2)
    low = sk.ischium_z - rng.uniform(5, 35)
    front = sk.pubis_y + rng.uniform(-15, 12)
    lean = rng.uniform(-14, 14)
    rows = [(s * 15 + lean, front, low, 14, 17, 21) for s in (-1, 1)]
    rows.append((lean * 1.5, front + 26, sk.pubis_z - rng.uniform(25, 55), 14, 15, 34))
    return Genitals(np.array(rows, np.float32) * np.array([1, 1, 1, size, size, size], np.float32))


@dataclass(frozen=True)
class Body:
    """The drawn habitus.

    Attributes:
        fat_mm: typical subcutaneous fat over the hip.
        table_y: world height (mm) of the plane that the body lies on.
    """

    trunk: Trunk
    fat_mm: float
    visceral: float
    table_y: float
    regions: FloatArray  # (4,) belly, buttock, hip, thigh factors
    lumps: NoiseField
    genitals: Genitals | None


def draw_body(seed: int, src: PreparedSource, shape: Shape, config: SynthesisConfig) -> Body:
    """Draw fat, belly and the plane of the table."""
    rng = child_rng(seed, "body")
    low, high = config.fat_mm
    # most patients are near the thin end; the tail is long
    fat = low + (high - low) * float(rng.beta(1.3, 2.2))
    visceral = float(np.clip(rng.uniform(*config.visceral) + 0.004 * (fat - 20), 0, 1.1))
    regions = np.exp(0.22 * rng.standard_normal(4)).astype(np.float32)
    rear = back_surface(src)
    z = src.hull_origin_mm[2] + 5.0 * np.arange(rear.shape[1])
    plane = float(np.nanpercentile(rear[:, (z > -30) & (z < src.skeleton.crest_z)], 2))
    squeeze = float(rng.uniform(*config.compression))
    table_y = float(shape.scale[1]) * (plane - 2 - (1 - squeeze) * fat * float(regions[1]))
    return Body(
        trunk=_draw_trunk(rng, src.skeleton, src.trunk, visceral),
        fat_mm=fat,
        visceral=visceral,
        table_y=table_y,
        regions=regions,
        lumps=NoiseField.draw(rng, 90.0),
        genitals=_draw_genitals(child_rng(seed, "genitals"), src.skeleton, config),
    )


def _draw_trunk(
    rng: np.random.Generator, sk: Skeleton, given: TrunkLabels, visceral: float
) -> Trunk:
    depth = 62 + 75 * visceral + 6 * rng.standard_normal()
    waist = rng.uniform(0.86, 1.0) + 0.08 * visceral
    z = np.array(
        [sk.pubis_z - 12, 0.5 * (sk.pubis_z + sk.asis[2]), sk.asis[2], sk.crest_z]
        + [sk.crest_z + d for d in (50, 120, 230, 420)]
    )
    spine = np.interp(z, sk.spine_z, sk.spine_y)
    if len(given.z):  # the source has an abdominal wall: continue it
        top = given.front[-3:].mean()
        depth = float(top - np.interp(given.z[-1], sk.spine_z, sk.spine_y)) + 2
    asis_front = max(sk.asis[1] + 6, sk.sacrum_top[0] + 0.85 * depth)
    front = np.array([sk.pubis_y, 0.5 * (sk.pubis_y + asis_front) + 4, asis_front, 0, 0, 0, 0, 0])
    front[3:] = spine[3:] + depth * np.array([1, 1.02, 1.02, 1.05, 1.08])
    width = np.array([34, 0.6 * sk.asis[0] + 14, sk.asis[0] + 6, sk.crest_x + 3, 0, 0, 0, 0])
    width[4:] = sk.crest_x * np.array([waist, 0.5 + 0.5 * waist, 1.03, 1.06])
    back = np.array([sk.back_y + 45, sk.back_y + 22, sk.back_y + 5, sk.back_y + 4, 0, 0, 0, 0])
    back[4:] = spine[4:] - np.array([60, 62, 66, 72])
    centre = np.array([sk.pubis_y - 12, front[1] - 25, spine[2] + 12, 0, 0, 0, 0, 0])
    centre[3:] = spine[3:] + 8
    if len(given.z):
        shown = z <= given.z[-1]
        shown[0] = False
        front[shown] = np.interp(z[shown], given.z, given.front) + 2
        wide = np.interp(z[shown], given.z, given.half_width) + 2
        width[shown] = np.maximum(width[shown], wide)
    return Trunk(*(v.astype(np.float32) for v in (z, width, front, back, centre)))


def skin_distance(
    lattice: CoarseLattice,
    p: Points,
    web_mm: FloatArray,
    src: PreparedSource,
    body: Body,
    shape: Shape,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """At lattice nodes: signed distance (mm) to skin, to the trunk envelope, to the pelvic ring."""
    hull = sample_hull(src.hull_mm, p, src) + 3 * web_mm
    trunk = body.trunk.distance(p)
    ring = sample_hull(src.ring_mm, p, src)
    flesh = _smooth_min(hull, trunk, 14.0)
    flip = np.float32(-1 if shape.mirror else 1)
    ax = lattice.axes
    lumps = body.lumps.at((ax[0] * flip, ax[1], ax[2]))
    fat = body.fat_mm * _region_factor(p, src.skeleton, body.regions) * (1 + 0.22 * lumps)
    skin = flesh - np.maximum(fat, 2.5)
    if body.genitals is not None:
        skin = np.minimum(skin, body.genitals.distance(p) - 5)
    below = np.float32(body.table_y) - np.broadcast_to(ax[1][None, :, None], skin.shape)
    return -_smooth_min(-skin, -below, 16.0), trunk, ring


def _smooth_min(a: FloatArray, b: FloatArray, k: float) -> FloatArray:
    h = np.clip(k - np.abs(a - b), 0, None)
    return np.asarray(np.minimum(a, b) - h * h / np.float32(4 * k), np.float32)


def _region_factor(p: Points, sk: Skeleton, regions: FloatArray) -> FloatArray:
    """Subcutaneous fat relative to the hip: belly, buttock, hip, thigh, knee, calf."""
    x, y, z = p
    belly, buttock, hip, thigh = (float(v) for v in regions)
    knee = float(sk.knee[:, 2].mean())
    knots = (1.35 * knee, 1.02 * knee, 0.75 * knee, -90.0, 0.0, sk.crest_z, sk.crest_z + 250)
    level = np.interp(
        z, knots, (0.16, 0.25, 0.45 * thigh, 0.75 * thigh, 0.9 * hip, 0.95 * hip, 0.6)
    ).astype(np.float32)
    up = smoothstep(z, -60, 60)
    rear = smoothstep(-y, 10, 60)
    front = smoothstep(y, 20, 80)
    side = smoothstep(np.abs(x), 90, 150)
    trunk = 1 + up * (
        rear * (0.35 * buttock - 0.2) + front * (0.35 * belly - 0.15) - 0.2 * side * front
    )
    leg = 1 - (1 - up) * (0.25 * smoothstep(y, 0, 60) - 0.2 * smoothstep(-z, 60, 160) * rear)
    return np.asarray(level * trunk * leg, np.float32)

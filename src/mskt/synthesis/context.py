"""Unlabelled neighbours inside the body: abdominal wall, spine, organs, vessels, lower leg.

Everything is written in source coordinates, so it moves with pose and deformation, and only on
voxels that the source leaves unlabelled. Later strokes cover earlier ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mskt.synthesis import materials as m
from mskt.synthesis.body import Body
from mskt.synthesis.config import SynthesisConfig
from mskt.synthesis.labelmap import ATOM_IDS
from mskt.synthesis.lattice import Axes, FloatArray, NoiseField, child_rng
from mskt.synthesis.source import FEMUR, LEFT, SACRUM, PreparedSource, Skeleton, calf_radius

Mask = NDArray[np.bool_]
Knots = Sequence[float] | NDArray[np.floating]

PSOAS = tuple(ATOM_IDS[f"psoas_major_{part}"] for part in ("proximal", "distal"))


@dataclass(frozen=True)
class Canvas:
    """Unlabelled voxels inside the skin, as flat lists.

    Attributes:
        voxel: flat index into the output grid.
        x, y, z: source coordinates (mm).
        trunk, ring: signed distances (mm) to trunk envelope and pelvic ring.
        gap_mm: distance to the nearest labelled voxel.
        tissue: material per voxel; painted in place.
        shape: output grid.
    """

    voxel: NDArray[np.intp]
    x: FloatArray
    y: FloatArray
    z: FloatArray
    trunk: FloatArray
    ring: FloatArray
    gap_mm: FloatArray
    tissue: NDArray[np.uint8]
    axes: Axes
    right: float  # +1, or -1 when the person is mirrored: the liver stays on the right

    @cached_property
    def _half_mm(self) -> tuple[FloatArray, NDArray[np.intp]]:
        """Heights every half millimetre, and which of them is nearest to each voxel."""
        low = float(self.z.min()) if len(self.z) else 0.0
        level = np.rint((self.z - np.float32(low)) * 2).astype(np.intp)
        count = int(level.max()) + 1 if len(level) else 1
        return (low + 0.5 * np.arange(count)).astype(np.float32), level

    def along_z(self, knots: Knots, values: Knots) -> FloatArray:
        """Piecewise-linear function of height at each voxel; much faster than np.interp on all."""
        heights, level = self._half_mm
        return np.asarray(np.interp(heights, knots, values).astype(np.float32)[level])

    def noise(
        self, rng: np.random.Generator, step_mm: float | tuple[float, float, float]
    ) -> FloatArray:
        """Evaluate a smooth field (unit variance) at the canvas's voxels."""
        return NoiseField.draw(rng, step_mm).at(self.axes).ravel()[self.voxel]

    def wobbled(self, rng: np.random.Generator, mm: float) -> Canvas:
        """Return the canvas with uneven coordinates: nothing alive is a perfect ellipse."""
        x, y, z = (v + np.float32(mm) * self.noise(rng, 24.0) for v in (self.x, self.y, self.z))
        return replace(self, x=x, y=y, z=z)

    def part(self, at: NDArray[np.intp]) -> Canvas:
        """Some of the voxels; what is painted on the part has to be written back."""
        names = ("voxel", "x", "y", "z", "trunk", "ring", "gap_mm", "tissue")
        return replace(self, **{name: getattr(self, name)[at] for name in names})

    def paint(self, where: Mask, code: int) -> None:
        """Set the material of the chosen voxels."""
        self.tissue[where] = code


def paint_context(
    canvas: Canvas, src: PreparedSource, body: Body, seed: int, config: SynthesisConfig
) -> None:
    """Fill the canvas from back to front."""
    if len(canvas.voxel) == 0:
        return
    sk = src.skeleton
    if float(canvas.z.max()) > sk.ischium_z - 40:
        wall = _wall(canvas, src, body, child_rng(seed, "wall"))
        gap = float(child_rng(seed, "gap").uniform(*config.bowel_gap_mm))
        cavity = _cavity(canvas, sk, wall, gap)
        loose = canvas.wobbled(child_rng(seed, "wobble"), 3.5)
        _bowel(loose, cavity, sk, body, child_rng(seed, "bowel"), config)
        _pelvic_organs(loose, cavity, src, child_rng(seed, "pelvis"))
        if float(canvas.z.max()) > sk.crest_z:
            _upper_organs(loose, cavity, sk, body, child_rng(seed, "organs"))
        _perineum(canvas, loose, src, child_rng(seed, "perineum"))
        if body.genitals is not None:
            points = (canvas.x, canvas.y, canvas.z)
            canvas.paint(body.genitals.distance(points) < 0, m.GENITAL)
        _spine(canvas, src, child_rng(seed, "spine"))
        _ribs(canvas, sk, body, child_rng(seed, "ribs"))
    _joints(canvas, src, child_rng(seed, "joints"))
    _ligaments(canvas, src, child_rng(seed, "ligaments"))
    _vessels(canvas, src, child_rng(seed, "vessels"), config)
    _lower_leg(canvas, src, child_rng(seed, "lowerleg"))


def _ellipsoid(
    c: Canvas, centre: tuple[float, float, float], semi: tuple[float, float, float]
) -> FloatArray:
    return np.asarray(
        ((c.x - centre[0]) / semi[0]) ** 2
        + ((c.y - centre[1]) / semi[1]) ** 2
        + ((c.z - centre[2]) / semi[2]) ** 2,
        np.float32,
    )


def _wall(c: Canvas, src: PreparedSource, body: Body, rng: np.random.Generator) -> FloatArray:
    """Abdominal wall and paraspinals; returns the wall's thickness (mm) at each voxel."""
    sk = src.skeleton
    a = c.along_z(body.trunk.z, body.trunk.half_width).astype(np.float32)
    yc = c.along_z(body.trunk.z, body.trunk.centre).astype(np.float32)
    lateral = np.abs(c.x) / a
    side_mm, front_mm = rng.uniform(13, 27), rng.uniform(6, 13)
    thick = np.interp(lateral, (0.0, 0.42, 0.55, 0.8), (front_mm, front_mm, 5.0, side_mm))
    thick = np.where(c.z < sk.crest_z, thick * c.along_z((sk.pubis_z, sk.crest_z), (0.5, 1)), thick)
    thick = (thick * (1 + 0.12 * c.noise(rng, 40.0))).astype(np.float32)
    behind = c.y < yc - 14
    shell = (c.trunk < 0) & (c.trunk > -thick)
    front = shell & ~behind
    alba = (np.abs(c.x) < rng.uniform(2, 9)) | (np.abs(lateral - 0.5) < 0.025)
    bare = c.z > (src.trunk.z[-1] if len(src.trunk.z) else sk.pubis_z - 5)
    front &= bare  # below that the source has its own wall
    c.paint(front & ~alba, m.WALL)
    # three layers with fat planes between them, lateral only
    layers = np.abs(np.mod(-c.trunk / np.maximum(thick, 1) * 3, 1.0) - 0.5) > 0.43
    c.paint(front & layers & (lateral > 0.62) & (-c.trunk > 3), m.FAT)
    c.paint(
        shell & bare & behind & (c.trunk > -7) & (np.abs(c.x) > 55) & (c.z > sk.crest_z - 10),
        m.WALL,
    )
    _paraspinals(c, sk, src.trunk.multifidus_top, rng)
    return np.asarray(thick, np.float32)


def _paraspinals(c: Canvas, sk: Skeleton, labelled_to: float, rng: np.random.Generator) -> None:
    """Erector spinae, multifidus (above ``labelled_to``) and quadratus lumborum."""
    spine = c.along_z(sk.spine_z, sk.spine_y).astype(np.float32)
    size = rng.uniform(0.85, 1.15)
    ax = np.abs(c.x)
    above = c.z > sk.sacrum_top[1] - 25
    e = ((ax - 37 * size) / (34 * size)) ** 2 + ((c.y - spine + 40) / (23 * size)) ** 2
    c.paint(above & (e < 1) & (c.trunk < 2), m.PARASPINAL)
    e = ((ax - 13) / 14) ** 2 + ((c.y - spine + 38) / 20) ** 2
    c.paint(above & (e < 1) & (c.z > labelled_to), m.PARASPINAL)
    cleft = (np.abs(ax - 24 * size) < 1.6) & (c.y < spine - 45)
    c.paint(above & cleft, m.FAT)
    sacral = (c.z <= sk.sacrum_top[1] - 25) & (c.ring < -3) & (c.y < sk.back_y + 45) & (ax < 55)
    c.paint(sacral & (c.gap_mm < 22) & (c.z > 35), m.PARASPINAL)
    ql = ((ax - 70) / 22) ** 2 + ((c.y - spine + 20) / 13) ** 2
    c.paint((c.z > sk.crest_z - 12) & (c.z < sk.crest_z + 110) & (ql < 1), m.PARASPINAL)


def _cavity(c: Canvas, sk: Skeleton, wall: FloatArray, gap_mm: float) -> Mask:
    """Voxels inside the peritoneum and true pelvis, in front of the spine."""
    spine = c.along_z(sk.spine_z, sk.spine_y).astype(np.float32)
    inside = (c.trunk < -wall - 2) | ((c.ring < -4) & (c.z < sk.asis[2]))
    rear = np.where(c.z > sk.sacrum_top[1], spine - 4 - 0.0018 * c.x**2 * 0, sk.back_y + 30)
    beside = (np.abs(c.x) > 62) & (c.y > spine - 26)
    ahead = np.where(c.z > sk.sacrum_top[1], (c.y > rear + 20) | beside, c.y > rear)
    floor = c.z > sk.pubis_z - 25
    return np.asarray(inside & ahead & floor & (c.gap_mm > gap_mm))


def _bowel(
    c: Canvas,
    cavity: Mask,
    sk: Skeleton,
    body: Body,
    rng: np.random.Generator,
    config: SynthesisConfig,
) -> None:
    """Small bowel as level sets of a smooth field; colon as tubes with gas, stool or fluid."""
    loops = c.noise(rng, rng.uniform(9, 15))
    content = c.noise(rng, 34.0)
    threshold = rng.uniform(-0.9, 0.1) + 0.45 * body.visceral
    low = sk.pubis_z + rng.uniform(25, 70)
    there = cavity & (c.z > low) & (c.z < sk.crest_z + 130)
    c.paint(there & (loops > threshold), m.BOWEL)
    lumen = there & (loops > threshold + rng.uniform(0.5, 0.9))
    contrast = rng.random() < config.p_bowel_contrast
    c.paint(lumen & (content > 0.2), m.FLUID if not contrast else m.ORAL)
    height = (c.y - c.along_z(sk.spine_z, sk.spine_y)).astype(np.float32)
    gassy = content + 0.012 * (height - 40) > rng.uniform(0.6, 1.8)
    c.paint(lumen & gassy, m.GAS)
    for side in (1.0, -1.0):
        _colon(c, cavity, sk, body, side, rng)


def _colon(
    c: Canvas, cavity: Mask, sk: Skeleton, body: Body, side: float, rng: np.random.Generator
) -> None:
    radius = rng.uniform(13, 30)
    haustra = 1 + 0.16 * np.sin(c.z / rng.uniform(7, 12) + rng.uniform(0, 6))
    a = c.along_z(body.trunk.z, body.trunk.half_width)
    x0 = side * (a - 24 - radius * 1.1 - rng.uniform(0, 10))
    y0 = c.along_z(sk.spine_z, sk.spine_y) + rng.uniform(5, 45)
    d = np.sqrt((c.x - x0) ** 2 + (c.y - y0) ** 2).astype(np.float32)
    span = (c.z > sk.asis[2] - rng.uniform(0, 40)) & (c.z < sk.crest_z + 120) & cavity
    c.paint(span & (d < radius * haustra + 6), m.FAT)
    c.paint(span & (d < radius * haustra), m.BOWEL)
    lumen = span & (d < radius * haustra - rng.uniform(2.5, 4.5))
    fill = c.noise(rng, 30.0)
    c.paint(lumen, m.STOOL)
    level = y0 + rng.uniform(-1.4, 1.4) * radius + 6 * fill
    if rng.random() < 0.65:
        c.paint(lumen & (c.y > level), m.GAS)


def _pelvic_organs(c: Canvas, cavity: Mask, src: PreparedSource, rng: np.random.Generator) -> None:
    sk = src.skeleton
    near = c.z < sk.asis[2] + 60
    full = rng.uniform(0.4, 1.5)
    shift = float(6 * rng.standard_normal())
    centre = (shift, sk.pubis_y - 24 - 14 * full, sk.pubis_z + 8 + 18 * full)
    e = _ellipsoid(c, centre, (22 + 20 * full, 16 + 16 * full, 12 + 20 * full))
    female = rng.random() < 0.5
    if female:
        lean = rng.uniform(-22, 22)
        womb = _ellipsoid(
            c,
            (lean, centre[1] - 42, centre[2] + rng.uniform(10, 35)),
            (rng.uniform(18, 36), rng.uniform(16, 26), rng.uniform(22, 40)),
        )
        c.paint(near & (womb < 1) & cavity, m.SOFT_ORGAN)
        for s in (-1, 1):
            ovary = _ellipsoid(c, (s * 44, centre[1] - 36, centre[2] + 28), (15, 11, 14))
            c.paint(near & (ovary < 1) & cavity, m.SOFT_ORGAN)
    else:
        gland = _ellipsoid(c, (0, sk.pubis_y - 40, sk.pubis_z - 14), (rng.uniform(20, 30), 17, 19))
        c.paint(near & (gland < 1) & (c.gap_mm > 2), m.SOFT_ORGAN)
        vesicle = _ellipsoid(c, (0, centre[1] - 18 * full - 18, sk.pubis_z + 14), (34, 8, 10))
        c.paint(near & (vesicle < 1) & cavity, m.SOFT_ORGAN)
    c.paint(near & (e < 1.35) & (e > 1) & cavity, m.FAT)
    c.paint(near & (e < 1) & (c.gap_mm > 1.5), m.SOFT_ORGAN)
    c.paint(near & (e < 0.88) & (c.gap_mm > 1.5), m.BLADDER)
    _rectum(c, src, rng)


def _rectum(c: Canvas, src: PreparedSource, rng: np.random.Generator) -> None:
    """Rectum in the hollow of the sacrum, then the anal canal through the pelvic floor."""
    sk = src.skeleton
    sacrum = src.lines.get(36)
    hollow = sk.back_y + 48.0
    if sacrum is not None:
        hollow = float(np.interp(sk.pubis_z + 60, sacrum.z, sacrum.y + 0.5 * sacrum.radius))
    r = rng.uniform(11, 24)
    z = np.array(
        [sk.ischium_z + 15, sk.pubis_z - 30, sk.pubis_z + 10, sk.pubis_z + 60, sk.pubis_z + 105]
    )
    y = np.array([hollow + 22, hollow + 16, hollow + 4, hollow + 14, hollow + 36]) + 0.4 * r
    x = np.array([0, 0, 0, rng.uniform(-14, 14), rng.uniform(-34, 6)])
    rr = np.array([13, 14, r, r, 0.8 * r])
    d = np.hypot(c.x - c.along_z(z, x), c.y - c.along_z(z, y)).astype(np.float32)
    radius = c.along_z(z, rr).astype(np.float32)
    span = (c.z > z[0]) & (c.z < z[-1]) & (c.gap_mm > 1.5)
    c.paint(span & (d < radius), m.BOWEL)
    lumen = span & (d < radius - 4) & (c.z > z[1])
    kind = rng.random()
    c.paint(lumen, m.STOOL if kind < 0.5 else m.GAS if kind < 0.8 else m.BOWEL)


def _perineum(c: Canvas, loose: Canvas, src: PreparedSource, rng: np.random.Generator) -> None:
    """Levator funnel, crura and bulb below the symphysis."""
    sk = src.skeleton
    top, low = sk.pubis_z + 12.0, sk.ischium_z + 12.0
    span = (c.z > low) & (c.z < top)
    t = np.clip((c.z - low) / (top - low), 0, 1)
    a = 15 + 36 * t**0.8
    rear = sk.back_y + 42 + 12 * (1 - t)
    front = sk.pubis_y - 16
    yc, b = 0.5 * (rear + front), 0.5 * (front - rear)
    rho = np.sqrt((loose.x / a) ** 2 + ((loose.y - yc) / b) ** 2)
    wall = rng.uniform(3.0, 6.0) * (1 - 0.4 * t)
    sling = (loose.y < yc + 0.55 * b) & (c.ring < 6)  # open in front, behind the symphysis
    c.paint(span & sling & (np.abs(rho - 1) * a < wall / 2), m.LEVATOR)
    # the cleft between the buttocks, and the line where the thighs touch
    floor = c.along_z((sk.ischium_z, sk.pubis_z + 60), (sk.back_y + 48, sk.back_y - 25))
    cleft = (
        (np.abs(c.x) < 1.8) & (c.y < floor) & (c.z > sk.ischium_z - 30) & (c.z < sk.pubis_z + 60)
    )
    c.paint(cleft, m.CLEFT)
    c.paint((np.abs(c.x) < 1.8) & (c.x != 0) & (c.z <= sk.ischium_z - 30), m.CLEFT)
    bulb = _ellipsoid(c, (0, sk.pubis_y - 34, sk.pubis_z - 48), (13, 22, 14))
    c.paint(bulb < 1, m.GENITAL)
    for s in (-1, 1):
        z0 = sk.pubis_z - 30
        crus = np.hypot(
            np.abs(c.x) - (14 + 0.5 * (z0 - c.z)), c.y - (sk.pubis_y - 20 + 0.5 * (c.z - z0))
        )
        c.paint((crus < 7) & (c.z < z0) & (c.z > z0 - 45) & (c.x * s > 0), m.GENITAL)


def _upper_organs(
    c: Canvas, cavity: Mask, sk: Skeleton, body: Body, rng: np.random.Generator
) -> None:
    """Liver, spleen, stomach, kidneys, great vessels, diaphragm and lungs."""
    spine = c.along_z(sk.spine_z, sk.spine_y).astype(np.float32)
    a = float(body.trunk.half_width[-2])
    right = c.right
    x = c.x * right
    dome = sk.crest_z + rng.uniform(190, 260)
    low = dome - rng.uniform(120, 200)
    depth = float(body.trunk.front[-2] - body.trunk.centre[-2])
    yc = c.along_z(body.trunk.z, body.trunk.centre).astype(np.float32)
    inside = c.trunk < -16
    roof = dome - 0.0035 * (c.x**2 + (c.y - yc - 10) ** 2) + 14 * np.tanh(x / 40)
    edge = low + 0.75 * np.clip(60 - x, 0, None) + 0.25 * (c.y - yc)
    soft = c.noise(rng, 45.0)
    c.paint(
        inside & (c.z > edge + 10 * soft) & (c.z < roof) & (x > -55) & (c.y > spine - 25), m.LIVER
    )
    stomach = _ellipsoid(
        c, (-right * 0.42 * a, float(yc.mean()) + 0.35 * depth, dome - 70), (48, 36, 60)
    )
    c.paint((stomach < 1) & inside, m.BOWEL)
    c.paint((stomach < 0.8) & inside, m.STOMACH)
    c.paint((stomach < 0.8) & inside & (c.y > yc + 0.45 * depth), m.GAS)
    spleen = _ellipsoid(c, (-right * 0.72 * a, float(yc.mean()) - 22, dome - 75), (30, 42, 50))
    c.paint((spleen < 1) & inside, m.SPLEEN)
    for s in (-1, 1):
        zk = sk.crest_z + rng.uniform(45, 105)
        yk = float(np.interp(zk, sk.spine_z, sk.spine_y)) - 4
        kidney = _ellipsoid(c, (s * rng.uniform(58, 70), yk, zk), (28, 24, 54))
        c.paint((kidney < 1.5) & (kidney > 1) & (c.trunk < -10) & cavity, m.FAT)
        c.paint((kidney < 1) & (c.gap_mm > 1.5), m.KIDNEY)
        hilum = _ellipsoid(c, (s * 48, yk + 6, zk), (18, 12, 26))
        c.paint(hilum < 1, m.FAT)
    lung = (c.z > roof) & (c.trunk < -18) & (np.hypot(c.x, c.y - spine) > 36)
    c.paint(lung, m.LUNG)
    heart = _ellipsoid(c, (-right * 25, float(yc.mean()) + 0.4 * depth, dome + 65), (58, 48, 58))
    c.paint(heart < 1, m.HEART)


def _spine(c: Canvas, src: PreparedSource, rng: np.random.Generator) -> None:
    """Lumbar and thoracic vertebrae above the sacrum, unless the source has them."""
    sk = src.skeleton
    base = sk.sacrum_top[1] + 3
    given = src.trunk
    if len(given.spine_z):  # only the discs of the labelled part, then vertebrae above it
        base = float(given.spine_z[-1]) + 2
        front = c.along_z(given.spine_z, given.spine_front)
        disc_space = (c.z > given.spine_z[0] - 10) & (c.z <= base) & (c.gap_mm < 9)
        oval = (c.x / 24) ** 2 + ((c.y - front + 17) / 17) ** 2 < 1
        c.paint(disc_space & oval, m.DISC)
        c.paint(disc_space & (np.abs(c.x) < 12) & (np.abs(c.y - front + 44) < 9), m.CANAL)
    near = np.flatnonzero((c.z > base - 25) & (np.abs(c.x) < 60))
    if len(near) == 0:
        return
    x, y, z = c.x[near], c.y[near], c.z[near]
    dy = y - np.interp(z, sk.spine_z, sk.spine_y).astype(np.float32)
    size = sk.crest_x / 135.0
    period, disc = 36.0 * size, rng.uniform(6, 11)
    # discs tilt forwards at the lumbosacral angle, level out above
    tilt = np.interp(z - base, (0, 90), (0.55, 0.0))
    phase = np.mod(z - base - tilt * dy - 3, period)
    bony = phase > disc
    tissue = c.tissue[near]
    waist = 1 - 0.1 * np.sin(np.clip((phase - disc) / (period - disc), 0, 1) * np.pi)
    body = ((x / (26 * size * waist)) ** 2 + (dy / (18 * size * waist)) ** 2) < 1
    above = z - tilt * dy > base
    tissue[body & above] = m.DISC
    r2 = (x / (26 * size * waist)) ** 2 + (dy / (18 * size * waist)) ** 2
    plate = (phase < disc + 1.8) | (phase > period - 1.8) | (r2 > 0.84)
    tissue[body & above & bony] = m.VERTEBRA
    tissue[body & above & bony & plate] = m.CORTEX
    canal = ((x / 12) ** 2 + ((dy + 27 * size) / 9) ** 2) < 1
    ring = ((x / 19) ** 2 + ((dy + 26 * size) / 15) ** 2) < 1
    upper = phase > 0.45 * period
    facet = (np.hypot(np.abs(x) - 19, dy + 32 * size) < 9) & ~upper
    arch = ring & (upper | (dy < -32 * size)) & (phase > 0.25 * period)
    spinous = (np.abs(x) < 4) & (dy < -34 * size) & (dy > -64 * size) & (phase < 0.75 * period)
    transverse = (
        (np.abs(dy + 20) < 5)
        & (np.abs(x) > 15)
        & (np.abs(x) < 44)
        & (np.abs(phase - 0.7 * period) < 6)
    )
    tissue[above & (arch | facet | spinous | transverse)] = m.RIB
    tissue[above & canal] = m.CANAL
    c.tissue[near] = tissue


def _ribs(c: Canvas, sk: Skeleton, body: Body, rng: np.random.Generator) -> None:
    yc = c.along_z(body.trunk.z, body.trunk.centre).astype(np.float32)
    start = sk.crest_z + rng.uniform(45, 80) + 0.9 * np.clip(c.y - yc, 0, None)
    cage = (c.z > start) & (c.trunk < -3) & (c.trunk > -14)
    if not cage.any():
        return
    slant = np.mod(c.z + 0.95 * (c.y - yc) + 6 * np.sin(c.x / 60), 29.0) - 6
    rho = (slant / 6) ** 2 + ((c.trunk + 9) / 4.2) ** 2
    c.paint(cage, m.WALL)
    c.paint(cage & (np.abs(slant) > 7.5) & (c.trunk < -12), m.FAT)
    c.paint(cage & (rho < 1), m.CORTEX)
    c.paint(cage & (rho < 0.45), m.RIB)


def _joints(c: Canvas, src: PreparedSource, rng: np.random.Generator) -> None:
    """Capsule and cartilage in the hip and knee gaps, tendons before and behind the knee."""
    sk = src.skeleton
    for k in range(2):
        h = sk.hip[k]
        hip = np.sqrt((c.x - h[0]) ** 2 + (c.y - h[1]) ** 2 + (c.z - h[2]) ** 2)
        c.paint((hip < 38) & (c.gap_mm < 7), m.CAPSULE)
        c.paint((hip < 27) & (c.gap_mm < 4), m.CARTILAGE)
        n = sk.knee[k]
        dz = c.z - n[2]
        planar = np.hypot(c.x - n[0], c.y - n[1])
        c.paint((planar < 38) & (dz > -8) & (dz < 22) & (c.gap_mm < 9), m.CAPSULE)
        tendon = (np.abs(c.x - n[0]) < 13) & (np.abs(c.y - n[1] - 36) < 3.5)
        c.paint(tendon & (dz > -55) & (dz < 10), m.TENDON)
        quad = (np.abs(c.x - n[0]) < 16) & (np.abs(c.y - n[1] - 36) < 4) & (dz > 40) & (dz < 75)
        c.paint(quad, m.TENDON)


def _ligaments(c: Canvas, src: PreparedSource, rng: np.random.Generator) -> None:
    """Sacrospinous (with coccygeus on it) and sacrotuberous ligaments: muscle-like, unlabelled."""
    sk = src.skeleton
    sacrum = src.lines.get(SACRUM)
    if sacrum is None:
        return
    low = float(sacrum.z[0])
    for hip, spine, tuber in zip(sk.hip, sk.ischial_spine, sk.tuberosity, strict=True):
        out = float(np.sign(hip[0]))
        for level, end, radius, code in (
            (low + rng.uniform(5, 25), spine, rng.uniform(3, 7), m.LEVATOR),
            (low + rng.uniform(20, 50), tuber, rng.uniform(2.5, 5), m.TENDON),
        ):
            edge = 0.7 * float(np.interp(level, sacrum.z, sacrum.radius)) + 8
            centre = float(np.interp(level, sacrum.z, sacrum.y))
            start = np.array([out * edge, centre, level], np.float32)
            where = (c.z > min(end[2], level) - 12) & (c.z < max(end[2], level) + 12)
            where &= c.x * out > 0
            at = np.flatnonzero(where)
            axis = (end - start).astype(np.float32)
            d = np.stack([v[at] - o for v, o in zip((c.x, c.y, c.z), start, strict=True)])
            t = np.clip((axis @ d) / float(axis @ axis), 0, 1)
            off = np.sqrt(((d - t * axis[:, None]) ** 2).sum(0))
            # fan-shaped: broad at the sacrum, a cord at the other end
            c.tissue[at[off < radius * (1.5 - 0.7 * t)]] = code


def _vessels(
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
        c.paint(_ellipsoid(c, spot, (s, s, 1.8 * s)) < 1, m.GENITAL)


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


def _lower_leg(c: Canvas, src: PreparedSource, rng: np.random.Generator) -> None:
    """Tibia, fibula and calf where the source ends above them."""
    sk = src.skeleton
    for k, side in ((0, 1.0), (1, -1.0)):
        n = sk.knee[k]
        end = sk.map_bottom_z if sk.tibia_from_map else float(n[2]) - 5
        leg = np.flatnonzero((c.z < end) & (c.x * side > 0))
        if len(leg) == 0:
            continue
        x, y, z = c.x[leg] - n[0], c.y[leg] - n[1], c.z[leg]
        below = (n[2] - z).astype(np.float32)
        r = calf_radius(below)
        tissue = c.tissue[leg]
        muscle = (np.hypot(x, y + 8) < r - 3) & (below > 25)
        seams = np.abs(np.sin(np.arctan2(y + 4, x * side) * 2.5 + 0.6)) * np.hypot(x, y) < 2.0
        tissue[muscle & ~seams] = m.CALF
        tr = np.interp(below, (0, 25, 60, 120, 380), (38, 34, 20, 14, 12))
        tibia = np.hypot(x, (y - np.interp(below, (20, 120), (0, 14))) * 1.15) / tr
        tissue[tibia < 1] = m.CORTEX
        tissue[tibia < np.interp(below, (20, 110), (0.94, 0.55))] = m.CANCELLOUS
        tissue[(tibia < 0.55) & (below > 95)] = m.MARROW
        fibula = np.hypot(x - side * 30, y + np.interp(below, (10, 120), (14, 10)))
        tissue[(fibula < np.interp(below, (10, 40, 60), (0, 9, 6.5))) & (below > 12)] = m.SHIN
        c.tissue[leg] = tissue

"""Organs of abdomen and pelvis: simple shapes that vary, none of them labelled."""

from __future__ import annotations

import numpy as np

from mskt.synthesis import materials as m
from mskt.synthesis.body import Body
from mskt.synthesis.canvas import Canvas, Mask, ellipsoid
from mskt.synthesis.config import SynthesisConfig
from mskt.synthesis.source import PreparedSource, Skeleton


def bowel(
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


def pelvic_organs(c: Canvas, cavity: Mask, src: PreparedSource, rng: np.random.Generator) -> None:
    """Bladder, then uterus and ovaries or prostate and vesicles, and the rectum."""
    sk = src.skeleton
    near = c.z < sk.asis[2] + 60
    full = rng.uniform(0.4, 1.5)
    shift = float(6 * rng.standard_normal())
    centre = (shift, sk.pubis_y - 24 - 14 * full, sk.pubis_z + 8 + 18 * full)
    e = ellipsoid(c, centre, (22 + 20 * full, 16 + 16 * full, 12 + 20 * full))
    female = rng.random() < 0.5
    if female:
        lean = rng.uniform(-22, 22)
        womb = ellipsoid(
            c,
            (lean, centre[1] - 42, centre[2] + rng.uniform(10, 35)),
            (rng.uniform(18, 36), rng.uniform(16, 26), rng.uniform(22, 40)),
        )
        c.paint(near & (womb < 1) & cavity, m.SOFT_ORGAN)
        for s in (-1, 1):
            ovary = ellipsoid(c, (s * 44, centre[1] - 36, centre[2] + 28), (15, 11, 14))
            c.paint(near & (ovary < 1) & cavity, m.SOFT_ORGAN)
    else:
        gland = ellipsoid(c, (0, sk.pubis_y - 40, sk.pubis_z - 14), (rng.uniform(20, 30), 17, 19))
        c.paint(near & (gland < 1) & (c.gap_mm > 2), m.SOFT_ORGAN)
        vesicle = ellipsoid(c, (0, centre[1] - 18 * full - 18, sk.pubis_z + 14), (34, 8, 10))
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


def upper_organs(
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
    stomach = ellipsoid(
        c, (-right * 0.42 * a, float(yc.mean()) + 0.35 * depth, dome - 70), (48, 36, 60)
    )
    c.paint((stomach < 1) & inside, m.BOWEL)
    c.paint((stomach < 0.8) & inside, m.STOMACH)
    c.paint((stomach < 0.8) & inside & (c.y > yc + 0.45 * depth), m.GAS)
    spleen = ellipsoid(c, (-right * 0.72 * a, float(yc.mean()) - 22, dome - 75), (30, 42, 50))
    c.paint((spleen < 1) & inside, m.SPLEEN)
    for s in (-1, 1):
        zk = sk.crest_z + rng.uniform(45, 105)
        yk = float(np.interp(zk, sk.spine_z, sk.spine_y)) - 4
        kidney = ellipsoid(c, (s * rng.uniform(58, 70), yk, zk), (28, 24, 54))
        c.paint((kidney < 1.5) & (kidney > 1) & (c.trunk < -10) & cavity, m.FAT)
        c.paint((kidney < 1) & (c.gap_mm > 1.5), m.KIDNEY)
        hilum = ellipsoid(c, (s * 48, yk + 6, zk), (18, 12, 26))
        c.paint(hilum < 1, m.FAT)
    lung = (c.z > roof) & (c.trunk < -18) & (np.hypot(c.x, c.y - spine) > 36)
    c.paint(lung, m.LUNG)
    heart = ellipsoid(c, (-right * 25, float(yc.mean()) + 0.4 * depth, dome + 65), (58, 48, 58))
    c.paint(heart < 1, m.HEART)

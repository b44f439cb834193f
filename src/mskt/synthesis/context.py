"""Unlabelled neighbours inside the body: abdominal wall, spine, organs, vessels, lower leg.

Everything is written in source coordinates, so it moves with pose and deformation, and only on
voxels that the source leaves unlabelled. Later strokes cover earlier ones.
"""

from __future__ import annotations

import numpy as np

from mskt.synthesis import materials as m
from mskt.synthesis.body import Body
from mskt.synthesis.canvas import Canvas, Mask, ellipsoid
from mskt.synthesis.config import SynthesisConfig
from mskt.synthesis.lattice import FloatArray, child_rng
from mskt.synthesis.organs import bowel, pelvic_organs, upper_organs
from mskt.synthesis.source import SACRUM, PreparedSource, Skeleton, calf_radius
from mskt.synthesis.vessels import vessels


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
        bowel(loose, cavity, sk, body, child_rng(seed, "bowel"), config)
        pelvic_organs(loose, cavity, src, child_rng(seed, "pelvis"))
        if float(canvas.z.max()) > sk.crest_z:
            upper_organs(loose, cavity, sk, body, child_rng(seed, "organs"))
        _perineum(canvas, loose, src, child_rng(seed, "perineum"))
        if body.genitals is not None:
            points = (canvas.x, canvas.y, canvas.z)
            canvas.paint(body.genitals.distance(points) < 0, m.GENITAL)
        _spine(canvas, src, child_rng(seed, "spine"))
        _ribs(canvas, sk, body, child_rng(seed, "ribs"))
    _joints(canvas, src, child_rng(seed, "joints"))
    _ligaments(canvas, src, child_rng(seed, "ligaments"))
    vessels(canvas, src, child_rng(seed, "vessels"), config)
    _lower_leg(canvas, src, child_rng(seed, "lowerleg"))


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
    rear = np.where(c.z > sk.sacrum_top[1], spine - 4, sk.back_y + 30)
    beside = (np.abs(c.x) > 62) & (c.y > spine - 26)
    ahead = np.where(c.z > sk.sacrum_top[1], (c.y > rear + 20) | beside, c.y > rear)
    floor = c.z > sk.pubis_z - 25
    return np.asarray(inside & ahead & floor & (c.gap_mm > gap_mm))


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
    bulb = ellipsoid(c, (0, sk.pubis_y - 34, sk.pubis_z - 48), (13, 22, 14))
    c.paint(bulb < 1, m.GENITAL)
    for s in (-1, 1):
        z0 = sk.pubis_z - 30
        crus = np.hypot(
            np.abs(c.x) - (14 + 0.5 * (z0 - c.z)), c.y - (sk.pubis_y - 20 + 0.5 * (c.z - z0))
        )
        c.paint((crus < 7) & (c.z < z0) & (c.z > z0 - 45) & (c.x * s > 0), m.GENITAL)


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

"""Which part of the patient a scan shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mskt.synthesis.body import Body, skin_distance
from mskt.synthesis.config import SynthesisConfig
from mskt.synthesis.lattice import CoarseLattice, child_rng
from mskt.synthesis.shape import Shape, inverse_map
from mskt.synthesis.source import PreparedSource


@dataclass(frozen=True)
class Fov:
    """A box in the patient's world (mm, RAS; origin near the middle between the hip joints).

    Attributes:
        origin_mm: centre of voxel (0, 0, 0).
        shape: number of voxels (x, y, z).
    """

    origin_mm: tuple[float, float, float]
    shape: tuple[int, int, int]


def whole_fov(
    src: PreparedSource, shape: Shape, body: Body, spacing_mm: tuple[float, float, float]
) -> Fov:
    """Hip to knee: from 40 mm below the knee joints to 40 mm above the iliac crests."""
    sk, s = src.skeleton, shape.scale
    half = float(s[0]) * sk.crest_x + 1.3 * body.fat_mm + 75
    knees = float(
        np.abs(sk.knee[:, 0]).max() + 95 + np.tan(np.deg2rad(shape.legs[:, 1].max())) * 420
    )
    half = max(half, float(s[0]) * knees)
    low = body.table_y - 55
    high = float(s[1]) * (sk.asis[1] + 45) + 1.4 * body.fat_mm + 60 * body.visceral
    high = max(high, float(s[1]) * (float(sk.knee[:, 1].max()) + 95))
    bottom = float(s[2]) * float(sk.knee[:, 2].min()) - 40
    top = float(s[2]) * sk.crest_z + 40
    box = ((-half, half), (low, high), (bottom, top))
    size = [int(np.ceil((b - a) / d)) + 1 for (a, b), d in zip(box, spacing_mm, strict=True)]
    return Fov((box[0][0], box[1][0], box[2][0]), (size[0], size[1], size[2]))


def random_fov(
    src: PreparedSource,
    shape: Shape,
    body: Body,
    size: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    seed: int,
    config: SynthesisConfig,
) -> Fov:
    """Place a window of fixed size at a random level, centred on the body."""
    rng = child_rng(seed, "view")
    sk = src.skeleton
    knee, crest = float(sk.knee[:, 2].mean()), sk.crest_z
    level = rng.uniform(*config.view_level)
    extent = [n * d for n, d in zip(size, spacing_mm, strict=True)]
    middle_z = float(shape.scale[2]) * (knee + level * (crest - knee))
    if rng.random() < config.p_cut_at_hip:
        # the scans that fooled the first trial: the volume starts or ends at the hip joint, often
        # inside the femoral head
        cut = rng.uniform(-90, 80) if rng.random() < 0.6 else rng.uniform(-20, 28)
        middle_z = cut + extent[2] / 2 * (1 if rng.random() < 0.65 else -1)
    shift = config.view_shift_mm * rng.standard_normal(2)
    x, y = _body_centre(src, shape, body, (middle_z - extent[2] / 2, middle_z + extent[2] / 2))
    origin = (
        x + shift[0] - extent[0] / 2,
        y + 0.6 * shift[1] - extent[1] / 2,
        middle_z - extent[2] / 2,
    )
    return Fov((float(origin[0]), float(origin[1]), float(origin[2])), size)


def _body_centre(
    src: PreparedSource, shape: Shape, body: Body, levels: tuple[float, float]
) -> tuple[float, float]:
    """Middle of the body's outline (x, y; world mm) between two heights, on a 32 mm lattice."""
    reach = np.array([-400.0, 400.0], np.float32)
    z = np.array([*levels], np.float32)
    lattice = CoarseLattice.covering((reach, reach, z), step_mm=32.0)
    points, web = inverse_map(lattice, src, shape)
    inside = skin_distance(lattice, points, web, src, body, shape)[0] < 0
    if not inside.any():
        return 0.0, body.table_y + 100
    x, y = lattice.axes[0][inside.any((1, 2))], lattice.axes[1][inside.any((0, 2))]
    return float(x.min() + x.max()) / 2, float(y.min() + y.max()) / 2

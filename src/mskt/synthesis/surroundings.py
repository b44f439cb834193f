"""What lies outside the body: table, calibration phantom, arms, clothing, blanket."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mskt.synthesis.body import Body
from mskt.synthesis.config import SynthesisConfig
from mskt.synthesis.lattice import Axes, FloatArray, NoiseField, child_rng


@dataclass
class Scene:
    """The image under construction; painters change ``hu`` where the body is not."""

    hu: FloatArray
    body: NDArray[np.bool_]
    axes: Axes
    spacing: tuple[float, float, float]

    def paint(
        self, box: tuple[slice, slice, slice], where: NDArray[np.bool_], value: FloatArray | float
    ) -> None:
        """Write HU on voxels of ``box`` that are outside the body."""
        target = self.hu[box]
        outside = where & ~self.body[box]
        target[outside] = (
            value
            if np.isscalar(value)
            else np.broadcast_to(np.asarray(value), outside.shape)[outside]
        )


def paint_surroundings(
    scene: Scene, habitus: Body, seed: int, config: SynthesisConfig, levels: tuple[float, float]
) -> dict[str, bool]:
    """Add this case's objects and return which; ``levels`` are world z of hip and crest."""
    has = {}
    for name, chance, painter in (
        ("table", config.p_table, _table),
        ("calibration_phantom", config.p_phantom, _calibration),
        ("blanket", config.p_blanket, _blanket),
        ("clothing", config.p_clothing, _clothing),
        ("arms", config.p_arms, _arms),
    ):
        rng = child_rng(seed, name)
        has[name] = bool(rng.random() < chance)
        if has[name]:
            painter(scene, habitus, rng, levels)
    return has


def _rows(scene: Scene, low: float, high: float) -> tuple[slice, slice, slice]:
    y = scene.axes[1]
    i, j = np.searchsorted(y, (low, high))
    return slice(None), slice(int(i), int(j)), slice(None)


def _sheet(scene: Scene, y_mm: FloatArray, thick: float, hu: float, x_half: float) -> None:
    """Paint a thin sheet at height ``y_mm(x)``: its density is diluted by the voxel's size."""
    box = _rows(scene, float(y_mm.min()) - 8, float(y_mm.max()) + 8)
    x, y = scene.axes[0][:, None], scene.axes[1][None, box[1]]
    step = scene.spacing[1]
    cover = np.clip(0.5 * (thick + step) - np.abs(y - y_mm[:, None]), 0, min(thick, step)) / step
    value = (hu + 1000) * cover - 1000
    where = (cover > 0.02) & (np.abs(x) < x_half)
    shape = (len(x), y.shape[1], scene.hu.shape[2])
    scene.paint(
        box,
        np.broadcast_to(where[:, :, None], shape),
        np.broadcast_to(value[:, :, None], shape).astype(np.float32),
    )


def _table(
    scene: Scene, habitus: Body, rng: np.random.Generator, levels: tuple[float, float]
) -> None:
    x = scene.axes[0]
    mat = rng.uniform(0, 70) * float(rng.random() < 0.6)
    bend = rng.uniform(0.0004, 0.0011) * float(rng.random() < 0.7)
    half = rng.uniform(190, 270)
    base = habitus.table_y - 3 - mat
    curve = np.asarray(base + bend * (x**2 - 0 * half**2), np.float32)
    limit = np.minimum(curve, np.float32(habitus.table_y - 3)) if mat < 8 else curve
    if mat > 8:  # foam between patient and shell
        box = _rows(scene, base, habitus.table_y - 1)
        y = scene.axes[1][None, box[1], None]
        foam = (y > curve[:, None, None]) & (np.abs(x)[:, None, None] < half)
        scene.paint(
            box,
            np.broadcast_to(foam, (len(x), y.shape[1], scene.hu.shape[2])),
            float(rng.uniform(-985, -930)),
        )
    limit = np.asarray(limit, np.float32)
    _sheet(scene, limit, rng.uniform(1.5, 4.0), rng.uniform(-100, 900), half)
    if rng.random() < 0.6:
        _sheet(
            scene, limit - rng.uniform(15, 60), rng.uniform(1.0, 3.0), rng.uniform(-100, 500), half
        )


def _calibration(
    scene: Scene, habitus: Body, rng: np.random.Generator, levels: tuple[float, float]
) -> None:
    """Lay a slab with rods of known density under the patient, touching the skin."""
    x, y = scene.axes[0][:, None], scene.axes[1][None]
    thick = rng.uniform(24, 34)
    half = rng.uniform(120, 190)
    middle = habitus.table_y + 2 - thick / 2
    box = _rows(scene, middle - thick, middle + thick)
    yb = y[:, box[1]]
    slab = (np.abs(yb - middle) < thick / 2) & (np.abs(x) < half)
    value = np.full(slab.shape, rng.uniform(-10, 60), np.float32)
    for k, rod in enumerate((-50.0, 50.0, 100.0, 200.0, 375.0, 0.0)):
        centre = (k - 2.5) * half / 3.2
        value[np.hypot(x - centre, yb - middle) < 9] = rod
    shape = (slab.shape[0], slab.shape[1], scene.hu.shape[2])
    scene.paint(
        box, np.broadcast_to(slab[:, :, None], shape), np.broadcast_to(value[:, :, None], shape)
    )


def _blanket(
    scene: Scene, habitus: Body, rng: np.random.Generator, levels: tuple[float, float]
) -> None:
    """Lay a wavy sheet over the front, a few centimetres above the skin."""
    front = scene.body.shape[1] - 1 - scene.body[:, ::-1].argmax(1)
    seen = scene.body.any(1)
    if not seen.any():
        return
    top = np.where(seen, front, -1).max(1).astype(float)
    top[top < 0] = top[top >= 0].min()
    y = scene.axes[1][0] + scene.spacing[1] * ndimage.gaussian_filter1d(top, 60 / scene.spacing[0])
    folds = NoiseField.draw(rng, 50.0).at((scene.axes[0], scene.axes[1][:1], scene.axes[2][:1]))[
        :, 0, 0
    ]
    _sheet(
        scene,
        (y + rng.uniform(8, 30) + 6 * folds).astype(np.float32),
        rng.uniform(0.8, 2.5),
        rng.uniform(-500, -150),
        330,
    )


def _clothing(
    scene: Scene, habitus: Body, rng: np.random.Generator, levels: tuple[float, float]
) -> None:
    """Thin cloth a little off the skin, in folds."""
    near = ndimage.binary_dilation(scene.body, iterations=int(max(1, round(5 / scene.spacing[0]))))
    ring = near & ~scene.body
    folds = NoiseField.draw(rng, 24.0).at(scene.axes)
    cloth = ring & (folds > rng.uniform(0.2, 1.4))
    scene.hu[cloth] = np.maximum(scene.hu[cloth], rng.uniform(-930, -700))


def _arms(
    scene: Scene, habitus: Body, rng: np.random.Generator, levels: tuple[float, float]
) -> None:
    """Hands and forearms beside or on the hips; they are no part of the body."""
    x = scene.axes[0]
    for side in (1.0, -1.0):
        if rng.random() < 0.25:
            continue
        finger_z = levels[0] + rng.uniform(-130, 140)
        seen = scene.body.any((1, 2))
        edge = float(np.abs(x[seen]).max()) if seen.any() else 180.0
        x0 = side * (edge + rng.uniform(-110, 35))
        y0 = habitus.table_y + rng.uniform(40, 300)
        _arm(scene, rng, side, (x0, y0, finger_z))


def _arm(
    scene: Scene, rng: np.random.Generator, side: float, tip: tuple[float, float, float]
) -> None:
    x, y, z = scene.axes
    lean = rng.uniform(-0.15, 0.2)
    i, j = np.searchsorted(x, (tip[0] - 75, tip[0] + 75))
    k = int(np.searchsorted(z, tip[2]))
    if i >= j or k >= len(z):
        return
    box = (slice(int(i), int(j)), slice(None), slice(k, None))
    rise = (z[None, None, k:] - tip[2]).astype(np.float32)
    dx = x[i:j, None, None] - tip[0] - side * lean * rise
    dy = y[None, :, None] - tip[1] + 0.12 * rise
    turn = rng.uniform(-1.2, 1.2)
    u, v = np.cos(turn) * dx + np.sin(turn) * dy, -np.sin(turn) * dx + np.cos(turn) * dy
    wide = np.interp(rise, (0, 90, 180, 230, 420), (34, 42, 30, 32, 44)).astype(np.float32)
    flat = np.interp(rise, (0, 90, 180, 230, 420), (9, 14, 20, 26, 40)).astype(np.float32)
    rho = np.sqrt((u / wide) ** 2 + (v / flat) ** 2)
    fingers = (rise < 85) & (np.abs(np.mod(u, 17.0) - 8.5) > 7.2)
    inside = (rho < 1) & ~fingers
    value = np.where(rho > 0.86, -90.0, 45.0).astype(np.float32)
    hand = rise < 165
    rays = np.hypot(np.mod(u, 17.0) - 8.5, v)
    value = np.where(hand & (rays < 5.5), np.where(rays < 3, 200.0, 600.0), value)
    for s in (-1, 1):
        r = np.hypot(u - 13 * s, v)
        value = np.where(~hand & (r < 7.5), np.where(r < 4, 60.0, 850.0), value)
    scene.paint(box, inside, value.astype(np.float32))

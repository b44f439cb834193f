"""What a whole-body scan shows beyond hip and knee: thoracic inlet, neck, head; ankle and foot.

The engine's patient goes from the calf to the lungs and would continue so for ever. This module
ends it: the slices above the lungs become shoulders, neck and head, those below the ankle become
feet. It is unlabelled anatomy, drawn slice by slice on the finished image: good enough to tell at
which level a slice lies (:mod:`mskt.core.regions`), not to segment anything in it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mskt.core.regions import coordinate
from mskt.synthesis.lattice import FloatArray, child_rng
from mskt.synthesis.source import Skeleton

AIR = -1000.0
INLET_MM, ACROMION_MM, CHIN_MM, ORBIT_MM, VERTEX_MM = 520.0, 565.0, 610.0, 680.0, 805.0
"""Heights above the hip joint in a person whose iliac crest is 145 mm above it."""
ANKLE_MM, SOLE_MM = 385.0, 465.0
"""Depths below the knee joint in a person whose thigh is 440 mm long."""


def slice_levels(
    source_z: FloatArray, body: NDArray[np.bool_], skeleton: Skeleton
) -> list[float | None]:
    """Body coordinate of each slice: what the middle of its tissue was in the source.

    Args:
        source_z: canonical height (mm) that each voxel comes from, (x, y, z).
        body: True inside the skin.
        skeleton: of the source.

    Returns:
        :func:`mskt.core.regions.coordinate` of each slice; None where there is no body.
    """
    knee = float(skeleton.knee[:, 2].mean())
    levels: list[float | None] = []
    for k in range(body.shape[2]):
        there = source_z[:, :, k][body[:, :, k]]
        middle = float(np.median(there)) if len(there) else None
        levels.append(
            None
            if middle is None
            else float(coordinate(middle, knee_mm=knee, crest_mm=skeleton.crest_z))
        )
    return levels


@dataclass(frozen=True)
class Stack:
    """Axial slices with their heights.

    Attributes:
        image: float32 HU, (x, y, z), RAS.
        body: True inside the skin.
        x_mm, y_mm: positions of rows and columns.
        height_mm: of each slice above the hip joint, in the person of :data:`INLET_MM`; NaN
            without body.
    """

    image: FloatArray
    body: NDArray[np.bool_]
    x_mm: FloatArray
    y_mm: FloatArray
    height_mm: FloatArray


def extend(stack: Stack, seed: int, size: tuple[float, float] = (1.0, 1.0)) -> Stack:
    """The same person with shoulders, neck, head and feet.

    Args:
        stack: as the engine made it, on any grid.
        seed: of the drawn anatomy.
        size: of this person across and front to back, relative to the standard.
    """
    rng = child_rng(seed, "beyond")
    image, body = stack.image.copy(), stack.body.copy()
    slices = _Slices(stack, image, body, rng, size)
    chest = np.flatnonzero((stack.height_mm > 400) & (stack.height_mm < 470))
    if len(chest):
        x0, y0 = slices.centre(int(chest[-1]))
        _chest(slices, x0, y0)
        _upper(slices, x0, y0)
    _feet(slices)
    return replace(stack, image=image, body=body)


class _Slices:
    """Painting on slices of one stack; coordinates in mm, scaled to the person's size."""

    def __init__(
        self,
        stack: Stack,
        image: FloatArray,
        body: NDArray[np.bool_],
        rng: np.random.Generator,
        size: tuple[float, float],
    ) -> None:
        self.stack, self.image, self.body, self.rng = stack, image, body, rng
        self.size = size
        self.noise = float(rng.uniform(4, 22))
        self.fat, self.muscle = float(rng.uniform(-115, -90)), float(rng.uniform(30, 75))
        self.bone = float(rng.uniform(350, 900))
        self.rim_mm = float(rng.gamma(2.0, 4.0)) + 3

    def centre(self, k: int) -> tuple[float, float]:
        """Middle of the body's outline in slice ``k``."""
        x = self.stack.x_mm[self.body[:, :, k].any(1)]
        y = self.stack.y_mm[self.body[:, :, k].any(0)]
        return float(x[0] + x[-1]) / 2, float(y[0] + y[-1]) / 2

    def rho(self, centre: tuple[float, float], semi: tuple[float, float]) -> FloatArray:
        """Normalised radius of an ellipse: below 1 inside."""
        dx = (self.stack.x_mm[:, None] - centre[0]) / (semi[0] * self.size[0])
        dy = (self.stack.y_mm[None] - centre[1]) / (semi[1] * self.size[1])
        return np.asarray(np.sqrt(dx * dx + dy * dy), np.float32)

    def clear(self, k: int) -> None:
        """Nothing but air where the body was."""
        self.image[:, :, k][self.body[:, :, k]] = AIR
        self.body[:, :, k] = False

    def limb(
        self,
        k: int,
        centre: tuple[float, float],
        semi: tuple[float, float],
        *,
        body: bool = True,
        rim_mm: float | None = None,
    ) -> None:
        """An ellipse of muscle with a rim of fat."""
        rho = self.rho(centre, semi)
        rim = 1 - (self.rim_mm if rim_mm is None else rim_mm) / min(semi)
        plane = self.image[:, :, k]
        plane[rho < 1] = self.fat
        plane[rho < rim] = self.muscle
        if body:
            self.body[:, :, k] |= rho < 1

    def spot(
        self, k: int, centre: tuple[float, float], semi: tuple[float, float], value: float
    ) -> None:
        """An ellipse of one density."""
        self.image[:, :, k][self.rho(centre, semi) < 1] = value

    def ring(
        self, k: int, centre: tuple[float, float], semi: tuple[float, float], thick_mm: float
    ) -> None:
        """A shell of bone inside an ellipse."""
        rho = self.rho(centre, semi)
        inner = 1 - max(thick_mm / min(semi), 0.06)
        self.image[:, :, k][(rho < 1) & (rho > inner)] = self.bone

    def grain(self, k: int) -> None:
        """Blur and noise of a scanner on a slice that was drawn anew."""
        plane = ndimage.gaussian_filter(self.image[:, :, k], 0.45)
        plane = plane + self.noise * self.rng.standard_normal(plane.shape)
        self.image[:, :, k] = np.clip(plane, -1024, 3071)


def _chest(s: _Slices, x0: float, y0: float) -> None:
    """Vessels in the lungs, mediastinum, windpipe, shoulder blades with their muscles."""
    rng, h = s.rng, s.stack.height_mm
    blades = float(rng.uniform(400, 430))
    wide = rng.uniform(26, 42)
    density = rng.uniform(0.6, 1.6)
    chest = np.flatnonzero((h > 300) & (h < INLET_MM + 60))
    if len(chest) == 0:
        return
    texture = ndimage.gaussian_filter(rng.standard_normal(s.image.shape).astype(np.float32), 0.7)
    texture /= texture.std()
    for k in chest:
        plane = s.image[:, :, k]
        lung = (plane < -600) & s.body[:, :, k]
        plane[lung] += (90 * np.clip(texture[:, :, k], 0, None) ** 2 * density)[lung]
        upper = (h[k] - 330) / 190
        if h[k] > 350:
            middle = s.rho((x0, y0 + 8), (wide * (1.5 - 0.5 * upper), 46))
            plane[(middle < 1) & lung] = s.muscle - 5
            tube = s.rho((x0, y0 - 12), (9, 9))
            plane[(tube < 1) & (h[k] > 420)] = AIR
        if h[k] > blades:
            for side in (-1, 1):
                at = (x0 + side * 92 * s.size[0], y0 - 62 * s.size[1])
                wing = s.rho(at, (52, 20))
                plane[(wing < 1) & ~lung] = s.muscle
                plane[(wing < 0.3)] = s.bone


def _upper(s: _Slices, x0: float, y0: float) -> None:
    """Shoulders, neck and head instead of what is above the thoracic inlet; arms up or down."""
    rng = s.rng
    shift = float(rng.normal(0, 18))
    arms_up = rng.random() < 0.55
    spread = float(rng.uniform(95, 150))
    nod = float(rng.uniform(-5, 40))
    for k in np.flatnonzero(s.stack.height_mm > INLET_MM + shift):
        h = float(s.stack.height_mm[k]) - shift
        s.clear(int(k))
        if h < VERTEX_MM:
            if h < CHIN_MM:
                _shoulders(s, int(k), h, (x0, y0), arms_up)
            if h > CHIN_MM - 12:
                _head(s, int(k), h, (x0, y0 + 15 + nod * 0.5))
        if arms_up and h > ACROMION_MM - 10:
            for side in (-1, 1):
                at = (x0 + side * (spread + 0.12 * (h - ACROMION_MM)), y0 + 10)
                s.limb(int(k), at, (44, 46), rim_mm=7)
                s.ring(int(k), at, (12, 12), 5)
        s.grain(int(k))


def _shoulders(s: _Slices, k: int, h: float, centre: tuple[float, float], arms_up: bool) -> None:
    x0, y0 = centre
    knots = (INLET_MM - 60, INLET_MM + 20, ACROMION_MM, ACROMION_MM + 35, CHIN_MM + 40)
    wide = float(np.interp(h, knots, (175, 205, 185, 66, 60)))
    deep = float(np.interp(h, knots, (98, 92, 74, 66, 62)))
    s.limb(k, centre, (wide, deep))
    for side in (-1, 1):
        apex = float(np.interp(h, (INLET_MM, INLET_MM + 50), (1.0, 0.0)))
        if apex > 0.1:
            s.spot(k, (x0 + side * 55, y0 - 6), (42 * apex, 52 * apex), -830)
            s.ring(k, (x0 + side * 55, y0 - 6), (50 * apex + 6, 60 * apex + 6), 6)
        if INLET_MM - 5 < h < ACROMION_MM + 5:
            s.spot(k, (x0 + side * 155, y0 - 6), (26, 26), 0.5 * s.bone)
            s.ring(k, (x0 + side * 155, y0 - 6), (26, 26), 4)
            s.spot(k, (x0 + side * 100, y0 - 30), (36, 5), s.bone)
        if INLET_MM < h < INLET_MM + 32:
            s.spot(k, (x0 + side * 62, y0 + 52), (48, 7), s.bone)
    _column(s, k, (x0, y0 - 28))
    s.spot(k, (x0, y0 + 12), (9, 9), AIR)


def _column(s: _Slices, k: int, at: tuple[float, float]) -> None:
    """A cervical or upper thoracic vertebra with its canal."""
    s.spot(k, at, (15, 11), 0.45 * s.bone)
    s.ring(k, (at[0], at[1] - 16), (17, 14), 6)
    s.spot(k, (at[0], at[1] - 16), (9, 7), 30)


def _head(s: _Slices, k: int, h: float, centre: tuple[float, float]) -> None:
    x0, y0 = centre
    if h > ORBIT_MM:  # brain in its shell, an ellipsoid towards the vertex
        part = float(np.sqrt(max(0.02, 1 - ((h - ORBIT_MM) / (VERTEX_MM - ORBIT_MM)) ** 2)))
        semi = (78 * part, 98 * part)
        s.limb(k, centre, (semi[0] + 6, semi[1] + 6), rim_mm=4)
        s.spot(k, centre, semi, s.bone + 200)
        s.spot(k, centre, (max(semi[0] - 7, 1), max(semi[1] - 7, 1)), 34)
        s.spot(k, centre, (12 * part, 24 * part), 8)
        return
    part = float(np.interp(h, (CHIN_MM - 12, ORBIT_MM), (0.55, 1.0)))
    s.limb(k, centre, (80 * (0.4 + 0.6 * part), 100 * part), rim_mm=6)
    jaw = s.rho((x0, y0 + 20), (52 * part, 70 * part))
    plane = s.image[:, :, k]
    front = s.stack.y_mm[None] > y0
    plane[(jaw < 1) & (jaw > 0.82) & front] = s.bone
    s.spot(k, (x0, y0 + 12), (11, 9), AIR)
    if h > CHIN_MM + 35:
        for side in (-1, 1):
            s.spot(k, (x0 + side * 26, y0 + 48), (15, 14), AIR)
            s.spot(k, (x0 + side * 52, y0 - 18), (14, 16), 0.5 * s.bone)
        s.ring(k, (x0, y0 - 36), (58, 46), 6)
    _column(s, k, (x0, y0 - 26))


def _feet(s: _Slices) -> None:
    """Feet below the ankles, toes up, more or less pointed."""
    h = s.stack.height_mm + 440.0
    rng = s.rng
    shift, long = float(rng.normal(0, 10)), float(rng.uniform(125, 190))
    point = float(rng.uniform(0.15, 1.3))
    legs = np.flatnonzero((h < -ANKLE_MM + 60 + shift) & (h > -ANKLE_MM + shift))
    below = np.flatnonzero(h < -ANKLE_MM + shift)
    if len(below) == 0:
        return
    centres = _leg_centres(s, int(legs[0])) if len(legs) else []
    for k in below:
        s.clear(int(k))
        sunk = -(float(h[k]) - shift) - ANKLE_MM  # mm below the ankle
        height = SOLE_MM - ANKLE_MM + 60 * point  # of the foot, along the table
        if sunk > height:
            continue
        for x, y in centres:
            reach = float(np.clip(long * sunk / height + 32 - 0.2 * point * sunk, 30, long))
            heel = 38 * float(np.clip(1.15 - sunk / (0.9 * height), 0.1, 1))
            middle, half = y + (reach - heel) / 2, (reach + heel) / 2
            s.limb(int(k), (x, middle), (36, half), rim_mm=6)
            for part in np.arange(-0.7, 0.8, 0.35):
                at = (x + float(rng.normal(0, 3)), middle + part * half)
                s.spot(int(k), at, (20, 0.15 * half), 0.6 * s.bone)
        s.grain(int(k))


def _leg_centres(s: _Slices, k: int) -> list[tuple[float, float]]:
    """Centre of each leg in a slice."""
    parts, number = ndimage.label(s.body[:, :, k])
    found = []
    for part in range(1, number + 1):
        rows, columns = np.nonzero(parts == part)
        if len(rows) > 12:
            x, y = s.stack.x_mm[rows], s.stack.y_mm[columns]
            found.append((float(x.mean()), float(y.mean())))
    return found[:2]

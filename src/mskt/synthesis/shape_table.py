"""The table of contour parameters that the parametric anatomy is made of.

For each person, each structure and each level the cross-section is one or more closed contours,
outer ones counter-clockwise and holes clockwise, each given by its centre and elliptic Fourier
coefficients in complex form: with ``w = x + iy`` the contour is ``w(t) = centre + sum over
h = 1..H of c[+h] exp(iht) + c[-h] exp(-iht)``, where t runs along the arc length (Kuhl & Giardina
1982 write the same ellipses with four real coefficients per harmonic).

Coordinates are those of one right half of a body: x = distance from the midsagittal plane
(positive outwards), y = anterior of the hip centres, z = above the hip centres, all mm. Levels
are heights in the *reference frame*, the mean of all persons; ``Frame`` carries any person, or
any mixture of persons, into it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

UNIT_MM = 0.1  # one step of the stored int16 numbers
ABSENT = -32768
PACKAGED = "data/anatomy_shapes.npz"

# Above PELVIS_FROM_MM the pelvis gives the in-plane frame, below THIGH_FROM_MM the shaft of the
# femur does; between them the two are blended. The ischium ends near the first.
PELVIS_FROM_MM = -65.0
THIGH_FROM_MM = -130.0
# Inside this radius around the shaft nothing is scaled with the girth of the thigh: bone is no
# thicker in a muscular person's drawing of it than it was measured.
SHAFT_RADIUS_MM = 15.0


@dataclass(frozen=True, slots=True)
class Frame:
    """Size and pose of one (real or mixed) half body, as a map into the reference frame.

    Attributes:
        knots_mm: ``(4,)`` heights of distal femur end, lowest ischium, hip centre (0) and crest.
        half_hip_mm: hip centre to midsagittal plane.
        head_radius_mm: radius of the femoral head.
        axis_mm: ``(levels, 2)`` x and y of the centre of the femoral shaft.
        girth_mm: ``(levels,)`` radius of the disc that has the area of all structures.
    """

    knots_mm: Float
    half_hip_mm: float
    head_radius_mm: float
    axis_mm: Float
    girth_mm: Float

    def to_vector(self) -> Float:
        """All numbers in one ``(n,)`` array, so that frames can be mixed linearly."""
        head = [self.half_hip_mm, self.head_radius_mm]
        return np.asarray(np.r_[self.knots_mm, head, self.axis_mm.ravel(), self.girth_mm])

    @classmethod
    def from_vector(cls, vector: Float) -> Frame:
        """Inverse of ``to_vector``."""
        n = (len(vector) - 6) // 3
        axis = vector[6 : 6 + 2 * n].reshape(n, 2)
        return cls(vector[:4], float(vector[4]), float(vector[5]), axis, vector[6 + 2 * n :])

    @classmethod
    def mix(cls, frames: list[Frame], weights: Float) -> Frame:
        """Weighted sum of frames; weights sum to 1 and may be slightly negative."""
        return cls.from_vector(np.asarray(weights @ np.stack([f.to_vector() for f in frames])))


def map_height(z_mm: Float, source: Frame, target: Frame) -> Float:
    """Heights of one frame in another: linear between knots, shifted unchanged beyond them."""
    a, b = source.knots_mm, target.knots_mm
    inside = np.interp(z_mm, a, b)
    return np.asarray(inside + np.minimum(z_mm - a[0], 0) + np.maximum(z_mm - a[-1], 0))


def map_plane(xy_mm: Float, level: float, level_mm: float, source: Frame, target: Frame) -> Float:
    """Points of one cross-section of a frame in another frame.

    Args:
        xy_mm: ``(..., 2)`` points in the source frame.
        level: fractional index of the level, to look up axis and girth.
        level_mm: height of that level in the reference frame.
        source: the frame of the points.
        target: the frame to express them in.

    Above the ischium x is scaled so that midline and hip centre meet; below, thighs are laid upon
    each other at the femoral shaft and brought to the same girth, so that a muscle of one person
    lies upon the same muscle of the other.
    """
    pelvis = xy_mm * np.array([target.half_hip_mm / source.half_hip_mm, 1.0])
    thigh_part = np.clip((PELVIS_FROM_MM - level_mm) / (PELVIS_FROM_MM - THIGH_FROM_MM), 0, 1)
    if thigh_part == 0:
        return np.asarray(pelvis)
    axis_s, girth_s = _at_level(source, level)
    axis_t, girth_t = _at_level(target, level)
    offset = xy_mm - axis_s
    radius = np.maximum(np.hypot(offset[..., 0], offset[..., 1]), 1e-6)
    factor = (girth_t - SHAFT_RADIUS_MM) / (girth_s - SHAFT_RADIUS_MM)
    beyond = np.maximum(radius - SHAFT_RADIUS_MM, 0)
    scaled = (np.minimum(radius, SHAFT_RADIUS_MM) + factor * beyond) / radius
    thigh = axis_t + offset * scaled[..., None]
    return np.asarray((1 - thigh_part) * pelvis + thigh_part * thigh)


def _at_level(frame: Frame, level: float) -> tuple[Float, float]:
    low = int(np.clip(np.floor(level), 0, len(frame.girth_mm) - 2))
    part = float(np.clip(level - low, 0, 1))
    axis = (1 - part) * frame.axis_mm[low] + part * frame.axis_mm[low + 1]
    return axis, float((1 - part) * frame.girth_mm[low] + part * frame.girth_mm[low + 1])


@dataclass(frozen=True, slots=True)
class Contour:
    """One closed curve: complex centre and ``(2, H)`` complex coefficients (+h, -h), mm."""

    centre: complex
    coefficients: NDArray[np.complex128]

    def points(self, count: int) -> tuple[Float, Float]:
        """``(count, 2)`` points and outward unit normals (inward of a hole's own disc)."""
        harmonics = np.arange(1, self.coefficients.shape[1] + 1)
        turn = np.exp(2j * np.pi * np.outer(np.arange(count) / count, harmonics))
        plus, minus = self.coefficients
        curve = self.centre + turn @ plus + turn.conj() @ minus
        tangent = turn @ (1j * harmonics * plus) - turn.conj() @ (1j * harmonics * minus)
        normal = -1j * tangent / np.maximum(np.abs(tangent), 1e-9)
        return np.c_[curve.real, curve.imag], np.c_[normal.real, normal.imag]

    @property
    def length_mm(self) -> float:
        """Rough perimeter, to choose how many points to draw."""
        harmonics = np.arange(1, self.coefficients.shape[1] + 1)
        speed2 = float((harmonics**2 * np.abs(self.coefficients) ** 2).sum())
        return 2 * np.pi * float(np.sqrt(speed2))


@dataclass(frozen=True, slots=True)
class ShapeTable:
    """Everything measured, for all persons.

    Attributes:
        persons: names.
        frames: one per person.
        levels_mm: ``(levels,)`` ascending heights in the reference frame.
        valid_mm: ``(persons, 2)`` lowest and highest reference height that a person's map shows.
        extents_mm: ``(persons, 256, 2)`` lowest and highest reference height of a structure, by
            atom id; NaN where it was not measured. Iliacus and psoas stand whole under their
            proximal ids.
        volumes_cm3: ``(persons, 256)`` measured volume of one side (midline bones: whole).
        contours: ``(person, atom, level)`` to the contours there.
    """

    persons: tuple[str, ...]
    frames: tuple[Frame, ...]
    levels_mm: Float
    valid_mm: Float
    extents_mm: Float
    volumes_cm3: Float
    contours: Mapping[tuple[int, int, int], tuple[Contour, ...]]

    @property
    def reference(self) -> Frame:
        """The mean of all persons."""
        n = len(self.frames)
        return Frame.mix(list(self.frames), np.full(n, 1 / n))

    def structures(self) -> list[int]:
        """Atom ids that at least one person has."""
        return sorted({atom for _, atom, _ in self.contours})


def save(table: ShapeTable, path: Path | str) -> None:
    """Write a table; equal tables give equal bytes."""
    heads, centres, numbers = [], [], []
    for key in sorted(table.contours):
        for contour in table.contours[key]:
            heads.append([*key, contour.coefficients.shape[1]])
            centres.append([contour.centre.real, contour.centre.imag])
            flat = contour.coefficients.T.ravel()
            numbers.append(np.c_[flat.real, flat.imag].ravel())
    np.savez_compressed(
        path,
        persons=np.array(table.persons),
        frames=np.stack([f.to_vector() for f in table.frames]).astype(np.float32),
        levels_mm=table.levels_mm.astype(np.float32),
        valid_mm=table.valid_mm.astype(np.float32),
        extents=_to_int16(table.extents_mm),
        volumes_cm3=table.volumes_cm3.astype(np.float32),
        contour_heads=np.array(heads, np.uint8),
        contour_centres=_to_int16(np.array(centres)),
        contour_numbers=_to_int16(np.concatenate(numbers)),
    )


def load(path: Path | str) -> ShapeTable:
    """Read a table that ``save`` wrote.

    Raises:
        ValueError: an array is missing, or the numbers do not add up to the contours announced.
    """
    with np.load(path, allow_pickle=False) as file:
        data = {name: file[name] for name in file.files}
    try:
        heads = data["contour_heads"].astype(int)
        numbers = _from_int16(data["contour_numbers"])
        centres = _from_int16(data["contour_centres"])
        frames = tuple(Frame.from_vector(v) for v in data["frames"].astype(np.float64))
        if 4 * heads[:, 3].sum() != len(numbers) or len(centres) != len(heads):
            raise ValueError(f"{path}: contour numbers do not match contour heads")
        return ShapeTable(
            persons=tuple(str(p) for p in data["persons"]),
            frames=frames,
            levels_mm=data["levels_mm"].astype(np.float64),
            valid_mm=data["valid_mm"].astype(np.float64),
            extents_mm=_from_int16(data["extents"]),
            volumes_cm3=data["volumes_cm3"].astype(np.float64),
            contours=_unpack(heads, centres, numbers),
        )
    except KeyError as error:
        raise ValueError(f"{path} is no shape table: {error.args[0]} is missing") from error


@functools.cache
def packaged() -> ShapeTable:
    """Load the table that comes with the package."""
    with resources.as_file(resources.files("mskt.synthesis") / PACKAGED) as path:
        return load(path)


def _unpack(
    heads: NDArray[np.int64], centres: Float, numbers: Float
) -> dict[tuple[int, int, int], tuple[Contour, ...]]:
    contours: dict[tuple[int, int, int], tuple[Contour, ...]] = {}
    ends = np.cumsum(4 * heads[:, 3])
    for (person, atom, level, harmonics), (x, y), end in zip(heads, centres, ends, strict=True):
        pairs = numbers[end - 4 * harmonics : end].reshape(-1, 2)
        coefficients = (pairs[:, 0] + 1j * pairs[:, 1]).reshape(harmonics, 2).T
        key = (int(person), int(atom), int(level))
        contours[key] = (*contours.get(key, ()), Contour(complex(x, y), coefficients))
    return contours


def _to_int16(values_mm: Float) -> NDArray[np.int16]:
    steps = np.where(np.isnan(values_mm), ABSENT, np.round(values_mm / UNIT_MM))
    return steps.astype(np.int16)


def _from_int16(steps: NDArray[np.int16]) -> Float:
    return np.where(steps == ABSENT, np.nan, steps.astype(np.float64) * UNIT_MM)

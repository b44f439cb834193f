"""Persons between and beyond two label maps: one is deformed towards the other, by a share.

The two are laid upon each other by landmarks (hips, knees and crests of both legs), then the
structures that both have are registered by diffeomorphic demons (Vercauteren et al. 2009). Demons
compare grey values, so the labels are shown to them as grey values, in several codings one after the
other: no two structures look alike in all of them. The logarithm of the deformation, a stationary
velocity, is what a share multiplies: its exponential folds nowhere, short of interpolation error,
and a share may leave [0, 1] a little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import RBFInterpolator

from mskt.core.seeding import generator
from mskt.synthesis.labelmap import LEFT_OFFSET, LabelMap, find_landmarks
from mskt.synthesis.lattice import CoarseLattice, FloatArray, grid_axes

Float = NDArray[np.float64]
Marks = Mapping[str, Float]

LATTICE_MM = 8.0
PYRAMID = ((12.0, 30), (8.0, 24), (5.0, 10))  # voxel in mm, iterations for each coding
CODINGS = 3
FIELD_SD_VOXELS, UPDATE_SD_VOXELS = 1.3, 0.7
REACH_MM = 40.0  # beyond knees and crests
PAD_MM = 30.0
ARM_MM = 100.0  # of the points that stand before and behind the landmarks
SQUARINGS = 5
LOG_ROUNDS = 5


@dataclass(frozen=True)
class Correspondence:
    """Which place of one person is which of another.

    Attributes:
        base: the person who is deformed.
        landmarks: of the other one.
        affine: voxel of the other one's box to world mm, a lattice of ``LATTICE_MM``.
        velocity: ``(x, y, z, 3)`` mm on that lattice; its exponential leads from the other's world
            to where the base, laid upon her by landmarks, has the same structure.
    """

    base: LabelMap
    landmarks: Marks
    affine: Float
    velocity: FloatArray

    def mixed(self, share: float) -> LabelMap:
        """The base deformed by a share of the way: 0 is the base, 1 nearly the other person.

        Raises:
            ValueError: the share is not within [-0.5, 1.5]: no anatomy is left there.
        """
        if not -0.5 <= share <= 1.5:
            raise ValueError(f"share {share} is not within -0.5 … 1.5")
        marks = {
            name: (1 - share) * self.base.landmarks[name] + share * self.landmarks[name]
            for name in self.landmarks
        }
        affine, shape = _box(self.base, marks)
        axes = grid_axes(shape, _spacing(affine), _corner(affine))
        lattice = CoarseLattice.covering(axes, LATTICE_MM)
        points = np.stack(np.meshgrid(*lattice.axes, indexing="ij"), -1).astype(np.float64)
        moved = points + self._displacement(_warp(marks, self.landmarks, points), share)
        back = _warp(marks, self.base.landmarks, moved)
        full = [lattice.upsample(back[..., k].astype(np.float32)) for k in range(3)]
        labels = _nearest(self.base, full)
        return replace(
            self.base, labels=labels, affine=affine, landmarks=find_landmarks(labels, affine)[0]
        )

    def _displacement(self, points: Float, share: float) -> Float:
        """Displacement at points of the other person's world."""
        field = exponential(np.float32(share) * self.velocity, LATTICE_MM)
        index = np.moveaxis((points - self.affine[:3, 3]) / LATTICE_MM, -1, 0)
        return np.stack([_linear(field[..., k], index) for k in range(3)], -1).astype(np.float64)


def correspond(
    base: LabelMap, other: LabelMap, *, pyramid: Sequence[tuple[float, int]] = PYRAMID
) -> Correspondence:
    """Register two persons, some ten seconds on one core.

    Args:
        base: who is deformed; axis-aligned RAS as :class:`LabelMap` reads it, like the other.
        other: the person towards whom.
        pyramid: voxel sizes in mm, from coarse to fine, and iterations for each coding there.

    Raises:
        ValueError: they have no structure in common.
    """
    common = _common(base, other)
    field: FloatArray | None = None
    for step, iterations in pyramid:
        affine, shape = _overlap(base, other, step)
        points = _points(affine, shape)
        laid = _warp_coarse(other.landmarks, base.landmarks, affine, shape)
        fixed, moving = common[_nearest(other, points)], common[_nearest(base, laid)]
        field = _demons(fixed, moving, step, iterations, _resampled(field, shape))
    assert field is not None
    affine, shape = _overlap(base, other, LATTICE_MM)
    velocity = logarithm(_resampled(field, shape), LATTICE_MM)
    return Correspondence(base, other.landmarks, affine, velocity)


def exponential(velocity: FloatArray, spacing_mm: float) -> FloatArray:
    """Displacement ``(x, y, z, 3)`` in mm of a stationary velocity, by scaling and squaring."""
    field = velocity / np.float32(2**SQUARINGS)
    for _ in range(SQUARINGS):
        field = _compose(field, field, spacing_mm)
    return field


def logarithm(displacement: FloatArray, spacing_mm: float) -> FloatArray:
    """Velocity whose exponential is a displacement, by repeated correction of what is left over."""
    velocity = displacement.copy()
    for _ in range(LOG_ROUNDS):
        left = _compose(displacement, exponential(-velocity, spacing_mm), spacing_mm)
        velocity = velocity + ndimage.gaussian_filter(left, (0.5, 0.5, 0.5, 0))
    return velocity


def jacobian(displacement: FloatArray, spacing_mm: float) -> FloatArray:
    """Determinant of the derivative of a deformation: negative where space is folded."""
    matrix = np.empty((*displacement.shape, 3), np.float32)
    for row in range(3):
        for axis in range(3):
            slope = np.gradient(displacement[..., row], spacing_mm, axis=axis)
            matrix[..., row, axis] = slope + np.float32(row == axis)
    return np.asarray(np.linalg.det(matrix), np.float32)


def _common(base: LabelMap, other: LabelMap) -> NDArray[np.uint8]:
    """Lookup table ``(256,)`` that keeps the ids that both have with the same meaning."""
    shared = np.intersect1d(base.labels, other.labels)
    kept = [id_ for id_ in shared if id_ and _meaning(base, id_) == _meaning(other, id_)]
    if not kept:
        raise ValueError("the two label maps have no structure in common")
    table = np.zeros(256, np.uint8)
    table[kept] = kept
    return table


def _meaning(labels: LabelMap, id_: int) -> frozenset[Any]:
    """Elements that an id stands for; an id of no table stands for itself."""
    known = labels.meaning.structures if labels.meaning is not None else ()
    return next((s.elements for s in known if s.index == id_), frozenset({id_}))


def _demons(
    fixed: NDArray[np.uint8],
    moving: NDArray[np.uint8],
    step: float,
    iterations: int,
    start: FloatArray,
) -> FloatArray:
    """Displacement (mm) that leads each voxel of ``fixed`` to its equal in ``moving``."""
    import SimpleITK as sitk  # slow to import: only when persons are mixed

    field = _image(sitk, start.astype(np.float64), step, vector=True)
    for coding in range(CODINGS):
        grey = _grey_values(coding)
        demons = sitk.DiffeomorphicDemonsRegistrationFilter()
        demons.SetNumberOfIterations(iterations)
        demons.SetStandardDeviations(FIELD_SD_VOXELS)
        demons.SetSmoothUpdateField(True)
        demons.SetUpdateFieldStandardDeviations(UPDATE_SD_VOXELS)
        demons.SetMaximumUpdateStepLength(1.0)
        pair = [
            _image(sitk, ndimage.gaussian_filter(grey[labels], 0.7), step, vector=False)
            for labels in (fixed, moving)
        ]
        field = demons.Execute(pair[0], pair[1], field)
    found = sitk.GetArrayFromImage(field)
    return np.ascontiguousarray(found.transpose(2, 1, 0, 3), np.float32)


def _grey_values(coding: int) -> FloatArray:
    """A grey value for each id, equal on both sides of the body; 0 for background."""
    order = generator(0, "mixing", coding).permutation(LEFT_OFFSET - 1)
    grey = np.zeros(256, np.float32)
    grey[1:LEFT_OFFSET] = 1 + 2 * order / len(order)
    grey[LEFT_OFFSET + 1 : 2 * LEFT_OFFSET] = grey[1:LEFT_OFFSET]
    return grey


def _image(sitk: Any, values: NDArray[Any], step: float, *, vector: bool) -> Any:
    axes = (2, 1, 0, 3) if vector else (2, 1, 0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.transpose(axes)), isVector=vector)
    image.SetSpacing((step, step, step))
    return image


def _overlap(base: LabelMap, other: LabelMap, step: float) -> tuple[Float, tuple[int, int, int]]:
    """Grid in the other's world: as far beyond knees and crests as both maps are labelled."""
    low, high = _labelled(other)
    knees, crests = _ends(other.landmarks)
    below, above = REACH_MM, REACH_MM
    for labels in (base, other):
        bottom, top = (float(end[2]) for end in _labelled(labels))
        own_knees, own_crests = _ends(labels.landmarks)
        below = min(below, own_knees - bottom)
        above = min(above, top - own_crests)
    low, high = low - PAD_MM, high + PAD_MM
    low[2], high[2] = knees - below, crests + above
    shape = np.ceil((high - low) / step).astype(int)
    affine = np.diag([step, step, step, 1.0])
    affine[:3, 3] = low + step / 2
    return affine, (int(shape[0]), int(shape[1]), int(shape[2]))


def _ends(marks: Marks) -> tuple[float, float]:
    """Height of the lower knee and of the higher crest, mm."""
    knees = min(marks["knee_right"][2], marks["knee_left"][2])
    return float(knees), float(max(marks["crest_right"][2], marks["crest_left"][2]))


def _labelled(labels: LabelMap) -> tuple[Float, Float]:
    """Lowest and highest corner of what is labelled, mm."""
    box = ndimage.find_objects((labels.labels > 0).astype(np.uint8))[0]
    spacing, origin = np.diag(labels.affine)[:3], labels.affine[:3, 3]
    first, last = (np.array([getattr(s, end) for s in box]) for end in ("start", "stop"))
    return origin + (first - 0.5) * spacing, origin + (last - 0.5) * spacing


def _box(base: LabelMap, marks: Marks) -> tuple[Float, tuple[int, int, int]]:
    """Grid with the base's spacing that holds the base once its landmarks are ``marks``."""
    low, high = _labelled(base)
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    moved = _warp(base.landmarks, marks, low + corners * (high - low))
    spacing = np.diag(base.affine)[:3]
    low, high = moved.min(0) - PAD_MM, moved.max(0) + PAD_MM
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = low
    shape = np.ceil((high - low) / spacing).astype(int)
    return affine, (int(shape[0]), int(shape[1]), int(shape[2]))


def _warp(source: Marks, target: Marks, points: Float) -> Float:
    """Thin-plate spline that takes the landmarks of ``source`` to those of ``target``.

    Landmarks lie nearly in one plane: each has a partner before and behind it, at a distance that
    grows with the width of the hips.
    """
    spline = RBFInterpolator(_anchors(source), _anchors(target), kernel="thin_plate_spline")
    return np.asarray(spline(points.reshape(-1, 3)).reshape(points.shape))


def _anchors(marks: Marks) -> Float:
    names = sorted(marks)
    found = np.stack([marks[name] for name in names])
    arm = np.array([0, ARM_MM, 0]) * _size(marks)
    return np.concatenate([found, found + arm, found - arm])


def _size(marks: Marks) -> float:
    """Size of a skeleton: hips to knees, 400 mm = 1."""
    legs = [np.linalg.norm(marks[f"hip_{s}"] - marks[f"knee_{s}"]) for s in ("right", "left")]
    return float(np.mean(legs)) / 400.0


def _warp_coarse(
    source: Marks, target: Marks, affine: Float, shape: tuple[int, int, int]
) -> list[FloatArray]:
    """The spline on a grid, by way of a coarse lattice."""
    axes = grid_axes(shape, _spacing(affine), _corner(affine))
    lattice = CoarseLattice.covering(axes, 4 * LATTICE_MM)
    nodes = np.stack(np.meshgrid(*lattice.axes, indexing="ij"), -1).astype(np.float64)
    moved = _warp(source, target, nodes)
    return [lattice.upsample(moved[..., k].astype(np.float32)) for k in range(3)]


def _spacing(affine: Float) -> tuple[float, float, float]:
    return float(affine[0, 0]), float(affine[1, 1]), float(affine[2, 2])


def _corner(affine: Float) -> tuple[float, float, float]:
    return float(affine[0, 3]), float(affine[1, 3]), float(affine[2, 3])


def _points(affine: Float, shape: tuple[int, int, int]) -> list[FloatArray]:
    axes = grid_axes(shape, _spacing(affine), _corner(affine))
    return [np.asarray(p, np.float32) for p in np.meshgrid(*axes, indexing="ij")]


def _nearest(labels: LabelMap, points: list[FloatArray]) -> NDArray[np.uint8]:
    """Label at world points, background outside the map."""
    spacing, origin = np.diag(labels.affine)[:3], labels.affine[:3, 3]
    index = [
        np.rint((p - o) / s).astype(np.int32)
        for p, o, s in zip(points, origin, spacing, strict=True)
    ]
    held = np.ones(points[0].shape, bool)
    for i, count in zip(index, labels.labels.shape, strict=True):
        held &= (i >= 0) & (i < count)
        np.clip(i, 0, count - 1, out=i)
    return np.where(held, labels.labels[index[0], index[1], index[2]], np.uint8(0))


def _compose(outer: FloatArray, inner: FloatArray, spacing_mm: float) -> FloatArray:
    """Displacement of going by ``inner`` first and by ``outer`` from there."""
    grid = np.indices(inner.shape[:3], np.float32)
    index = grid + np.moveaxis(inner, -1, 0) / np.float32(spacing_mm)
    return inner + np.stack([_linear(outer[..., k], index) for k in range(3)], -1)


def _linear(values: FloatArray, index: NDArray[Any]) -> FloatArray:
    return np.asarray(
        ndimage.map_coordinates(values, index, order=1, mode="nearest", output=np.float32)
    )


def _resampled(field: FloatArray | None, shape: tuple[int, int, int]) -> FloatArray:
    """A field on another grid of the same box; zero if there is none yet."""
    if field is None:
        return np.zeros((*shape, 3), np.float32)
    scale = [old / new for old, new in zip(field.shape[:3], shape, strict=True)]
    at = [(np.arange(n) + 0.5) * s - 0.5 for n, s in zip(shape, scale, strict=True)]
    index = np.stack(np.meshgrid(*at, indexing="ij"))
    return np.stack([_linear(field[..., k], index) for k in range(3)], -1)

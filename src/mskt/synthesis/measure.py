"""Measures the shape table on label maps of real people.

Every structure is cut by horizontal planes in an upright frame of its owner (hip centres level
and in the frontal plane); the outlines are stored as elliptic Fourier coefficients. One side per
person is measured, the one without known defects, and mirrored when anatomy is generated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure

from mskt.synthesis.labelmap import ATOM_IDS, LEFT_OFFSET, MIDLINE, LabelMap, find_landmarks
from mskt.synthesis.shape_table import Contour, Float, Frame, ShapeTable, map_height

PLANE_STEP_MM = 1.0
SMOOTH_VOXELS = 0.6  # rounds the 2 mm stairs of the source maps, less than half a voxel deep
SMALLEST_AREA_MM2 = 8.0
CONTOUR_POINTS = 256
MAX_HARMONICS = 20
TOLERANCE_MM = 0.4  # 95th percentile of the distance between an outline and its Fourier series
COCCYX_HEIGHT_MM = 30.0
ABOVE_CREST_MM = 60.0
BELOW_KNEE_MM = 60.0

_WHOLE_ILIACUS = ATOM_IDS["iliacus_proximal"]
_WHOLE_PSOAS = ATOM_IDS["psoas_major_proximal"]
_LOWER_LEG = tuple(ATOM_IDS[n] for n in ("tibia", "fibula", "lower_leg_muscle"))


@dataclass(frozen=True, slots=True)
class Person:
    """Where one person's map is and how it is used.

    Attributes:
        name: as stored in the table.
        file: label map in the source folder.
        side: the side to measure.
        left_out: atom names whose segmentation in this person is not usable.
        sacrum_with_coccyx: the source does not tell the two apart.
    """

    name: str
    file: str
    side: str
    left_out: frozenset[str] = field(default_factory=frozenset)
    sacrum_with_coccyx: bool = False


# Sides: the female's right long head of biceps is coarse, the male's right rectus femoris and
# sartorius are copies of the left. BodyParts3D draws the obturators at a quarter of their size.
PERSONS = (
    Person(
        "bp3d_male",
        "bp3d_male_labels_2mm.nii.gz",
        "right",
        frozenset({"obturator_internus", "obturator_externus"}),
        sacrum_with_coccyx=True,
    ),
    Person("vh_female", "vh_female_labels_2mm.nii.gz", "left"),
    Person(
        "vh_male",
        "vh_male_labels_2mm.nii.gz",
        "left",
        # Cut off 30 mm below the knee: half a lower leg cannot be mixed with a whole one.
        frozenset({"tibia", "fibula", "lower_leg_muscle"}),
    ),
)


@dataclass(frozen=True, slots=True)
class _Body:
    """A label map with one half numbered as right, and its upright frame.

    ``world = origin + half @ axes`` for half-body coordinates (rows of ``axes`` are x, y, z).
    """

    labels: NDArray[np.uint8]
    affine: Float
    origin: Float
    axes: Float
    head_radius_mm: float
    half_hip_mm: float

    def to_half(self, world: Float) -> Float:
        return np.asarray((world - self.origin) @ self.axes.T)

    def to_voxel(self, half: Float) -> Float:
        world = self.origin + half @ self.axes
        return np.asarray((world - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T)


def measure_people(folder: Path | str, people: Sequence[Person] = PERSONS) -> ShapeTable:
    """Measure the label maps in ``folder`` (with its ``labels.json``) into a shape table."""
    folder = Path(folder)
    bodies = [_read(folder / p.file, folder / "labels.json", p) for p in people]
    knots = np.stack([_knots(body) for body in bodies])
    levels = level_heights(knots.mean(0))
    frames = [_frame(body, k, knots.mean(0), levels) for body, k in zip(bodies, knots, strict=True)]
    reference = Frame.mix(frames, np.full(len(frames), 1 / len(frames)))
    extents = np.full((len(people), 256, 2), np.nan)
    volumes = np.zeros((len(people), 256))
    valid = np.zeros((len(people), 2))
    contours: dict[tuple[int, int, int], tuple[Contour, ...]] = {}
    for p, (body, frame) in enumerate(zip(bodies, frames, strict=True)):
        edges = body.to_half(_corners(body))[:, 2]
        valid[p] = map_height(np.array([edges.min(), edges.max()]), frame, reference)
        heights = map_height(levels, reference, frame)
        for atom in sorted(set(np.unique(body.labels)) - {0}):
            mask = body.labels == atom
            z = body.to_half(_world(mask, body.affine))[:, 2]
            half_voxel = abs(body.affine[2, 2]) / 2
            span = np.array([z.min() - half_voxel, z.max() + half_voxel])
            extents[p, atom] = map_height(span, frame, reference)
            volumes[p, atom] = mask.sum() * abs(np.linalg.det(body.affine[:3, :3])) / 1000
            for level, loops in _outlines(body, mask, atom, heights, span).items():
                contours[p, int(atom), level] = loops
    names = tuple(p.name for p in people)
    return ShapeTable(names, tuple(frames), levels, valid, extents, volumes, contours)


def level_heights(knots_mm: Float) -> Float:
    """Heights of the levels: every 4 mm in the pelvis, 8 mm at the knee, 10 mm in the thigh."""
    knee, _, _, crest = knots_mm
    low, middle, high = knee + 64.0, -130.0, crest + 10.0
    pieces = [
        np.arange(knee - BELOW_KNEE_MM, low, 8.0),
        np.arange(low, middle - 5.0, 10.0),
        np.arange(middle, high, 4.0),
        np.arange(high, crest + ABOVE_CREST_MM + 1.0, 8.0),
    ]
    return np.round(np.concatenate(pieces), 1)


def _read(path: Path, table: Path, person: Person) -> _Body:
    source = LabelMap.from_file(path, table)
    _, radii = find_landmarks(source.labels, source.affine)
    right, left = source.landmarks["hip_right"], source.landmarks["hip_left"]
    origin = (right + left) / 2
    x_axis = (right - left) / np.linalg.norm(right - left)
    z_axis = np.array([0.0, 0.0, 1.0]) - x_axis[2] * x_axis
    z_axis /= np.linalg.norm(z_axis)
    y_axis = np.cross(z_axis, x_axis)
    outwards = x_axis if person.side == "right" else -x_axis
    return _Body(
        labels=_one_side(source.labels, person),
        affine=source.affine,
        origin=origin,
        axes=np.stack([outwards, y_axis, z_axis]),
        head_radius_mm=radii[person.side],
        half_hip_mm=float(np.linalg.norm(right - left) / 2),
    )


def _one_side(labels: NDArray[np.uint8], person: Person) -> NDArray[np.uint8]:
    """Keep one side and the midline, numbered as right; join iliacus and psoas; drop bad ones."""
    offset = LEFT_OFFSET if person.side == "left" else 0
    lookup = np.zeros(256, np.uint8)
    for name, atom in ATOM_IDS.items():
        if name not in person.left_out:
            lookup[atom + (0 if atom in MIDLINE else offset)] = atom
    lookup[ATOM_IDS["iliacus_distal"] + offset] = _WHOLE_ILIACUS
    lookup[ATOM_IDS["psoas_major_distal"] + offset] = _WHOLE_PSOAS
    half = lookup[labels]
    if person.sacrum_with_coccyx:
        sacrum = half == ATOM_IDS["sacrum"]
        lowest = int(np.flatnonzero(sacrum.any((0, 1)))[0])
        sacrum[:, :, lowest + int(COCCYX_HEIGHT_MM / 2) :] = False
        half[sacrum] = ATOM_IDS["coccyx"]
    return half


def _knots(body: _Body) -> Float:
    femur = body.to_half(_world(body.labels == ATOM_IDS["femur"], body.affine))[:, 2]
    hip_bone = body.to_half(_world(body.labels == ATOM_IDS["hip_bone"], body.affine))[:, 2]
    return np.array([femur.min(), hip_bone.min(), 0.0, hip_bone.max()])


def _frame(body: _Body, knots: Float, reference_knots: Float, levels: Float) -> Frame:
    """Axis of the femoral shaft and girth of the thigh at every level, ends held constant."""
    heights = np.interp(levels, reference_knots, knots)
    femur = body.to_half(_world(body.labels == ATOM_IDS["femur"], body.affine))
    thigh = (body.labels > 0) & ~np.isin(body.labels, [*_LOWER_LEG, *MIDLINE])
    tissue = body.to_half(_world(thigh, body.affine))[:, 2]
    voxel_mm3 = abs(np.linalg.det(body.affine[:3, :3]))
    slab_mm = 6.0
    axis, girth = [], []
    for z in np.clip(heights, knots[0] + 20.0, -60.0):
        ring = femur[np.abs(femur[:, 2] - z) < slab_mm / 2]
        axis.append(ring[:, :2].mean(0))
        area = (np.abs(tissue - z) < slab_mm / 2).sum() * voxel_mm3 / slab_mm
        girth.append(np.sqrt(area / np.pi))
    return Frame(
        knots_mm=knots,
        half_hip_mm=body.half_hip_mm,
        head_radius_mm=body.head_radius_mm,
        axis_mm=ndimage.gaussian_filter1d(np.array(axis), 1.5, axis=0, mode="nearest"),
        girth_mm=ndimage.gaussian_filter1d(np.array(girth), 1.5, mode="nearest"),
    )


def _outlines(
    body: _Body, mask: NDArray[np.bool_], atom: int, heights: Float, span: Float
) -> dict[int, tuple[Contour, ...]]:
    """Contours of one structure at every level that cuts it."""
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    low = np.array([s.start for s in box]) - 4.0
    crop = np.pad(mask[box], 4).astype(np.float32)
    smooth = ndimage.gaussian_filter(crop, SMOOTH_VOXELS)
    # The threshold keeps the volume: thin sheets would otherwise be lost to the smoothing.
    count = int(mask.sum())
    threshold = float(np.clip(np.partition(smooth.ravel(), -count)[-count], 0.25, 0.5))
    corner = body.to_half(_world(mask, body.affine))
    x0, y0 = corner[:, :2].min(0) - 6.0
    x1, y1 = corner[:, :2].max(0) + 6.0
    if atom in MIDLINE:
        x1 = max(x1, -x0)
        x0 = -x1
    xs, ys = np.arange(x0, x1 + 0.5, PLANE_STEP_MM), np.arange(y0, y1 + 0.5, PLANE_STEP_MM)
    found = {}
    for level, z in enumerate(heights):
        if span[0] <= z <= span[1]:
            grid = np.stack(np.meshgrid(xs, ys, [z], indexing="ij"), -1)[:, :, 0]
            index = np.moveaxis(body.to_voxel(grid) - low, -1, 0)
            plane = ndimage.map_coordinates(smooth, index, order=1)
            if atom in MIDLINE:
                # Both halves of the canonical body are equal, so bones on its midline must be.
                plane = (plane + plane[::-1]) / 2
            loops = _loops(plane, threshold, np.array([x0, y0]))
            if loops:
                found[level] = loops
    return found


def _loops(plane: NDArray[np.float32], threshold: float, origin: Float) -> tuple[Contour, ...]:
    loops = []
    for raw in measure.find_contours(plane, threshold):  # type: ignore[no-untyped-call]
        points = raw[:-1] * PLANE_STEP_MM + origin
        x, y = points.T
        area = 0.5 * float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())
        if abs(area) >= SMALLEST_AREA_MM2:
            # find_contours walks with the inside on one fixed hand; turn it so that outer
            # boundaries run counter-clockwise and holes clockwise.
            loops.append(fit_contour(points[::-1]))
    return tuple(loops)


def fit_contour(points: Float) -> Contour:
    """Fourier series of a closed curve ``(n, 2)``, with as many harmonics as it needs."""
    curve = points[:, 0] + 1j * points[:, 1]
    step = np.abs(np.diff(np.r_[curve, curve[0]]))
    length = np.r_[0.0, np.cumsum(step)]
    even = np.arange(CONTOUR_POINTS) / CONTOUR_POINTS * length[-1]
    closed = np.r_[curve, curve[0]]
    sampled = np.interp(even, length, closed.real) + 1j * np.interp(even, length, closed.imag)
    series = np.fft.fft(sampled) / CONTOUR_POINTS
    for harmonics in range(3, MAX_HARMONICS + 1):
        kept = np.zeros_like(series)
        kept[: harmonics + 1] = series[: harmonics + 1]
        kept[-harmonics:] = series[-harmonics:]
        error = np.abs(np.fft.ifft(kept) * CONTOUR_POINTS - sampled)
        if np.percentile(error, 95) < TOLERANCE_MM:
            break
    plus = series[1 : harmonics + 1]
    minus = series[: -harmonics - 1 : -1]
    return Contour(complex(series[0]), np.stack([plus, minus]))


def _world(mask: NDArray[np.bool_], affine: Float) -> Float:
    return np.asarray(np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3])


def _corners(body: _Body) -> Float:
    ends = np.array(body.labels.shape) - 1
    return np.array([[0, 0, 0], ends]) @ body.affine[:3, :3].T + body.affine[:3, 3]

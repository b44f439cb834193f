"""A label map made ready for synthesis: canonical frame, distances, envelopes, centre lines.

Everything here is independent of the seed and therefore computed once per source.
"""

from __future__ import annotations

from dataclasses import dataclass

import edt
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from mskt.synthesis.labelmap import LabelMap
from mskt.synthesis.lattice import FloatArray

LEFT = 100
HIP, FEMUR, PATELLA, SACRUM, COCCYX, LUMBAR, TIBIA, FIBULA = 33, 34, 35, 36, 37, 38, 39, 40
MUSCLES = (*range(1, 33), 41)
_HULL_MM = 5.0
_HULL_PAD_MM = 130.0
_LEG_BELOW_MM = 380.0


@dataclass(frozen=True)
class CentreLine:
    """Slice-wise centre and equivalent radius of one structure, canonical mm."""

    z: FloatArray
    x: FloatArray
    y: FloatArray
    radius: FloatArray


@dataclass(frozen=True)
class Skeleton:
    """Bony measures in the canonical frame (mm); right and left averaged to the right side."""

    hip: FloatArray  # (2, 3): right, left joint centre
    knee: FloatArray  # (2, 3): right, left, level of the femoral condyles' lower end
    crest_z: float
    crest_x: float
    crest_y: float
    asis: tuple[float, float, float]
    pubis_y: float
    pubis_z: float
    ischium_z: float
    ischial_spine: FloatArray  # (2, 3): right, left
    tuberosity: FloatArray  # (2, 3)
    sacrum_top: tuple[float, float]  # (y, z) of the promontory's middle
    back_y: float  # rear of sacrum and iliac spines
    spine_z: FloatArray
    spine_y: FloatArray  # centre of the vertebral bodies at spine_z
    top_z: float  # highest labelled slice
    tibia_from_map: bool
    map_bottom_z: float


@dataclass(frozen=True)
class TrunkLabels:
    """What the source itself says about the trunk; empty arrays where it says nothing.

    Attributes:
        z: heights with a labelled rectus or oblique, mm, ascending.
        front, half_width: outer surface of that wall at ``z``.
        spine_z, spine_front: front of labelled vertebral bodies.
        multifidus_top: upper end of labelled multifidus (-inf without).
    """

    z: FloatArray
    front: FloatArray
    half_width: FloatArray
    spine_z: FloatArray
    spine_front: FloatArray
    multifidus_top: float


@dataclass(frozen=True)
class PreparedSource:
    """A label map in canonical coordinates: origin midway between the hip joints, RAS, mm.

    Attributes:
        labels: uint8 (x, y, z), sided atom ids.
        origin_mm, step_mm: position of voxel 0 and voxel size.
        depth_mm: float32, distance to the nearest border between labels, for every voxel.
        hull_mm: float32 on a 5 mm grid, signed distance to the convex envelope of the muscles
            (per leg below the perineum); negative inside.
        ring_mm: the same for the bony pelvis.
        lines: centre line per sided id.
    """

    labels: NDArray[np.uint8]
    origin_mm: FloatArray
    step_mm: FloatArray
    depth_mm: FloatArray
    hull_mm: FloatArray
    ring_mm: FloatArray
    hull_origin_mm: FloatArray
    lines: dict[int, CentreLine]
    skeleton: Skeleton
    trunk: TrunkLabels
    ids: frozenset[int]


def prepare(source: LabelMap | PreparedSource) -> PreparedSource:
    """Compute everything that synthesis needs and that does not depend on the seed.

    Raises:
        ValueError: the affine is not axis-aligned RAS, or hip bones or femurs are missing.
    """
    if isinstance(source, PreparedSource):
        return source
    labels, origin, step = _canonical(source)
    centres = np.stack(
        [np.asarray(source.landmarks[k], np.float32) for k in ("hip_right", "hip_left")]
    )
    middle = centres.mean(0)
    labels, first = _crop(labels)
    origin = (origin + first * step - middle).astype(np.float32)
    lines = _centre_lines(labels, origin, step)
    trunk = _trunk_labels(labels, origin, step, lines)
    skeleton = _measure(labels, origin, step, centres - middle, lines, trunk)
    hull, ring, hull_origin = _envelopes(labels, origin, step, skeleton)
    return PreparedSource(
        labels=labels,
        origin_mm=origin,
        step_mm=step,
        depth_mm=_depth(labels, step),
        hull_mm=hull,
        ring_mm=ring,
        hull_origin_mm=hull_origin,
        lines=lines,
        skeleton=skeleton,
        trunk=trunk,
        ids=frozenset(int(v) for v in np.unique(labels)),
    )


def _canonical(source: LabelMap) -> tuple[NDArray[np.uint8], FloatArray, FloatArray]:
    affine = np.asarray(source.affine, float)
    labels = np.asarray(source.labels)
    diag = np.diag(affine)[:3].copy()
    if np.abs(affine[:3, :3] - np.diag(diag)).max() > 1e-3 * np.abs(diag).max():
        raise ValueError("synthesis needs an axis-aligned label map; reorient it to RAS first")
    origin = affine[:3, 3].copy()
    for axis in range(3):
        if diag[axis] < 0:
            labels = np.flip(labels, axis)
            origin[axis] += diag[axis] * (labels.shape[axis] - 1)
    return labels.astype(np.uint8), origin.astype(np.float32), np.abs(diag).astype(np.float32)


def _crop(labels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.int_]]:
    """Cut to the labels plus two empty voxels, so that clamped indices read background."""
    boxes = ndimage.find_objects((labels > 0).astype(np.uint8))
    first = np.array([s.start - 2 for s in boxes[0]])
    size = [s.stop - s.start + 4 for s in boxes[0]]
    out = np.zeros(size, np.uint8)
    out[2:-2, 2:-2, 2:-2] = labels[boxes[0]]
    return out, first


def _depth(labels: NDArray[np.uint8], step: FloatArray) -> FloatArray:
    border = np.zeros(labels.shape, bool)
    for axis in range(3):
        low = [slice(None)] * 3
        high = [slice(None)] * 3
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        differs = labels[tuple(low)] != labels[tuple(high)]
        border[tuple(low)] |= differs
        border[tuple(high)] |= differs
    depth = edt.edt(~border, anisotropy=step.tolist(), parallel=1)
    return np.asarray(depth + 0.5 * float(step.mean()), np.float32)


def _centre_lines(
    labels: NDArray[np.uint8], origin: FloatArray, step: FloatArray
) -> dict[int, CentreLine]:
    lines = {}
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        mask = labels[box] == index
        area = mask.sum((0, 1)).astype(np.float32)
        keep = area > 0
        x = origin[0] + step[0] * np.arange(box[0].start, box[0].stop)
        y = origin[1] + step[1] * np.arange(box[1].start, box[1].stop)
        z = origin[2] + step[2] * np.arange(box[2].start, box[2].stop)
        cx = (mask.sum(1) * x[:, None]).sum(0)[keep] / area[keep]
        cy = (mask.sum(0) * y[:, None]).sum(0)[keep] / area[keep]
        radius = np.sqrt(area[keep] * step[0] * step[1] / np.pi)
        lines[index] = CentreLine(
            z[keep].astype(np.float32),
            ndimage.gaussian_filter1d(cx, 3).astype(np.float32),
            ndimage.gaussian_filter1d(cy, 3).astype(np.float32),
            ndimage.gaussian_filter1d(radius, 3).astype(np.float32),
        )
    return lines


def _trunk_labels(
    labels: NDArray[np.uint8],
    origin: FloatArray,
    step: FloatArray,
    lines: dict[int, CentreLine],
) -> TrunkLabels:
    wall = np.isin(labels, (30, 130, 31, 131))
    spine = labels == LUMBAR
    z = origin[2] + step[2] * np.arange(labels.shape[2])
    x = np.abs(origin[0] + step[0] * np.arange(labels.shape[0]))
    last = labels.shape[1] - 1
    front = origin[1] + step[1] * (last - wall[:, ::-1].any(0).argmax(0))
    ahead = origin[1] + step[1] * (last - spine[:, ::-1].any(0).argmax(0))
    has_wall, has_spine = wall.any((0, 1)), spine.any((0, 1))
    # between vertebrae only arches are labelled: take the bodies' front from their neighbours
    ahead = ndimage.maximum_filter1d(np.where(has_spine, ahead, -1e3), int(40 / step[2]) | 1)
    width = (wall.any(1) * x[:, None]).max(0)
    multifidus = [float(lines[i].z[-1]) for i in (32, 132) if i in lines]
    return TrunkLabels(
        z=z[has_wall].astype(np.float32),
        front=front[has_wall].astype(np.float32),
        half_width=width[has_wall].astype(np.float32),
        spine_z=z[has_spine].astype(np.float32),
        spine_front=ahead[has_spine].astype(np.float32),
        multifidus_top=max(multifidus, default=-np.inf),
    )


def _points(
    labels: NDArray[np.uint8], ids: tuple[int, ...], origin: FloatArray, step: FloatArray
) -> FloatArray:
    found = np.argwhere(np.isin(labels, ids))
    return np.asarray(origin + found * step, np.float32)


def _measure(
    labels: NDArray[np.uint8],
    origin: FloatArray,
    step: FloatArray,
    hip: FloatArray,
    lines: dict[int, CentreLine],
    trunk: TrunkLabels,
) -> Skeleton:
    bone = _points(labels, (HIP, HIP + LEFT), origin, step)
    if len(bone) == 0 or FEMUR not in lines or FEMUR + LEFT not in lines:
        raise ValueError("a source needs hip bones and femurs on both sides")
    folded = bone * np.array([1, 1, 1], np.float32)
    folded[:, 0] = np.abs(folded[:, 0])
    lateral = folded[folded[:, 2] > 0.35 * folded[:, 2].max()]
    spine_point = lateral[np.argmax(lateral[:, 1] + 0.25 * lateral[:, 0])]
    symphysis = folded[(folded[:, 0] < 14) & (folded[:, 2] < 40)]
    if len(symphysis) == 0:
        symphysis = folded[folded[:, 0] < folded[:, 0].min() + 12]
    sacral = _points(labels, (SACRUM,), origin, step)
    if len(sacral) == 0:
        sacral = bone[np.abs(bone[:, 0]) < 60]
    ahead = sacral[sacral[:, 1] > np.percentile(sacral[:, 1], 85)]
    top = (float(ahead[:, 1].mean() - 14), float(np.percentile(sacral[:, 2], 97)))
    knee = np.stack([_knee(lines[FEMUR + side]) for side in (0, LEFT)])
    back = float(min(np.percentile(sacral[:, 1], 1), np.percentile(bone[:, 1], 0.5)))
    psoas_z, psoas_y = _spine_path(lines, trunk, top, back)
    shin = lines.get(TIBIA)
    return Skeleton(
        hip=hip.astype(np.float32),
        knee=knee,
        crest_z=float(np.percentile(folded[:, 2], 99.8)),
        crest_x=float(np.percentile(folded[:, 0], 99.5)),
        crest_y=float(folded[folded[:, 2] > np.percentile(folded[:, 2], 98), 1].mean()),
        asis=(float(spine_point[0]), float(spine_point[1]), float(spine_point[2])),
        pubis_y=float(np.percentile(symphysis[:, 1], 95)),
        pubis_z=float(np.percentile(symphysis[:, 2], 95)),
        ischium_z=float(folded[:, 2].min()),
        ischial_spine=np.stack([_ischial_spine(bone, h) for h in hip]),
        tuberosity=np.stack([_tuberosity(bone, h) for h in hip]),
        sacrum_top=top,
        back_y=back,
        spine_z=psoas_z,
        spine_y=psoas_y,
        top_z=float(origin[2] + step[2] * labels.shape[2]),
        tibia_from_map=shin is not None and len(shin.z) > 10,
        map_bottom_z=float(origin[2] + 2.5 * step[2]),
    )


def _ischial_spine(bone: FloatArray, hip: FloatArray) -> FloatArray:
    """The most medial point of the hip bone behind the joint, at its height."""
    own = bone[bone[:, 0] * hip[0] > 0] - hip
    band = own[(np.abs(own[:, 2]) < 22) & (own[:, 1] < -18)]
    if len(band) == 0:
        return np.asarray(hip + np.array([-np.sign(hip[0]) * 30, -40, 0]), np.float32)
    return np.asarray(band[np.argmin(np.abs(band[:, 0] + hip[0]))] + hip, np.float32)


def _tuberosity(bone: FloatArray, hip: FloatArray) -> FloatArray:
    """The rear of the ischium near its lower end."""
    own = bone[bone[:, 0] * hip[0] > 0]
    low = own[own[:, 2] < own[:, 2].min() + 30]
    return np.asarray(low[np.argmin(low[:, 1])], np.float32)


def _knee(femur: CentreLine) -> FloatArray:
    low = femur.z < femur.z.min() + 30
    return np.array([femur.x[low].mean(), femur.y[low].mean(), femur.z.min()], np.float32)


def _spine_path(
    lines: dict[int, CentreLine], trunk: TrunkLabels, top: tuple[float, float], back: float
) -> tuple[FloatArray, FloatArray]:
    """Centre of the vertebral bodies: behind the psoas muscles, then a thoracic kyphosis."""
    zs = np.arange(top[1], top[1] + 480, 10.0)
    rise = zs - top[1]
    # lordosis then kyphosis, fading into the sacral promontory at rise = 0
    y = top[0] + 12 * np.sin(rise / 260 * np.pi) - 26 * (rise / 260) ** 2
    known = [lines[i] for i in (5, 6, 7, 105, 106, 107) if i in lines]
    if known:
        z = np.concatenate([k.z for k in known])
        v = np.concatenate([k.y for k in known])
        for k, level in enumerate(zs):
            near = np.abs(z - level) < 12
            if near.sum() >= 4 and 40 < rise[k] < 150:
                y[k] = 0.4 * y[k] + 0.6 * (v[near].mean() - 10)
    if len(trunk.spine_z):
        shown = trunk.spine_front - 18
        shift = float(np.mean(shown - np.interp(trunk.spine_z, zs, y)))
        y += shift * np.clip(1 - (rise - 90) / 300, 0, 1)
    # whoever lies on a table has a straight back
    y = np.maximum(y, back + 58)
    y = ndimage.gaussian_filter1d(y, 2.5, mode="nearest")
    return zs.astype(np.float32), y.astype(np.float32)


def _fill_hull(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    pts = np.argwhere(mask)
    if len(pts) < 3:
        return mask
    try:
        sides = ConvexHull(pts).equations
    except QhullError:
        return mask
    i, j = np.ogrid[: mask.shape[0], : mask.shape[1]]
    inside = mask.copy()
    inside |= np.all([a * i + b * j + c <= 1e-6 for a, b, c in sides], axis=0)
    return inside


def _signed(mask: NDArray[np.bool_], step: float) -> FloatArray:
    out = edt.edt(~mask, parallel=1) - edt.edt(mask, parallel=1)
    smooth = ndimage.gaussian_filter(out * np.float32(step), (1.0, 1.0, 2.0))
    return np.asarray(smooth, np.float32)


def _envelopes(
    labels: NDArray[np.uint8], origin: FloatArray, step: FloatArray, sk: Skeleton
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Signed distances to muscle hull and pelvic ring on a coarse grid (see PreparedSource)."""
    size = np.array(labels.shape) * step
    low = origin - _HULL_PAD_MM
    low[2] = min(origin[2], sk.knee[:, 2].min() - _LEG_BELOW_MM)
    high = origin + size + _HULL_PAD_MM
    high[2] = origin[2] + size[2]
    shape = np.ceil((high - low) / _HULL_MM).astype(int)
    flesh = np.zeros(shape, bool)
    ring = np.zeros(shape, bool)
    found = np.argwhere(labels > 0)
    cell = np.floor((origin + found * step - low) / _HULL_MM).astype(int)
    flesh[tuple(cell.T)] = True
    bony = np.isin(labels[tuple(found.T)], (HIP, HIP + LEFT, SACRUM, COCCYX))
    ring[tuple(cell[bony].T)] = True
    z = low[2] + _HULL_MM * (np.arange(shape[2]) + 0.5)
    x = low[0] + _HULL_MM * (np.arange(shape[0]) + 0.5)
    y = low[1] + _HULL_MM * (np.arange(shape[1]) + 0.5)
    for k in range(shape[2]):
        if ring[:, :, k].any():
            ring[:, :, k] = _fill_hull(ring[:, :, k])
        _hull_slice(flesh[:, :, k], x, y, float(z[k]), sk)
    centre = (low + 0.5 * _HULL_MM).astype(np.float32)
    return _signed(flesh, _HULL_MM), _signed(ring, _HULL_MM), centre


def calf_radius(below_mm: FloatArray | float) -> FloatArray:
    """Radius (mm) of the lower leg's muscle envelope, by distance below the knee."""
    radius = np.interp(below_mm, (0.0, 60.0, 130.0, 250.0, 380.0), (46.0, 46.0, 50.0, 34.0, 27.0))
    return np.asarray(radius, np.float32)


def _hull_slice(
    flesh: NDArray[np.bool_],
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    z: float,
    sk: Skeleton,
) -> None:
    for knee, sign in zip(sk.knee, (1, -1), strict=True):
        if z < knee[2] - 20:
            r = float(calf_radius(float(knee[2] - z)))
            cx, cy = knee[0], knee[1] - 8
            flesh |= (x[:, None] - cx) ** 2 + (y[None] - cy) ** 2 < r * r
        if z < sk.ischium_z - 2:
            half = np.flatnonzero(x * sign > 0)
            part = slice(half[0], half[-1] + 1)
            flesh[part] = _fill_hull(flesh[part])
    if z >= sk.ischium_z - 2:
        flesh[:] = _fill_hull(flesh)

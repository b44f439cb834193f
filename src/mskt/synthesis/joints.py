"""The hip joint: spurs, depth of the socket, width of the space, dense heads, sclerosis."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mskt.synthesis.config import SynthesisConfig
from mskt.synthesis.lattice import Axes, FloatArray, NoiseField, child_rng, smoothstep
from mskt.synthesis.shape import Warp
from mskt.synthesis.source import FEMUR, HIP, LEFT, PreparedSource


def grow_osteophytes(
    warp: Warp, src: PreparedSource, axes: Axes, seed: int, config: SynthesisConfig
) -> None:
    """Roughen everything within reach of one or both hip joints, in place: bone gets spurs."""
    rng = child_rng(seed, "osteophytes")
    if rng.random() >= config.p_osteophytes:
        return
    amount = [rng.uniform(*config.osteophyte_mm) * (rng.random() < 0.7) for _ in range(2)]
    fields = [NoiseField.draw(rng, rng.uniform(7, 11)).at(axes) for _ in range(3)]
    for mm, hip in zip(amount, src.skeleton.hip, strict=True):
        if mm == 0:
            continue
        offset = [v - h for v, h in zip(warp.full, hip, strict=True)]
        reach = np.exp(-(offset[0] ** 2 + offset[1] ** 2 + offset[2] ** 2) / 45.0**2)
        for v, field in zip(warp.full, fields, strict=True):
            v += np.float32(mm) * reach * field


def deepen_sockets(
    labels: NDArray[np.uint8],
    depth: FloatArray,
    warp: Warp,
    src: PreparedSource,
    rng: np.random.Generator,
    config: SynthesisConfig,
) -> None:
    """The rim of a socket grows around the femoral head (coxa profunda, spurs of the rim), in place.

    A shell about the head becomes hip bone as far along the neck as is drawn, and thins out
    towards its end. The joint between them stays.
    """
    for side, hip in enumerate(src.skeleton.hip):
        deep = rng.random() < config.p_deep_socket
        reach, wall, gap = (
            rng.uniform(*limits) for limits in (config.socket_reach_mm, (2.5, 6.0), (0.5, 2.5))
        )
        if not deep:
            continue
        head = _head_radius(src, side)
        near = np.ones(labels.shape, bool)
        for v, h in zip(warp.full, hip, strict=True):
            near &= np.abs(v - h) < head + 10
        at = np.flatnonzero(near.ravel() & (labels != FEMUR + LEFT * side).ravel())
        along = along_neck(warp.full, at, hip)
        shell = _distance_mm(warp.full, at, hip) - head - gap
        left = wall * np.clip((reach - along) / 12, 0, 1)
        grown = (shell > 0) & (shell < left) & (along > -head)
        at, inside = at[grown], 0.8 + np.minimum(shell, left - shell)[grown]
        # no cortex between what was hip bone before and what has grown on it
        before = np.where(labels.ravel()[at] == HIP + LEFT * side, depth.ravel()[at], 0)
        labels.ravel()[at] = HIP + LEFT * side
        depth.ravel()[at] = np.maximum(before, inside)


def _head_radius(src: PreparedSource, side: int) -> float:
    """Of the femoral head where it faces the socket, mm."""
    points = np.argwhere(src.labels == FEMUR + LEFT * side) * src.step_mm + src.origin_mm
    hip = src.skeleton.hip[side]
    axes = (points[:, 0], points[:, 1], points[:, 2])
    inner = np.flatnonzero(along_neck(axes, np.arange(len(points)), hip) < 0)
    return float(np.quantile(_distance_mm(axes, inner, hip), 0.95))


def open_joints(
    labels: NDArray[np.uint8],
    depth: FloatArray,
    warp: Warp,
    src: PreparedSource,
    rng: np.random.Generator,
    config: SynthesisConfig,
) -> None:
    """Cartilage takes a rim of the femoral head where it faces the socket, in place."""
    for side, hip in enumerate(src.skeleton.hip):
        width = rng.uniform(*config.joint_space_mm)
        if width <= 0:
            continue
        at = np.flatnonzero((labels == FEMUR + LEFT * side) & (depth - 0.8 < width))
        facing = along_neck(warp.full, at, hip) < 10
        facing &= _distance_mm(warp.full, at, hip) < 34
        labels.ravel()[at[facing]] = 0


def harden_joints(
    hu: FloatArray,
    labels: NDArray[np.uint8],
    points: tuple[FloatArray, FloatArray, FloatArray],
    hips: FloatArray,
    axes: Axes,
    seed: int,
    config: SynthesisConfig,
) -> None:
    """Dense femoral heads, and sclerosis: patches on both sides of a hip joint, in place.

    Args:
        hu: (x, y, z), before the scanner.
        labels: sided ids.
        points: source coordinates of the voxels, mm.
        hips: (2, 3) joint centres.
        axes: world mm of the grid.
        seed: of the case.
        config: chance and strength.
    """
    _fill_heads(hu, labels, points, hips, child_rng(seed, "heads").uniform(*config.head_hu))
    rng = child_rng(seed, "sclerosis")
    if rng.random() >= config.p_sclerosis:
        return
    patches: FloatArray | None = None
    for side in (0, 1):
        strength = rng.uniform(*config.sclerosis_hu)
        width = rng.uniform(5, 14)
        if rng.random() < 0.3:
            continue
        at = np.flatnonzero(np.isin(labels, (HIP + LEFT * side, FEMUR + LEFT * side)))
        near = _distance_mm(points, at, hips[side]) - 24
        at, near = at[near < 40], near[near < 40]
        if len(at) == 0:
            continue
        if patches is None:
            patches = NoiseField.draw(rng, 16.0).at(axes).ravel()
        dense = np.exp(-np.square(near / width)) * (1 + 0.5 * patches[at])
        hu.ravel()[at] += np.float32(strength) * np.clip(dense, 0, 2).astype(np.float32)


def _fill_heads(
    hu: FloatArray,
    labels: NDArray[np.uint8],
    points: tuple[FloatArray, FloatArray, FloatArray],
    hips: FloatArray,
    more_hu: float,
) -> None:
    """The head carries the body: its trabeculae are denser than those of neck and pelvis."""
    if more_hu <= 0:
        return
    for side in (0, 1):
        at = np.flatnonzero(
            (labels == FEMUR + LEFT * side) & (np.abs(points[2] - hips[side][2]) < 34)
        )
        inside = 1 - smoothstep(_distance_mm(points, at, hips[side]), 18, 32)
        bone = hu.ravel()[at]
        # cortex is as dense as it can be already
        hu.ravel()[at] = bone + more_hu * inside * np.clip((900 - bone) / 600, 0, 1)


def along_neck(
    points: tuple[FloatArray, FloatArray, FloatArray], at: NDArray[np.intp], hip: FloatArray
) -> FloatArray:
    """From the joint's centre towards the shaft, of the voxels ``at``, mm."""
    x, y, z = (v.ravel()[at] - h for v, h in zip(points, hip, strict=True))
    return np.asarray(0.75 * np.sign(hip[0]) * x + 0.2 * y - 0.63 * z, np.float32)


def _distance_mm(
    points: tuple[FloatArray, FloatArray, FloatArray], at: NDArray[np.intp], hip: FloatArray
) -> FloatArray:
    """From the joint's centre, of the voxels ``at``."""
    squared = sum((v.ravel()[at] - h) ** 2 for v, h in zip(points, hip, strict=True))
    return np.asarray(np.sqrt(squared), np.float32)

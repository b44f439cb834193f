"""From a label map and a seed to a synthetic CT with exact labels.

One case = shape (inverse map) → labels and tissues → Hounsfield units → surroundings → scanner.
Every component draws from its own child of the seed, so that a new component leaves the rest of
a case as it was; everything about the patient is a function of position, so that the same seed at
another voxel size is the same patient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mskt.synthesis import materials as m
from mskt.synthesis import scanner as ct
from mskt.synthesis.beyond import slice_levels
from mskt.synthesis.body import Body, draw_body, skin_distance
from mskt.synthesis.canvas import Canvas
from mskt.synthesis.config import SynthesisConfig
from mskt.synthesis.context import paint_context
from mskt.synthesis.joints import deepen_sockets, grow_osteophytes, harden_joints, open_joints
from mskt.synthesis.labelmap import LabelMap
from mskt.synthesis.lattice import Axes, FloatArray, NoiseField, child_rng, grid_axes, smoothstep
from mskt.synthesis.mass import draw_mass, paint_mass
from mskt.synthesis.metal import Hardware, add_streaks, draw_hardware, place_hardware
from mskt.synthesis.shape import Shape, Warp, build_warp, draw_shape, lookup, swap_sides
from mskt.synthesis.source import (
    COCCYX,
    FEMUR,
    LEFT,
    LUMBAR,
    SACRUM,
    PreparedSource,
    prepare,
)
from mskt.synthesis.surroundings import Scene, paint_surroundings
from mskt.synthesis.tissue import (
    Densities,
    Tissue,
    draw_tissue,
    render,
)
from mskt.synthesis.view import Fov, random_fov, whole_fov

MIDLINE = (SACRUM, COCCYX, LUMBAR)
HU_RANGE = (-1024.0, 3071.0)


@dataclass(frozen=True)
class SyntheticCase:
    """A synthetic CT.

    Attributes:
        image: float32 HU, (x, y, z).
        labels: uint8 sided atom ids, (x, y, z): right = atom, left = atom + 100.
        body: True inside the skin; table, phantom, cloth, hands and forearms are outside.
        affine: voxel index to world mm, RAS.
        meta: what was drawn, JSON-ready.
    """

    image: FloatArray
    labels: NDArray[np.uint8]
    body: NDArray[np.bool_]
    affine: NDArray[np.float64]
    meta: dict[str, Any]


def synthesise(
    source: LabelMap | PreparedSource,
    *,
    seed: int,
    spacing_mm: tuple[float, float, float] = (3.0, 3.0, 3.0),
    fov: Fov | None = None,
    shape: tuple[int, int, int] | None = None,
    config: SynthesisConfig | None = None,
    densities: Densities | None = None,
) -> SyntheticCase:
    """Make one case.

    Args:
        source: a label map; prepare it once (``prepare``) when many cases come from it.
        seed: non-negative; the same seed and source are the same patient on every grid.
        spacing_mm: voxel size.
        fov: the box to show; without it the next two decide.
        shape: voxels of a window placed at random; without it, from below the knees to above
            the iliac crests.
        config: ranges; ``SynthesisConfig.training()`` if not given.
        densities: of this very patient, where the configuration calibrates means; by default
            those of an average one.
    """
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    config = config or SynthesisConfig.training()
    src = prepare(source)
    figure = draw_shape(seed, src, config)
    habitus = draw_body(seed, src, figure, config)
    if fov is None and shape is not None:
        fov = random_fov(src, figure, habitus, shape, spacing_mm, seed, config)
    elif fov is None:
        fov = whole_fov(src, figure, habitus, spacing_mm)
    axes = grid_axes(fov.shape, spacing_mm, fov.origin_mm)
    warp = build_warp(axes, src, figure)
    anatomy = _Anatomy.build(src, figure, habitus, warp, axes, seed, config)
    densities = densities or Densities.average()
    tissue = draw_tissue(seed, config, densities.weakened(figure.atrophy_mm))
    hardware = draw_hardware(seed, src, config)
    metal = place_hardware(hardware, anatomy.labels, anatomy.material, warp.full, src)
    image, extra = _image(
        anatomy, tissue, habitus, figure, src, axes, spacing_mm, seed, config, hardware, metal,
        densities.mean_hu,
    )  # fmt: skip
    labels = anatomy.labels
    if figure.mirror:
        labels = swap_sides(labels, MIDLINE)
    meta = _meta(seed, figure, habitus, tissue, fov, spacing_mm) | extra
    meta["levels"] = slice_levels(warp.full[2], anatomy.body, src.skeleton)
    return SyntheticCase(image, labels, anatomy.body, _affine(fov, spacing_mm), meta)


@dataclass(frozen=True)
class _Anatomy:
    """Labels (in the source's sides), materials and distances on the output grid."""

    labels: NDArray[np.uint8]
    material: NDArray[np.uint8]
    depth_mm: FloatArray
    shaft: FloatArray
    skin_mm: FloatArray
    body: NDArray[np.bool_]
    warp: Warp

    @classmethod
    def build(
        cls,
        src: PreparedSource,
        figure: Shape,
        habitus: Body,
        warp: Warp,
        axes: Axes,
        seed: int,
        config: SynthesisConfig,
    ) -> _Anatomy:
        flip = np.float32(-1 if figure.mirror else 1)
        own_axes = (axes[0] * flip, axes[1], axes[2])
        grow_osteophytes(warp, src, axes, seed, config)
        near = lookup(src.labels, warp.full, src)
        labels = src.labels.ravel()[near]
        depth = src.depth_mm.ravel()[near]
        _sharpen_depth(depth, labels, warp, src)
        _atrophy(labels, depth, figure, own_axes, seed)
        deepen_sockets(labels, depth, warp, src, child_rng(seed, "sockets"), config)
        open_joints(labels, depth, warp, src, child_rng(seed, "joint space"), config)
        skin, trunk, ring = (
            warp.lattice.upsample(v)
            for v in skin_distance(warp.lattice, warp.coarse, warp.web_mm, src, habitus, figure)
        )
        body = (skin < 0) | (labels > 0)
        material = np.where(body, np.uint8(m.FAT), np.uint8(m.AIR))
        free = np.flatnonzero(body.ravel() & (labels.ravel() == 0))
        x, y, z = (v.ravel()[free] for v in warp.full)
        canvas = Canvas(
            voxel=free,
            x=x,
            y=y,
            z=z,
            trunk=trunk.ravel()[free],
            ring=ring.ravel()[free],
            gap_mm=depth.ravel()[free],
            tissue=np.full(len(free), m.FAT, np.uint8),
            axes=own_axes,
            right=float(flip),
        )
        paint_context(canvas, src, habitus, seed, config)
        material.ravel()[free] = canvas.tissue
        rind = (skin > -max(2.0, 0.5 * float(axes[0][1] - axes[0][0]))) & (skin < 0)
        material[rind & (labels == 0)] = m.SKIN
        np.copyto(material, labels, where=labels > 0)
        return cls(labels, material, depth, _shaft(labels, warp, src), skin, body, warp)


def _sharpen_depth(
    depth: FloatArray, labels: NDArray[np.uint8], warp: Warp, src: PreparedSource
) -> None:
    """Replace the nearest by the trilinear border distance on labelled voxels, in place."""
    at = np.flatnonzero(labels)
    if len(at) == 0:
        return
    idx = [
        (v.ravel()[at] - o) / s
        for v, o, s in zip(warp.full, src.origin_mm, src.step_mm, strict=True)
    ]
    depth.ravel()[at] = ndimage.map_coordinates(
        src.depth_mm, idx, order=1, mode="nearest", output=np.float32
    )


def _atrophy(
    labels: NDArray[np.uint8], depth: FloatArray, figure: Shape, axes: Axes, seed: int
) -> None:
    """Muscles lose an uneven rim to fat, in place."""
    rim = np.zeros(256, np.float32)
    for code, loss in figure.atrophy_mm.items():
        rim[code] = loss
    if rim.max() < 0.05:
        return
    uneven = 1 + 0.5 * NoiseField.draw(child_rng(seed, "rim"), 22.0).at(axes)
    labels[depth - 0.8 < rim[labels] * uneven - 0.2 * (rim[labels] == 0)] = 0


def _shaft(labels: NDArray[np.uint8], warp: Warp, src: PreparedSource) -> FloatArray:
    out = np.zeros(labels.shape, np.float32)
    for side in (0, 1):
        knee = float(src.skeleton.knee[side][2])
        for atom in (FEMUR, 39, 40):
            at = np.flatnonzero(labels == atom + LEFT * side)
            if len(at) == 0:
                continue
            z = warp.full[2].ravel()[at]
            if atom == FEMUR:
                out.ravel()[at] = smoothstep(-z, 45, 120) * smoothstep(z - knee, 50, 120)
            else:
                out.ravel()[at] = smoothstep(knee - z, 50, 120)
    return out


def _image(
    anatomy: _Anatomy,
    tissue: Tissue,
    habitus: Body,
    figure: Shape,
    src: PreparedSource,
    axes: Axes,
    spacing: tuple[float, float, float],
    seed: int,
    config: SynthesisConfig,
    hardware: Hardware,
    metal: NDArray[np.bool_],
    mean_hu: Mapping[int, float],
) -> tuple[FloatArray, dict[str, Any]]:
    """Hounsfield units as the scanner would give them."""
    hu = render(anatomy.material, anatomy.depth_mm, anatomy.shaft, axes, tissue, seed)
    harden_joints(hu, anatomy.labels, anatomy.warp.full, src.skeleton.hip, axes, seed, config)
    mass = draw_mass(seed, src, config)
    if mass is not None:
        paint_mass(mass, hu, anatomy.labels, anatomy.body, anatomy.warp.full, axes, seed)
    edge = np.clip(0.5 - anatomy.skin_mm / np.float32(spacing[0]), 0, 1)
    edge[anatomy.labels > 0] = 1
    hu = hu * edge + np.float32(ct.AIR_HU) * (1 - edge)
    levels = (0.0, float(figure.scale[2]) * src.skeleton.crest_z)
    scene = Scene(hu, anatomy.body, axes, spacing)
    objects = paint_surroundings(scene, habitus, seed, config, levels)
    device = ct.draw_scanner(seed, config)
    out = ct.blur(hu, spacing, device)
    if config.calibrate_means:
        out = _calibrate(hu, out, anatomy.labels, spacing, device, mean_hu)
    out = ct.harden(out, anatomy.body, axes, device)
    if hardware.hips or hardware.screws:
        out = add_streaks(out, metal, axes, hardware.streak_hu, seed)
    out = ct.add_noise(out, anatomy.body, spacing, device, seed)
    middle = (float(axes[0].mean()), float(axes[1].mean()))
    out = ct.truncate(out, axes, middle, device)
    unseen = ct.unseen(axes, middle, device)
    anatomy.labels[unseen] = 0
    anatomy.body[unseen] = False
    np.clip(out, *HU_RANGE, out=out)
    return out.astype(np.float32), {
        "objects": objects,
        "scanner": asdict(device)
        | ({} if np.isfinite(device.truncate_mm) else {"truncate_mm": None}),
        "hip_implants": len(hardware.hips),
        "screws": len(hardware.screws),
        "mass_mm": None if mass is None else [round(float(r), 1) for r in mass.radii],
    }


def _calibrate(
    hu: FloatArray,
    blurred: FloatArray,
    labels: NDArray[np.uint8],
    spacing: tuple[float, float, float],
    device: ct.Scanner,
    mean_hu: Mapping[int, float],
) -> FloatArray:
    """Shift each structure until its mean after blur is the patient's."""
    goal = np.zeros(256)
    goal[list(mean_hu)] = list(mean_hu.values())
    flat = labels.ravel()
    count = np.maximum(np.bincount(flat, minlength=256), 1)
    for _ in range(3):
        now = np.bincount(flat, weights=blurred.ravel(), minlength=256) / count
        shift = np.where(goal != 0, goal - now, 0)
        shift[0] = 0
        hu = hu + shift.astype(np.float32)[labels]
        blurred = ct.blur(hu, spacing, device)
    return blurred


def _affine(fov: Fov, spacing: tuple[float, float, float]) -> NDArray[np.float64]:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = fov.origin_mm
    return affine


def _meta(
    seed: int,
    figure: Shape,
    habitus: Body,
    tissue: Tissue,
    fov: Fov,
    spacing: tuple[float, float, float],
) -> dict[str, Any]:
    return {
        "synthetic": True,
        "seed": seed,
        "spacing_mm": list(spacing),
        "fov": asdict(fov),
        "mirror": figure.mirror,
        "scale": figure.scale.tolist(),
        "tilt_deg": figure.tilt.tolist(),
        "legs_deg": figure.legs.tolist(),
        "flattening": figure.flattening,
        "fat_mm": habitus.fat_mm,
        "visceral": habitus.visceral,
        "fat_hu": tissue.fat_hu,
        "infiltration": float(tissue.infiltration[1:30].mean()),
    }


__all__ = [
    "Fov",
    "PreparedSource",
    "SynthesisConfig",
    "SyntheticCase",
    "prepare",
    "synthesise",
]

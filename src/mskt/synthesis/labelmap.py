"""A label map in world millimetres: the currency of the synthesis package.

Ids follow one rule everywhere: right side = atom index, left side = atom index + 100,
midline bones = atom index. World coordinates are RAS mm (+x right, +y anterior, +z superior).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

LEFT_OFFSET = 100

# Position = id. The same order stands in the package's table of atoms.
ATOM_NAMES: tuple[str, ...] = (
    "background",
    "gluteus_maximus",
    "gluteus_medius",
    "gluteus_minimus",
    "iliacus_proximal",
    "iliacus_distal",
    "psoas_major_proximal",
    "psoas_major_distal",
    "obturator_externus",
    "obturator_internus",
    "gemellus_superior",
    "gemellus_inferior",
    "quadratus_femoris",
    "piriformis",
    "pectineus",
    "adductor_longus",
    "adductor_brevis",
    "adductor_magnus",
    "adductor_minimus",
    "gracilis",
    "sartorius",
    "rectus_femoris",
    "vastus_lateralis",
    "vastus_intermedius",
    "vastus_medialis",
    "biceps_femoris_long_head",
    "biceps_femoris_short_head",
    "semimembranosus",
    "semitendinosus",
    "tensor_fasciae_latae",
    "abdominal_oblique",
    "rectus_abdominis",
    "multifidus",
    "hip_bone",
    "femur",
    "patella",
    "sacrum",
    "coccyx",
    "lumbar_vertebra",
    "tibia",
    "fibula",
    "lower_leg_muscle",
)
ATOM_IDS: Mapping[str, int] = {name: i for i, name in enumerate(ATOM_NAMES) if i}
MIDLINE: frozenset[int] = frozenset(
    ATOM_IDS[name] for name in ("sacrum", "coccyx", "lumbar_vertebra")
)
# Every id a synthetic label map may hold, background excluded.
ALL_IDS: frozenset[int] = frozenset(ATOM_IDS.values()) | frozenset(
    i + LEFT_OFFSET for i in ATOM_IDS.values() if i not in MIDLINE
)

_LEG_MUSCLES = frozenset(
    {
        "gastrocnemius_medial",
        "gastrocnemius_lateral",
        "popliteus",
        "plantaris",
        "soleus",
        "tibialis_anterior",
        "tibialis_posterior",
        "peroneus_longus",
        "extensor_digitorum_longus",
        "extensor_hallucis_longus",
        "flexor_digitorum_longus",
        "flexor_hallucis_longus",
    }
)


@dataclass(frozen=True, slots=True)
class LabelMap:
    """Labels of one person on one grid.

    Attributes:
        labels: ``(x, y, z)`` uint8, ids as in ``ALL_IDS``, 0 is unlabelled.
        affine: ``(4, 4)`` float64, voxel index to world RAS mm.
        landmarks: name to ``(3,)`` float64 world mm: ``hip_right/left`` (centre of the femoral
            head), ``knee_right/left`` (middle of the distal end of the femur),
            ``crest_right/left`` (top of the iliac crest).
    """

    labels: NDArray[np.uint8]
    affine: NDArray[np.float64]
    landmarks: Mapping[str, NDArray[np.float64]]

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """``(3,)`` voxel size in mm."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def crest_z(self) -> float:
        """Mean height of the two iliac crests, mm."""
        return float((self.landmarks["crest_right"][2] + self.landmarks["crest_left"][2]) / 2)

    def volumes_cm3(self) -> dict[int, float]:
        """Volume of every id that occurs, in cm³."""
        counts = np.bincount(self.labels.ravel(), minlength=256)
        voxel_cm3 = float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0
        return {int(i): float(counts[i]) * voxel_cm3 for i in np.flatnonzero(counts) if i}

    @classmethod
    def from_shared(cls, path: Path | str, table: Path | str) -> LabelMap:
        """Read a segmented person (NIfTI) with its table of names (JSON) into the ids used here.

        Args:
            path: NIfTI label map of one person, any axis-aligned orientation.
            table: JSON object, label id to name such as ``"gluteus_medius_left"``.

        Structures without an atom are dropped; landmarks are estimated from femurs and hip bones.
        """
        import nibabel as nib

        image: Any = nib.as_closest_canonical(nib.load(str(path)))  # type: ignore[no-untyped-call]
        source = np.asarray(image.dataobj).astype(np.uint8)
        names = json.loads(Path(table).read_text())
        lookup = np.zeros(256, np.uint8)
        for key, name in names.items():
            lookup[int(key)] = _id_of(str(name))
        labels = lookup[source]
        affine = np.asarray(image.affine, np.float64)
        landmarks, radius_mm = find_landmarks(labels, affine)
        for side, offset in (("right", 0), ("left", LEFT_OFFSET)):
            edge_mm = landmarks[f"hip_{side}"][2] + radius_mm[side]
            _split_iliopsoas(labels, affine, offset, float(edge_mm))
        return cls(labels, affine, landmarks)


def _id_of(name: str) -> int:
    """Synthesis id of a source name; 0 when there is no atom for it."""
    if name in ATOM_IDS and ATOM_IDS[name] in MIDLINE:
        return ATOM_IDS[name]
    stem, _, side = name.rpartition("_")
    offset = LEFT_OFFSET if side == "left" else 0
    if stem in _LEG_MUSCLES:
        stem = "lower_leg_muscle"
    stem = {
        "pelvis_hip_bone": "hip_bone",
        "iliacus": "iliacus_proximal",
        "psoas_major": "psoas_major_proximal",
    }.get(stem, stem)
    return ATOM_IDS[stem] + offset if stem in ATOM_IDS else 0


def _split_iliopsoas(
    labels: NDArray[np.uint8], affine: NDArray[np.float64], offset: int, edge_mm: float
) -> None:
    """Rename iliacus and psoas below ``edge_mm`` to their distal parts, in place.

    The cut is the upper edge of the femoral head: the `iliopsoas` class of Kim et al. (2024) is
    the conjoint part below it, so coarser label sets can be had by merging atoms.
    """
    first_proximal = int(np.ceil((edge_mm - affine[2, 3]) / affine[2, 2]))
    below = labels[:, :, : max(first_proximal, 0)]
    for muscle in ("iliacus", "psoas_major"):
        below[below == ATOM_IDS[f"{muscle}_proximal"] + offset] = (
            ATOM_IDS[f"{muscle}_distal"] + offset
        )


def find_landmarks(
    labels: NDArray[np.uint8], affine: NDArray[np.float64]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, float]]:
    """Hip, knee and crest points of an axis-aligned RAS label map, and the head radii in mm.

    Raises:
        ValueError: a femur or hip bone is missing.
    """
    landmarks: dict[str, NDArray[np.float64]] = {}
    radius_mm: dict[str, float] = {}
    for side, offset in (("right", 0), ("left", LEFT_OFFSET)):
        femur = _points(labels == ATOM_IDS["femur"] + offset, affine)
        hip_bone = _points(labels == ATOM_IDS["hip_bone"] + offset, affine)
        if not len(femur) or not len(hip_bone):
            raise ValueError(f"no {side} femur or hip bone: landmarks cannot be estimated")
        centre, radius = femoral_head(labels == ATOM_IDS["femur"] + offset, affine)
        landmarks[f"hip_{side}"] = centre
        radius_mm[side] = radius
        bottom = femur[:, 2].min()
        condyles = femur[femur[:, 2] < bottom + 20.0]
        landmarks[f"knee_{side}"] = np.array(
            [*((condyles[:, :2].min(0) + condyles[:, :2].max(0)) / 2), bottom]
        )
        landmarks[f"crest_{side}"] = hip_bone[hip_bone[:, 2] >= hip_bone[:, 2].max() - 0.1].mean(0)
    return landmarks, radius_mm


def _points(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(n, 3)`` world mm of the voxels of a mask."""
    return np.asarray(np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3])


def femoral_head(
    femur: NDArray[np.bool_], affine: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Centre ``(3,)`` mm and radius mm of the sphere that fits the head of one femur.

    The deepest point of the proximal 60 mm starts the fit (nothing there is thicker than the
    head); surface voxels near the sphere then refine it, so neck and trochanter drop out.
    """
    box = ndimage.find_objects(femur.astype(np.uint8))[0]
    pad = [slice(max(s.start - 1, 0), s.stop + 1) for s in box]
    sub = np.pad(femur[tuple(pad)], 1)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    origin = affine[:3, :3] @ (np.array([p.start for p in pad]) - 1.0) + affine[:3, 3]
    sub[:, :, : max(sub.shape[2] - int(60.0 / spacing[2]), 0)] = False
    depth = ndimage.distance_transform_edt(sub, sampling=spacing)
    start = np.unravel_index(int(depth.argmax()), depth.shape)
    centre = affine[:3, :3] @ np.array(start) + origin
    radius = float(depth.max())
    surface = np.argwhere(sub & (depth <= spacing.max() * 1.01)) @ affine[:3, :3].T + origin
    for tolerance in (6.0, 4.0, 3.0, 3.0, 2.0, 2.0, 2.0):
        distance = np.linalg.norm(surface - centre, axis=1)
        near = surface[np.abs(distance - radius) < tolerance]
        if len(near) < 20:
            break
        design = np.c_[2 * near, np.ones(len(near))]
        solution, *_ = np.linalg.lstsq(design, (near**2).sum(1), rcond=None)
        centre = solution[:3]
        radius = float(np.sqrt(solution[3] + centre @ centre))
    return np.asarray(centre, np.float64), radius + float(spacing.mean()) / 2

"""A label map in world millimetres: the currency of the synthesis package.

Ids follow one rule everywhere: right side = atom index, left side = atom index + 100,
midline bones = atom index. World coordinates are RAS mm (+x right, +y anterior, +z superior).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mskt.core.anatomy import LEFT_OFFSET as LEFT_OFFSET
from mskt.core.anatomy import Element, LabelSet, Structure, with_anatomy
from mskt.core.cases import load_label_map
from mskt.core.cases.tables import table_beside
from mskt.core.errors import InputError
from mskt.core.interfaces import LoadOptions
from mskt.core.registry import registry
from mskt.core.resample import resample_labels, working_grid
from mskt.core.sides import separate_sides
from mskt.core.volume import Labels, to_canonical

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
_ALIASES: Mapping[str, str] = {"pelvis_hip_bone": "hip_bone"}
_CUT = frozenset({ATOM_IDS["iliacus_proximal"], ATOM_IDS["psoas_major_proximal"]})
_DISTAL = frozenset({"iliacus_distal", "psoas_major_distal"})
_FINE_MM, _USEFUL_MM, _STRAIGHT_DEG = 1.5, 2.0, 0.1


@dataclass(frozen=True, slots=True)
class LabelMap:
    """Labels of one person on one grid.

    Attributes:
        labels: ``(x, y, z)`` uint8, ids as in ``ALL_IDS``, 0 is unlabelled.
        affine: ``(4, 4)`` float64, voxel index to world RAS mm.
        landmarks: name to ``(3,)`` float64 world mm: ``hip_right/left`` (centre of the femoral
            head), ``knee_right/left`` (middle of the distal end of the femur),
            ``crest_right/left`` (top of the iliac crest).
        meaning: elements that each id stands for, of all structures that were annotated; an id may
            stand for several atoms (``adductors``). None: every id for its own atom.
    """

    labels: NDArray[np.uint8]
    affine: NDArray[np.float64]
    landmarks: Mapping[str, NDArray[np.float64]]
    meaning: LabelSet | None = None

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
    def from_file(cls, mask: Path | str, table: Path | str | None = None) -> LabelMap:
        """Read a segmented person: a label map, or a folder with one mask a structure.

        Args:
            mask: any format and orientation that mskt reads; from both iliac crests to both knees.
                What is finer than 1.5 mm, or oblique, is brought to 2 mm along the world's axes.
            table: names of its values (TSV or JSON); by default the table that lies beside it.
                Names are those of the label sets or atoms, with or without a side; where they have
                none, sides are told apart by where they lie. Names without anatomy are dropped.

        Returns:
            The map with its ``meaning``; landmarks are estimated from femurs and hip bones.

        Raises:
            InputError: no table, a value that it does not name, no labelled voxel, or a femur or
                hip bone is missing.
        """
        found = _load(Path(mask), Path(table) if table else None)
        names = with_anatomy(_with_aliases(found.label_set))
        found = _upright(replace(found, label_set=names))
        labels, meaning = _as_atoms(found)
        affine = found.affine
        if not labels.any():
            raise InputError(
                Path(mask).name,
                "has no voxel of a muscle or bone that mskt knows",
                "Name its values by the label sets of mskt (docs/training-data.md).",
            )
        try:
            landmarks, radius_mm = find_landmarks(labels, affine)
        except InputError as error:
            raise InputError(Path(mask).name, error.fault, error.remedy) from error
        for side, offset in (("right", 0), ("left", LEFT_OFFSET)):
            edge_mm = landmarks[f"hip_{side}"][2] + radius_mm[side]
            _split_iliopsoas(labels, affine, offset, float(edge_mm))
        return cls(labels, affine, landmarks, meaning)


def _load(mask: Path, table: Path | None) -> Labels:
    """The label map with the names of its values, axes right, anterior, superior."""
    table = table or (None if mask.is_dir() else table_beside(mask))
    if table is None and not mask.is_dir():
        raise InputError(
            mask.name,
            "has no table that names its values",
            "Put a table of the same name beside it (.tsv with the columns index and name, or "
            ".json), or dseg.tsv; or give one.",
        )
    found = load_label_map(mask, LoadOptions(), registry(), table)
    if not found.data.any():
        raise InputError(mask.name, "has no labelled voxel", "Leave it out.")
    return Labels(
        to_canonical(found.data, found.grid), found.grid.canonical().affine, found.label_set
    )


def _with_aliases(names: LabelSet) -> LabelSet:
    """Elements for names that the label sets do not have: those of the shared maps' table."""
    found = []
    for structure in names.structures:
        stem, _, side = structure.name.rpartition("_")
        atom = "lower_leg_muscle" if stem in _LEG_MUSCLES else _ALIASES.get(stem)
        if atom and not structure.elements:
            structure = replace(structure, elements=frozenset({(atom, side)}))
        found.append(structure)
    return LabelSet(names.name, tuple(found))


def _upright(labels: Labels) -> Labels:
    """The map along the world's axes, at 2 mm where it is finer than synthesis can use."""
    grid = labels.grid
    if min(grid.spacing_mm) >= _FINE_MM and grid.obliquity_deg < _STRAIGHT_DEG:
        affine = np.diag([*grid.spacing_mm, 1.0])
        affine[:3, 3] = grid.affine[:3, 3]
        return replace(labels, affine=affine)
    x, y, z = (max(mm, _USEFUL_MM) if mm < _FINE_MM else mm for mm in grid.spacing_mm)
    target = working_grid(grid, (x, y, z), keep_axes_up_to_deg=_STRAIGHT_DEG)
    return _upright(
        Labels(resample_labels(labels.data, grid, target), target.affine, labels.label_set)
    )


def _as_atoms(found: Labels) -> tuple[NDArray[np.uint8], LabelSet]:
    """Ids of this package for the values of a map, and what each id stands for.

    A structure of several atoms is painted as the first of them. Iliacus and psoas are given as
    their proximal parts here; :func:`_split_iliopsoas` cuts them.
    """
    sided = np.zeros((3, 256), np.uint8)
    pieces: dict[int, frozenset[Element]] = {}
    for structure in found.label_set.structures:
        for side, row in (("right", 1), ("left", 2), ("midline", 0)):
            mine = frozenset(one for one in structure.elements if one[1] == side)
            if not mine:
                continue
            parts = _pieces(mine)
            for id_, elements in parts.items():
                pieces[id_] = pieces.get(id_, frozenset()) | elements
            rows = [row] if structure.side == "both" and side != "midline" else [0, 1, 2]
            sided[rows, structure.index] = min(parts)
    both = any(s.side == "both" and _paired(s) for s in found.label_set.structures)
    sides = separate_sides(found.data, found.grid, found.label_set) if both else 0
    meaning = tuple(
        Structure(id_, f"id_{id_}", elements=elements) for id_, elements in sorted(pieces.items())
    )
    return np.asarray(sided[sides, found.data], np.uint8), LabelSet("meaning", meaning)


def _paired(structure: Structure) -> bool:
    return any(side != "midline" for _, side in structure.elements)


def _pieces(elements: frozenset[Element]) -> dict[int, frozenset[Element]]:
    """Id of a structure of one side; of two, where it is cut at the femoral head."""
    id_ = min(_element_id(one) for one in elements)
    distal = frozenset(one for one in elements if one[0] in _DISTAL)
    if id_ % LEFT_OFFSET in _CUT and distal:
        lower = min(_element_id(one) for one in distal)
        return {id_: elements - distal, lower: distal}
    return {id_: elements}


def _element_id(element: Element) -> int:
    name, side = element
    return ATOM_IDS[name] + (LEFT_OFFSET if side == "left" else 0)


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
        InputError: a femur or hip bone is missing.
    """
    landmarks: dict[str, NDArray[np.float64]] = {}
    radius_mm: dict[str, float] = {}
    for side, offset in (("right", 0), ("left", LEFT_OFFSET)):
        femur = _points(labels == ATOM_IDS["femur"] + offset, affine)
        hip_bone = _points(labels == ATOM_IDS["hip_bone"] + offset, affine)
        if not len(femur) or not len(hip_bone):
            missing = [
                f"no {side} {name}"
                for name, points in (("femur", femur), ("hip bone", hip_bone))
                if not len(points)
            ]
            raise InputError(
                "label map",
                f"has {' and '.join(missing)}",
                "Synthesis measures hips and legs on both femurs and both hip bones: use maps that "
                "have all four.",
            )
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

"""Surfaces of the structures for the 3-D view, as MZ3: triangles that a browser takes as they are."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from isal import igzip
from numpy.typing import NDArray
from scipy.ndimage import find_objects, gaussian_filter, zoom

from mskt.core.anatomy import LabelSet

_VOXEL_MM = 3.0
_SMOOTH_MM = 2.4
_FEWEST_VOXELS = 12
_MAGIC, _FACES_AND_VERTICES = 23117, 3


@dataclass(frozen=True)
class Surface:
    """One structure of one side.

    Attributes:
        name: canonical, with its side where it has one.
        structure, side: as in the results table.
        mz3: gzipped MZ3 file, vertices in RAS mm.
    """

    name: str
    structure: str
    side: str
    color: str
    mz3: bytes


def surfaces(
    labels: NDArray[np.uint8],
    sides: NDArray[np.uint8],
    affine: NDArray[np.float64],
    label_set: LabelSet,
) -> Iterator[Surface]:
    """One surface for each structure and side, smoothed by a little less than its voxels.

    Args:
        labels: canonical label map as it is shown.
        sides: 1 right, 2 left, 0 neither.
        affine: voxel to RAS mm.
        label_set: of ``labels``; what has a few voxels only gets no surface.
    """
    boxes = find_objects(labels)
    for structure in label_set.structures:
        box = boxes[structure.index - 1] if structure.index <= len(boxes) else None
        if box is None:
            continue
        mine = labels[box] == structure.index
        start = np.array([part.start for part in box], float)
        for code, side in ((1, "right"), (2, "left"), (0, "both")):
            mask = mine & (sides[box] == code) if structure.side == "both" else mine & (code == 0)
            if mask.sum() < _FEWEST_VOXELS:
                continue
            shown = structure.side if structure.side in ("left", "right") else side
            points, faces = _triangles(mask, affine, start)
            name = structure.name if side == "both" else f"{structure.name} {side}"
            yield Surface(name, structure.name, shown, structure.color, mz3(points, faces))


def _triangles(
    mask: NDArray[np.bool_], affine: NDArray[np.float64], start: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Marching cubes on the smoothed mask, coarser where its voxels are finer than needed."""
    from skimage.measure import marching_cubes

    mm = np.linalg.norm(affine[:3, :3], axis=0)
    room = np.pad(mask.astype(np.float32), 3)
    soft = gaussian_filter(room, _SMOOTH_MM / mm)
    factors = np.minimum(1.0, mm / _VOXEL_MM)
    coarse = zoom(soft, factors, order=1, grid_mode=False)
    if coarse.max() <= 0.5:  # thinner than the smoothing: as it is, without
        coarse = room
    scale = (np.array(room.shape) - 1) / np.maximum(1, np.array(coarse.shape) - 1)
    points, faces, _, _ = marching_cubes(coarse, 0.5, allow_degenerate=False)
    voxels = points * scale - 3 + start
    world = voxels @ affine[:3, :3].T + affine[:3, 3]
    return world.astype(np.float32), faces[:, ::-1].astype(np.int32)


def mz3(points: NDArray[np.float32], faces: NDArray[np.int32]) -> bytes:
    """A gzipped MZ3 file: header, faces, vertices, little-endian.

    Args:
        points: vertices ``(n, 3)`` in mm.
        faces: indices of vertices ``(m, 3)``.
    """
    head = struct.pack("<HHIII", _MAGIC, _FACES_AND_VERTICES, len(faces), len(points), 0)
    body = (
        np.ascontiguousarray(faces, "<i4").tobytes() + np.ascontiguousarray(points, "<f4").tobytes()
    )
    return igzip.compress(head + body, compresslevel=3, mtime=0)

"""After labelling: one piece a structure and side, and what the scan cuts off."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mskt.core.anatomy import LabelSet
from mskt.core.components import Runs, connected
from mskt.core.foreground import foreground_box
from mskt.core.sides import SIDE_NAMES
from mskt.core.volume import Volume

DENSE_HU: Final = -500.0
"""Between air and fat."""


def keep_largest(
    labels: NDArray[np.uint8], sides: NDArray[np.uint8], label_set: LabelSet
) -> dict[str, int]:
    """Keep the largest connected component of each structure and side; the rest is background.

    Works **in place**: both ``labels`` and ``sides`` are set to 0 where voxels are removed. Of
    components of equal size the first in memory stays.

    Args:
        labels: label map, changed.
        sides: what :func:`separate_sides` gave for it, changed.
        label_set: names the structures.

    Returns:
        Number of voxels removed, by name, for each structure that occurs in ``labels``.
    """
    box = foreground_box(labels)
    if box is None:
        return {}
    labels, sides = labels[box], sides[box]
    codes = _codes(labels, sides)
    runs = Runs.of(connected(codes))
    code = np.zeros(int(runs.value.max()) + 1, np.int64)
    code[runs.value] = runs.looked_up(codes)
    voxels = runs.voxels()
    voxels[0] = 0
    by_size = np.argsort(voxels, kind="stable")[::-1]
    _, first = np.unique(code[by_size], return_index=True)
    drop = np.ones(code.size, bool)
    drop[by_size[first]] = False
    drop[0] = False
    if drop.any():
        runs.clear(drop[runs.value], labels, sides)
    removed = np.bincount(code // 3, weights=voxels * drop, minlength=256)
    present = set(np.unique(code // 3).tolist())
    return {s.name: int(removed[s.index]) for s in label_set.structures if s.index in present}


def truncated(
    labels: NDArray[np.uint8], sides: NDArray[np.uint8], label_set: LabelSet
) -> frozenset[tuple[int, str]]:
    """Find the structures that the field of view cuts: those with a voxel on its border.

    The border is the first and last slice and the edge of the image along every axis.

    Returns:
        ``(index, side)`` with the side ``left``, ``right`` or ``both``; a structure that is cut on
        one side is cut as a whole too, so ``both`` stands beside ``left`` or ``right``.
    """
    found: set[tuple[int, str]] = set()
    for axis in range(3):
        for end in (0, -1):
            face = tuple(end if a == axis else slice(None) for a in range(3))
            found |= _cut(labels[face], sides[face], label_set)
    return frozenset(found)


def ends_inside(working: Volume, image: Volume) -> list[NDArray[np.int64]]:
    """Where a working grid ends although the image and the body in it go on.

    Args:
        working: on a grid of the segmenter, at any angle to the image; its mask says where the part
            of the body is that it is for (one leg).
        image: HU; what is denser than :data:`DENSE_HU` is body, or something that lies on it.

    Returns:
        Image indices ``(n, 3)`` of the last voxels inside, for each end (two for each axis) that
        has any: those of the outermost layer, and those one voxel further in, whichever grid is
        the coarser.
    """
    to_index = np.linalg.inv(image.affine) @ working.affine
    shape, size = working.data.shape, np.asarray(image.data.shape)
    coarser = np.abs(to_index[:3, :3]).sum(axis=0)  # image voxels to a step along each axis
    found = []
    for axis in range(3):
        inwards = max(1.0, 1.0 / float(coarser[axis]))
        for end, step in ((0, 1), (shape[axis] - 1, -1)):
            spans = [np.array([end]) if a == axis else np.arange(n) for a, n in enumerate(shape)]
            face = np.stack(np.meshgrid(*spans, indexing="ij"), axis=-1).reshape(-1, 3)
            if working.mask is not None:
                face = face[working.mask[tuple(face.T)]]
            along = np.eye(3)[axis] * step
            beyond, first, second = (
                np.rint((face + shift * along) @ to_index[:3, :3].T + to_index[:3, 3]).astype(int)
                for shift in (-1.0, 0.0, inwards)
            )
            known = ((beyond >= 0) & (beyond < size)).all(axis=1)
            known[known] = image.data[tuple(beyond[known].T)] > DENSE_HU
            last = np.concatenate([first[known], second[known]])
            last = last[((last >= 0) & (last < size)).all(axis=1)]
            if len(last):
                found.append(np.unique(last, axis=0))
    return found


def cut_by_grid(
    labels: NDArray[np.uint8],
    sides: NDArray[np.uint8],
    label_set: LabelSet,
    ends: Iterable[NDArray[np.int64]],
) -> frozenset[tuple[int, str]]:
    """Find the structures that reach an end of a working grid: they are cut there.

    Args:
        labels: label map.
        sides: of its voxels, as for :func:`truncated`.
        label_set: names the structures.
        ends: of :func:`ends_inside`.

    Returns:
        As :func:`truncated`.
    """
    found: set[tuple[int, str]] = set()
    for end in ends:
        at = tuple(end.T)
        found |= _cut(labels[at], sides[at], label_set)
    return frozenset(found)


def without_voxels(
    labels: NDArray[np.uint8], sides: NDArray[np.uint8], label_set: LabelSet
) -> frozenset[tuple[int, str]]:
    """Structures and sides of which no voxel was found, as :func:`truncated` names them."""
    found: set[tuple[int, str]] = set()
    there = np.zeros(256 * 3, bool)
    box = foreground_box(labels)
    if box is not None:
        there[Runs.of(_codes(labels[box], sides[box])).value] = True
    for index in label_set.by_index:
        shown = there[3 * index : 3 * index + 3]
        found |= {
            (index, side) for side, yes in zip(SIDE_NAMES[1:], shown[1:], strict=True) if not yes
        }
        if not shown.any():
            found.add((index, "both"))
    return frozenset(found)


def _cut(
    labels: NDArray[np.uint8], sides: NDArray[np.uint8], label_set: LabelSet
) -> set[tuple[int, str]]:
    """What occurs among voxels at a border, as ``(index, side)``, and ``both`` beside each side."""
    found: set[tuple[int, str]] = set()
    codes = labels.astype(np.int64) * 3 + sides
    for code in np.flatnonzero(np.bincount(codes.ravel())).tolist():
        if code // 3 in label_set.by_index:
            found |= {(code // 3, "both"), (code // 3, SIDE_NAMES[code % 3])}
    return found


def _codes(labels: NDArray[np.uint8], sides: NDArray[np.uint8]) -> NDArray[Any]:
    """One number for structure and side, ``3·label + side``, in the smallest type that holds it."""
    dtype = np.uint8 if int(labels.max()) * 3 + 2 < 256 else np.uint16
    codes: NDArray[Any] = np.empty_like(labels, dtype=dtype)
    np.multiply(labels, 3, out=codes, dtype=dtype)
    np.add(codes, sides, out=codes, where=labels != 0)
    return codes

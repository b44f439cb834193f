"""One mask as a label map on the grid of its image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mskt.core.cases import loader_for
from mskt.core.cases.loading import combine_masks
from mskt.core.errors import GeometryError, InputError
from mskt.core.interfaces import LoadOptions
from mskt.core.registry import registry
from mskt.core.resample import resample_labels
from mskt.core.volume import Grid, to_canonical
from mskt.plugins.baselines.precomputed.finding import Mask
from mskt.plugins.baselines.precomputed.meaning import Meaning

SAME_GRID_MM = 0.01
FULL_COVER = 0.999
"""A mask that covers this part of the image covers it all."""
MOST_OVERLAP = 0.01
"""Masks of one case that share more than this part of the smaller one contradict each other."""


def on_grid(mask: Mask, meaning: Meaning, grid: Grid) -> tuple[NDArray[np.uint8], list[str]]:
    """The labels of a mask on the canonical grid of an image, and what is to be said about them.

    Args:
        mask: of the case.
        meaning: of its values or names.
        grid: canonical.

    Returns:
        uint8 indices of ``meaning.label_set``, and notes.

    Raises:
        GeometryError: mask and image show nothing in common.
        InputError: the mask cannot be read, or has values without a name.
    """
    read = _folder if mask.path.is_dir() else _file
    labels, own, notes = read(mask, meaning)
    own_canonical = own.canonical()
    if own_canonical.same_as(grid, tolerance_mm=SAME_GRID_MM):
        return to_canonical(labels, own), notes
    covered = _covered(grid, own)
    if covered == 0:
        raise GeometryError(
            mask.path.name,
            f"shows another place than its image: {_told(own_canonical)}; image {_told(grid)}",
            "Check that the mask is of this case and was exported with the image's position.",
        )
    notes.append(
        f"mask {mask.path.name} lies on another grid ({_told(own_canonical)}): nearest label taken"
    )
    if covered < FULL_COVER:
        notes.append(f"the mask covers {100 * covered:.0f} % of the image; background beyond it")
    return resample_labels(labels, own, grid), notes


def _file(mask: Mask, meaning: Meaning) -> tuple[NDArray[np.uint8], Grid, list[str]]:
    """A label map with a value for each structure."""
    values, affine = loader_for(mask.path, registry()).load_labels(mask.path, LoadOptions())
    i, j, k = values.shape
    present = np.unique(values)
    index_of = {value: meaning.label_set[name].index for name, value in meaning.values.items()} | {
        0: 0
    }
    unnamed = [int(value) for value in present if int(value) not in index_of]
    if unnamed and meaning.others == "refuse":
        shown = ", ".join(map(str, unnamed[:10])) + (", …" if len(unnamed) > 10 else "")
        raise InputError(
            mask.path.name,
            f"has values without a name: {shown}",
            f"The table {meaning.label_set.name!r} names {len(index_of) - 1} structures: give the "
            "table of these masks (--option label_set=FILE).",
        )
    known = np.array([index_of.get(int(value), 0) for value in present], np.uint8)
    labels = known[np.searchsorted(present, values)]
    notes = [f"{len(unnamed)} other values of the mask are background"] if unnamed else []
    return np.asarray(labels, np.uint8), Grid((i, j, k), affine), notes


def _folder(mask: Mask, meaning: Meaning) -> tuple[NDArray[np.uint8], Grid, list[str]]:
    """One mask for each structure."""
    overlaps: dict[str, float] = {}
    found = combine_masks(mask.path, LoadOptions(), registry(), overlaps.__setitem__)
    worst = max(overlaps, key=lambda name: overlaps[name], default="")
    if worst and overlaps[worst] > MOST_OVERLAP:
        raise InputError(
            f"{mask.path.parent.name}/{mask.path.name}",
            f"the mask {worst!r} lies to {100 * overlaps[worst]:.1f} % in masks before it",
            "A voxel has one label: remove one of the masks that say the same, or merge them.",
        )
    notes = [
        f"{', '.join(sorted(overlaps))}: a few voxels are in an earlier mask too, which has them"
    ]
    wanted = meaning.label_set.by_name
    table = np.zeros(256, np.uint8)
    for structure in found.label_set.structures:
        if structure.name in wanted:
            table[structure.index] = wanted[structure.name].index
    return table[found.data], found.grid, notes if overlaps else []


def _covered(grid: Grid, own: Grid) -> float:
    """Part of the image's voxels whose centres lie in the mask's field of view, by a sample."""
    steps = [np.linspace(0, n - 1, min(n, 24)) for n in grid.shape]
    index = np.stack([*np.meshgrid(*steps, indexing="ij"), np.ones([len(s) for s in steps])])
    place: NDArray[Any] = np.tensordot(np.linalg.inv(own.affine) @ grid.affine, index, axes=1)[:3]
    size = np.asarray(own.shape, float)[:, None, None, None]
    return float(((place > -0.5) & (place < size - 0.5)).all(axis=0).mean())


def _told(grid: Grid) -> str:
    shape, mm = ("×".join(map(str, grid.shape)), "×".join(f"{s:.4g}" for s in grid.spacing_mm))
    first = ", ".join(f"{v:.1f}" for v in grid.affine[:3, 3])
    return f"{shape} voxels of {mm} mm, first at ({first})"

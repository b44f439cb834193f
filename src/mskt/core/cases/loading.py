"""Read the image or the label map of a case with the loader that knows its format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mskt.core.anatomy import (
    LabelSet,
    Structure,
    anonymous_label_set,
    known_structures,
    label_set,
)
from mskt.core.cases.names import contents, is_volume_file, refuse_missing, stem
from mskt.core.cases.tables import label_set_from
from mskt.core.errors import InputError, PluginError
from mskt.core.interfaces import Loader, LoadOptions
from mskt.core.registry import Registry
from mskt.core.volume import Grid, Labels, Volume

LARGEST_LABEL = 255
_WORDS = 1 << 20


def loader_for(path: Path, registry: Registry) -> Loader:
    """The first loader that accepts ``path``: third parties' in order of their names, then mskt's.

    A loader that cannot be imported is passed over, and named if no other one accepts the path.

    Raises:
        InputError: there is nothing at ``path``, or no loader for it.
    """
    refuse_missing(path)
    announced = sorted(
        registry.announced("loader"), key=lambda one: (one.distribution == "mskt", one.spec.name)
    )
    broken = []
    for name in dict.fromkeys(one.spec.name for one in announced):
        try:
            loader: Loader = registry.get("loader", name)
        except PluginError as error:
            broken.append(f"\nNote: {error.thing} {error.fault}")
            continue
        if loader.accepts(path):
            return loader
    formats = "; ".join(one.spec.summary for one in announced)
    size = contents(path) if path.is_dir() else f"{path.stat().st_size} bytes"
    raise InputError(
        path.name or "folder",
        f"is in no format that mskt reads ({size})",
        f"Formats: {formats or 'none, no loader is installed'}." + "".join(broken),
    )


def load_case(path: Path, options: LoadOptions, registry: Registry) -> Volume:
    """The CT image at ``path``, in HU."""
    return loader_for(path, registry).load(path, options)


def load_label_map(
    path: Path, options: LoadOptions, registry: Registry, names: LabelSet | Path | None = None
) -> Labels:
    """The label map at ``path``: one file, or a folder with one mask per structure.

    Args:
        path: a file, or a folder such as TotalSegmentator's ``segmentations``.
        options: for the loader.
        registry: of loaders.
        names: what the values mean: a label set or its table; without, ``label_1``, ``label_2``, …

    Raises:
        InputError: unreadable, values beyond 255, or values that ``names`` does not name.
    """
    refuse_missing(path)
    if path.is_dir():
        return combine_masks(path, options, registry)
    values, affine = loader_for(path, registry).load_labels(path, options)
    if values.dtype != np.uint8 and (values.min() < 0 or values.max() > LARGEST_LABEL):
        raise InputError(
            path.name,
            f"has label values from {values.min()} to {values.max()}",
            f"mskt reads label values from 0 to {LARGEST_LABEL}.",
        )
    data = values.astype(np.uint8, copy=False)
    present = _present(data)
    if names is None:
        return Labels(data, affine, anonymous_label_set(present))
    structures = label_set_from(names) if isinstance(names, Path) else names
    unnamed = [value for value in present if value and value not in structures.by_index]
    if unnamed:
        shown = ", ".join(map(str, unnamed[:10])) + (", …" if len(unnamed) > 10 else "")
        raise InputError(
            path.name,
            f"has values without a name: {shown}",
            f"The table {structures.name!r} names {len(structures.structures)} "
            "structures: give the table of this label map (--label-set).",
        )
    return Labels(data, affine, structures)


def _present(data: NDArray[np.uint8]) -> list[int]:
    """Values that occur. Most words of eight voxels are background and need no counting."""
    flat = data.ravel(order="K")
    whole = flat.size // 8 * 8
    words = flat[:whole].view(np.uint64)
    counts = np.bincount(flat[whole:], minlength=LARGEST_LABEL + 1)
    for start in range(0, words.size, _WORDS):  # in parts: bincount makes 8 bytes of each voxel
        part = words[start : start + _WORDS]
        filled = part[part != 0].view(np.uint8)
        counts += np.bincount(filled, minlength=LARGEST_LABEL + 1)
    counts[0] = data.size - counts[1:].sum()
    return [int(value) for value in np.flatnonzero(counts)]


def combine_masks(
    folder: Path,
    options: LoadOptions,
    registry: Registry,
    overlap: Callable[[str, float], None] = lambda name, share: None,
) -> Labels:
    """One label map from a folder with one mask per structure (its file's name).

    If some of the names are TotalSegmentator's muscles and bones, the label set is ``totalseg`` and
    other masks are left out; otherwise all masks count, in the order of their names. Where masks
    overlap, the first wins.

    Args:
        folder: of the masks.
        options: for the loader.
        registry: of loaders.
        overlap: is told the name of each mask that overlaps those before it, and its share in them.

    Raises:
        InputError: no masks, too many, or masks on different grids.
    """
    masks = {stem(path): path for path in sorted(folder.iterdir()) if is_volume_file(path)}
    if not masks:
        raise InputError(
            folder.name,
            f"holds no masks: {contents(folder)}",
            "Expected one file for each structure, such as femur_left.nii.gz.",
        )
    structures = _structures(tuple(masks), folder)
    data: NDArray[np.uint8] | None = None
    affine = np.eye(4)
    for structure in structures.structures:
        path = masks.get(structure.name)
        if path is None:
            continue
        mask, own = loader_for(path, registry).load_labels(path, options)
        if data is None:
            data, affine = np.zeros(mask.shape, np.uint8, order="F"), own
        if not _grid(mask, own).same_as(_grid(data, affine)):
            raise InputError(
                path.name,
                f"is on another grid than the masks before it "
                f"(shape {mask.shape}, not {data.shape}, or another affine)",
                "All masks of a case must be on one grid.",
            )
        inside = mask != 0
        taken = np.count_nonzero(inside & (data != 0))
        if taken:
            overlap(structure.name, taken / np.count_nonzero(inside))
        data[inside & (data == 0)] = structure.index
    assert data is not None  # every structure of the set but totalseg's has its mask
    return Labels(data, affine, structures)


def _structures(names: tuple[str, ...], folder: Path) -> LabelSet:
    built_in = label_set("totalseg")
    if set(names) & set(built_in.names):
        return built_in
    if len(names) > LARGEST_LABEL:
        raise InputError(
            folder.name,
            f"holds {len(names)} masks",
            f"mskt reads at most {LARGEST_LABEL} structures.",
        )
    known = known_structures()
    return LabelSet(
        folder.name,
        tuple(
            Structure(index, name, *_facts(known.get(name)))
            for index, name in enumerate(names, start=1)
        ),
    )


def _facts(known: Structure | None) -> tuple[Any, ...]:
    if known is None:
        return ()
    return (
        known.abbreviation,
        known.group,
        known.tissue,
        known.side,
        known.elements,
        known.color,
        known.snomed,
    )


def _grid(data: NDArray[Any], affine: NDArray[np.float64]) -> Grid:
    i, j, k = data.shape
    return Grid((i, j, k), affine)

"""Which mask belongs to which case."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mskt.core.anatomy import elements_named
from mskt.core.cases import find_label_maps
from mskt.core.cases.names import (
    is_volume_file,
    refuse_missing,
    safe,
    stem,
    without_label_ending,
)
from mskt.core.cases.tables import table_beside
from mskt.core.errors import InputError

_CLASS_FOLDER = "segmentations"
_DATASET = "dataset.json"


@dataclass(frozen=True)
class Mask:
    """The mask of one case.

    Attributes:
        path: a label map, or a folder with one mask for each structure.
        table: names of its values, where a table lies beside it.
    """

    path: Path
    table: Path | None = None


@dataclass(frozen=True)
class Masks:
    """All masks that the user named.

    Attributes:
        by_case: by case id; at least one.
        name: of the file or folder, for messages.
        single: the user named the mask of one case: it is taken whatever the case is called.
    """

    by_case: Mapping[str, Mask]
    name: str
    single: bool

    @property
    def per_class(self) -> bool:
        """True if there is a folder of masks for each case."""
        return next(iter(self.by_case.values())).path.is_dir()

    def of(self, case_id: str) -> Mask:
        """The mask of a case; upper and lower case count the same.

        Args:
            case_id: as ``Volume.source`` has it; empty where nobody said whose image it is.

        Raises:
            InputError: there is no mask for it.
        """
        if self.single:
            return next(iter(self.by_case.values()))
        for name, mask in self.by_case.items():
            if name.casefold() == case_id.casefold():
                return mask
        if not case_id:
            raise InputError(
                "image",
                f"has no case id, and {self.name!r} holds masks of {len(self.by_case)} cases",
                "Give the mask itself, or an image whose source has a case_id.",
            )
        near = difflib.get_close_matches(case_id, self.by_case, n=3)
        shown = ", ".join(near or sorted(self.by_case)[:5])
        raise InputError(
            case_id,
            f"has no mask among the {len(self.by_case)} in {self.name!r} "
            f"({'near names' if near else 'it has'}: {shown})",
            f"Name the mask {case_id}.nii.gz or {case_id}_dseg.nii.gz, or its folder {case_id}.",
        )


def find_masks(path: Path) -> Masks:
    """Look at what the user named.

    A file is the mask of one case. So is a folder with masks named after structures. Otherwise
    each sub-folder of that kind is a case (also with ``segmentations`` in between), or each label
    map: ``CASE.nii.gz``, ``CASE_dseg.nii.gz``, or what ``mskt run`` writes.

    Raises:
        InputError: there is nothing, or nothing that looks like a mask.
    """
    refuse_missing(path)
    name = path.absolute().name
    if path.is_file():
        if not is_volume_file(path):
            raise InputError(
                name, "is no label map", "Give a .nii.gz, .nii, .nrrd, .mha or .mhd file."
            )
        return Masks({_case_of(path): Mask(path, table_for(path))}, name, single=True)
    own = _class_folder(path)
    if own is not None:
        return Masks({safe(name): Mask(own)}, name, single=True)
    folders = {
        safe(folder.name): Mask(found)
        for folder in sorted(path.iterdir())
        if folder.is_dir() and (found := _class_folder(folder)) is not None
    }
    if folders:
        return Masks(folders, name, single=False)
    if not any(path.iterdir()):
        raise InputError(name, "is an empty folder", "Give the folder that holds the masks.")
    maps = {
        case.case_id: Mask(case.image, case.table or table_for(case.image))
        for case in find_label_maps([path])
    }
    return Masks(maps, name, single=False)


def table_for(mask: Path) -> Path | None:
    """The table of a label map: its own, or nnU-Net's ``dataset.json`` beside or above it."""
    folder = mask.absolute().parent
    own = table_beside(mask)
    common = [folder / _DATASET, folder.parent / _DATASET]
    return own or next((table for table in common if table.is_file()), None)


def _class_folder(folder: Path) -> Path | None:
    """The folder in which the masks of one case lie, each named after its structure."""
    for place in (folder, folder / _CLASS_FOLDER):
        if place.is_dir() and any(
            is_volume_file(file) and elements_named(stem(file)) for file in place.iterdir()
        ):
            return place
    return None


def _case_of(path: Path) -> str:
    return safe(without_label_ending(stem(path)) or path.absolute().parent.name)

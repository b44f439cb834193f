"""Annotated cases on the training grid, kept on disk so that each is read once.

A prepared case is a folder named after everything that it depends on: the bytes of its files and
the settings. ``case.json`` is written last, so that a folder with it is whole; a killed run goes on
with the next case. Arrays lie slice by slice: a window along z is one stretch of the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mskt.core import atomic, checksum
from mskt.core.anatomy import LabelSet, label_set, with_anatomy
from mskt.core.cases import Case, label_set_from, load_case, load_label_map
from mskt.core.cases.names import is_volume_file, stem
from mskt.core.errors import GeometryError, InputError
from mskt.core.foreground import foreground_box
from mskt.core.interfaces import LoadOptions
from mskt.core.registry import registry
from mskt.core.resample import resample_image, resample_labels, working_grid
from mskt.core.volume import Grid, Labels, Volume
from mskt.training.body import body_mask
from mskt.training.cases import TrainingCase
from mskt.training.losses import IGNORED
from mskt.training.targets import translate

FORMAT = 1
"""Raised when prepared cases of an older mskt must not be used any more."""
SAME_GRID_MM = 0.01
HU_RANGE = (-1024, 3071)
Box = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Settings:
    """What a prepared case depends on beside its files.

    Attributes:
        target: classes to learn.
        spacing_mm: along right, anterior, superior.
        names: of the label values where no table lies beside the data.
        allow: faults of the images that the user accepts by name.
    """

    target: LabelSet
    spacing_mm: tuple[float, float, float]
    names: LabelSet | None = None
    allow: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Prepared:
    """A case in the cache.

    Attributes:
        name, patient: of the case.
        folder: of its arrays.
        known: the target's structures that its table can tell.
        present: those that have voxels.
        ignored: structures of its own table whose voxels count for nothing.
        shape: voxels (x, y, z).
        labelled, body: first and last + 1 index along each axis; empty without such voxels.
        image_sha256, labels_sha256: of the files.
        voxels_sha256: of the HU of the image as it was read, whatever file they came from.
        empty: its label map has no labelled voxel; there are no arrays then.
    """

    name: str
    patient: str
    folder: str
    known: tuple[str, ...]
    present: tuple[str, ...]
    ignored: tuple[str, ...]
    shape: tuple[int, ...]
    labelled: Box
    body: Box
    image_sha256: str
    labels_sha256: str
    voxels_sha256: str
    empty: bool = False

    def whole(self) -> TrainingCase:
        """The case with memory-mapped arrays: nothing is read before it is looked at."""
        image, target, body = (
            np.load(Path(self.folder) / f"{name}.npy", mmap_mode="r").transpose(1, 2, 0)
            for name in ("image", "target", "body")
        )
        return TrainingCase(image, target, body, self.known, self.patient)

    def restricted(self, absent: frozenset[str]) -> Prepared:
        """The same without ``absent`` among the known structures."""
        return replace(self, known=tuple(name for name in self.known if name not in absent))


def prepare(case: Case, settings: Settings, cache: Path) -> Prepared:
    """The case as the cache has it; read and prepared if it has not.

    Args:
        case: with a label map.
        settings: of the run.
        cache: a folder; made if need be.

    Raises:
        InputError: image or label map cannot be used.
        OutputError: the disk is full.
    """
    assert case.reference is not None
    sums = (_checksum(case.image, cache), _checksum(case.reference, cache))
    table = _checksum(case.table, cache) if case.table else ""
    folder = cache / _digest([FORMAT, *sums, table, *_plain(settings)])
    facts = _facts(folder)
    if facts is None:
        volume, labels = _read(case, settings)
        facts = store(folder, volume, labels, settings)
    return _described(case.case_id, folder, facts, *sums)


def prepare_made(
    name: str,
    made: Callable[[], tuple[Volume, Labels]],
    facts: list[Any],
    settings: Settings,
    cache: Path,
) -> Prepared:
    """The same for a case that is made, not read.

    Args:
        name: of the case, who is also its patient.
        made: called without arguments if the cache has not got it; gives volume and labels.
        facts: what it is made from, JSON-ready.
        settings: of the run.
        cache: a folder.
    """
    key = _digest([FORMAT, *facts, *_plain(settings)])
    found = _facts(cache / key)
    if found is None:
        found = store(cache / key, *made(), settings)
    return _described(name, cache / key, found, key, key)


def store(folder: Path, volume: Volume, labels: Labels, settings: Settings) -> dict[str, Any]:
    """Bring image and labels to the training grid and write them; returns the case's facts."""
    atomic.make_folder(folder)
    names = with_anatomy(labels.label_set)
    translation = translate(names, settings.target)
    facts: dict[str, Any] = {
        "known": translation.known,
        "ignored": translation.ignored,
        "voxels_sha256": _voxels(volume),
        "empty": not labels.data.any(),
        **dict.fromkeys(("present", "shape", "labelled", "body"), ()),
    }
    if not facts["empty"]:
        grid = working_grid(volume.grid, settings.spacing_mm)
        image = resample_image(volume.data, volume.grid, grid)
        moved = resample_labels(labels.data, labels.grid, grid)
        target = translation.table[moved]
        body = (
            resample_labels(volume.mask.view(np.uint8), volume.grid, grid).astype(bool)
            if volume.mask is not None
            else body_mask(image, settings.spacing_mm)
        ) | (moved > 0)
        present = set(np.unique(target).tolist())
        facts |= {
            "present": [s.name for s in settings.target.structures if s.index in present],
            "shape": image.shape,
            "labelled": _box((target > 0) & (target < IGNORED)),
            "body": _box(body),
        }
        whole = np.clip(np.rint(image), *HU_RANGE).astype(np.int16)
        for name, array in (("image", whole), ("target", target), ("body", body)):
            with atomic.writing(folder / f"{name}.npy") as file:
                np.save(file, np.ascontiguousarray(array.transpose(2, 0, 1)))
    atomic.write_text(folder / "case.json", json.dumps(facts, indent=1))
    return facts


def _read(case: Case, settings: Settings) -> tuple[Volume, Labels]:
    """Image and label map on one grid, every label value with a name."""
    assert case.reference is not None
    options = LoadOptions(allow=settings.allow)
    names = settings.names or case.table
    labels = load_label_map(case.reference, options, registry(), names)
    if case.reference.is_dir():
        masks = {stem(file) for file in case.reference.iterdir() if is_volume_file(file)}
        given = labels.label_set.subset(masks & set(labels.label_set.names))
        labels = replace(labels, label_set=given)
    elif names is None and labels.data.any():
        values = ", ".join(str(s.index) for s in labels.label_set.structures[:10])
        raise InputError(
            case.reference.name,
            f"has no table that names its values ({values})",
            "Put a table beside it (dataset.json, dseg.tsv, or a .tsv of its own name, with the "
            "columns index and name), or name them in the data: ?labels=FILE.tsv or ?labels=msk22.",
        )
    volume = load_case(case.image, options, registry())
    first, second = volume.grid.canonical(), labels.grid.canonical()
    if not first.same_as(second, tolerance_mm=SAME_GRID_MM):
        raise GeometryError(
            case.reference.name,
            f"lies on another grid than its image {case.image.name}: {_told(second)}; "
            f"image {_told(first)}",
            "Export the label map on the grid of the image on which it was drawn.",
        )
    return volume, labels


def named(text: str) -> LabelSet:
    """The label set that an option names: a built-in one, or a table's file.

    Raises:
        UsageError, InputError: there is no such set, or the file is no table.
    """
    if text.endswith((".tsv", ".json")):
        return with_anatomy(label_set_from(Path(text)))
    return label_set(text)


def _told(grid: Grid) -> str:
    shape, mm = ("×".join(map(str, grid.shape)), "×".join(f"{s:.4g}" for s in grid.spacing_mm))
    return (
        f"{shape} voxels of {mm} mm, first at ({', '.join(f'{v:.1f}' for v in grid.affine[:3, 3])})"
    )


def _checksum(path: Path, cache: Path) -> str:
    """SHA-256 of a file, or of the names and contents of a folder's files.

    Remembered under size and time of each file, so that data that have not changed are not read.
    """
    files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
    times = [(str(f.absolute()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    remembered = cache / "checksums" / _digest(times)
    if remembered.is_file():
        return remembered.read_text()
    sums = [checksum.of_input(file)["sha256"] for file in files]
    names = [file.relative_to(path).as_posix() if path.is_dir() else "" for file in files]
    found = _digest(list(zip(names, sums, strict=True))) if path.is_dir() else sums[0]
    atomic.make_folder(remembered.parent)
    atomic.write_text(remembered, found)
    return str(found)


def _voxels(volume: Volume) -> str:
    """Checksum of the whole HU, wherever they were stored and however compressed."""
    digest = hashlib.sha256(repr(volume.data.shape).encode())
    for k in range(volume.data.shape[2]):
        plane = np.clip(np.rint(volume.data[:, :, k]), -32768, 32767).astype("<i2")
        digest.update(np.ascontiguousarray(plane).tobytes())
    return digest.hexdigest()


def _plain(settings: Settings) -> list[Any]:
    sets = [settings.target, *([settings.names] if settings.names else [])]
    meanings = [[(s.index, s.name, sorted(s.elements)) for s in one.structures] for one in sets]
    return [meanings, settings.spacing_mm, sorted(settings.allow)]


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _facts(folder: Path) -> dict[str, Any] | None:
    """What the cache says of a case; None if it is not there, or not readable."""
    try:
        facts: dict[str, Any] = json.loads((folder / "case.json").read_text())
    except (OSError, ValueError):
        return None
    return facts


def _described(
    name: str, folder: Path, facts: Mapping[str, Any], image: str, labels: str
) -> Prepared:
    boxes = {
        key: tuple((int(first), int(stop)) for first, stop in facts[key])
        for key in ("labelled", "body")
    }
    return Prepared(
        name=name,
        patient=name,
        folder=str(folder),
        known=tuple(facts["known"]),
        present=tuple(facts["present"]),
        ignored=tuple(facts["ignored"]),
        shape=tuple(facts["shape"]),
        image_sha256=image,
        labels_sha256=labels,
        voxels_sha256=facts["voxels_sha256"],
        empty=facts["empty"],
        **boxes,
    )


def _box(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    box = foreground_box(mask)
    return [(part.start, part.stop) for part in box] if box else []

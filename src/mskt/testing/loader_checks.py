"""What a loader must do.

The kit writes files in the formats it knows and gives a loader those that it accepts. A loader of
another format is checked for what needs no example (junk, missing files).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mskt.core.errors import MsktError
from mskt.core.interfaces import Loader, LoadOptions
from mskt.core.volume import Grid, Volume, to_canonical
from mskt.testing import formats, phantoms
from mskt.testing.formats import Writer
from mskt.testing.outcome import Build, ConformanceError, NotApplicable, require

OPTIONS = LoadOptions()
SHAPE = (40, 32, 12)
DIRECTIONS: Mapping[str, NDArray[np.float64]] = {
    "RAS": phantoms.RAS,
    "LPS": phantoms.LPS,
    "sagittal": phantoms.SAGITTAL,
    "oblique": phantoms.oblique(),
}


@contextmanager
def _example(
    loader: Loader, writers: Mapping[str, Writer], data: NDArray[Any], affine: NDArray[np.float64]
) -> Iterator[list[tuple[str, Path]]]:
    """Files with this content, in the formats the loader accepts: (format, path)."""
    with tempfile.TemporaryDirectory() as root:
        accepted = []
        for number, (name, write) in enumerate(writers.items()):
            folder = Path(root, str(number), formats.PRIVATE_FOLDER)
            folder.mkdir(parents=True)
            path = write(folder, data, affine)
            if loader.accepts(path):
                accepted.append((name, path))
        if not accepted:
            raise NotApplicable(f"the loader accepts none of {', '.join(writers)}")
        yield accepted


def _image(directions: NDArray[np.float64] = phantoms.RAS) -> tuple[NDArray[np.int16], Grid]:
    image = phantoms.phantom(SHAPE, (9.0, 8.0, 15.0), directions)  # bone in every orientation
    affine = image.affine.copy()
    affine[:3, 3] += (31, -22, 400)  # around the origin, a change of sign would go unnoticed
    return image.data.astype(np.int16), Grid(SHAPE, affine)


def _load(loader: Loader, name: str, path: Path) -> Volume:
    try:
        return loader.load(path, OPTIONS)
    except Exception as error:
        raise ConformanceError(
            f"a good {name} was accepted, and load() raised {type(error).__name__}: {error}",
            "Read it, or do not accept it.",
        ) from error


def check_loader_types(build: Build) -> None:
    """The result is a Volume: float32, three dimensions, float64 affine."""
    loader = build()
    data, grid = _image()
    with _example(loader, formats.IMAGES, data, grid.affine) as files:
        for name, path in files:
            image = _load(loader, name, path)
            kinds = (str(image.data.dtype), str(image.affine.dtype))
            require(
                kinds == ("float32", "float64"),
                f"{name}: data and affine have the types {kinds}",
                "Convert: data.astype(np.float32), affine.astype(np.float64).",
            )
            require(
                sorted(image.data.shape) == sorted(SHAPE),
                f"{name}: the shape is {image.data.shape}, written was {SHAPE}",
                "Drop trailing axes of length 1, and no other.",
            )


def check_loader_hounsfield(build: Build) -> None:
    """Values are HU: slope and intercept of the file are applied once."""
    loader = build()
    data, grid = _image()
    with _example(loader, formats.IMAGES, data, grid.affine) as files:
        for name, path in files:
            image = _load(loader, name, path)
            found, expected = np.sort(image.data, axis=None), np.sort(data, axis=None)
            worst = float(np.abs(found - expected).max())
            require(
                worst <= 0.51,
                f"{name}: HU are wrong by up to {worst:.4g}",
                "Apply slope and intercept of the header (scl_slope, RescaleSlope) once.",
            )


def check_loader_geometry(build: Build) -> None:
    """Every value is at its place in RAS mm, for RAS, LPS, sagittal and oblique grids."""
    loader = build()
    for orientation, directions in DIRECTIONS.items():
        data, grid = _image(directions)
        with _example(loader, formats.IMAGES, data, grid.affine) as files:
            for name, path in files:
                image = _load(loader, name, path)
                what = f"{name}, stored {orientation}"
                require(
                    image.grid.canonical().same_as(grid.canonical(), 1e-2),
                    f"{what}: the voxels are at other places than written "
                    f"(affine {np.round(image.affine, 2).tolist()})",
                    "The affine maps array indices to RAS mm: turn LPS (DICOM, ITK) by "
                    "negating x and y, and transpose it together with the array.",
                )
                placed = to_canonical(image.data, image.grid)
                expected = to_canonical(data, grid)
                require(
                    float(np.abs(placed - expected).max()) <= 0.51,
                    f"{what}: values are at wrong places",
                    "Array axes and affine columns must be in the same order and direction.",
                )


def check_loader_labels(build: Build) -> None:
    """A label map keeps its integers and its place."""
    loader = build()
    grid = _image(phantoms.LPS)[1]
    labels = phantoms.tissue(grid)
    labels[0, 0, 0] = 200  # beyond the range of signed 8 bits
    with _example(loader, formats.MASKS, labels, grid.affine) as files:
        for name, path in files:
            found, affine = loader.load_labels(path, OPTIONS)
            i, j, k = found.shape
            require(
                np.issubdtype(found.dtype, np.integer),
                f"{name}: labels have the type {found.dtype}",
                "Return integers as stored; no scaling, no interpolation.",
            )
            there = Grid((i, j, k), affine)
            require(
                there.canonical().same_as(grid.canonical(), 1e-2)
                and np.array_equal(to_canonical(found, there), to_canonical(labels, grid)),
                f"{name}: label values or their places are not those written",
                "Read labels with the same geometry as images.",
            )


def _junk(folder: Path) -> list[Path]:
    """Files that are nothing, under names of image formats."""
    data, grid = _image()
    folder.mkdir(exist_ok=True)
    made = []
    for suffix in (".nii", ".nii.gz", ".nrrd", ".mha", ".dcm", ".zip"):
        for name, content in (("empty", b""), ("text", b"This is no image.\n" * 40)):
            path = folder / f"{name}{suffix}"
            path.write_bytes(content)
            made.append(path)
    for number, write in enumerate(formats.IMAGES.values()):
        place = folder / f"cut{number}"
        place.mkdir()
        path = write(place, data, grid.affine)
        for file in [path] if path.is_file() else sorted(path.iterdir()):
            whole = file.read_bytes()
            file.write_bytes(whole[: len(whole) * 2 // 3])
        made.append(path)
    empty = folder / "empty_folder"
    empty.mkdir()
    return [*made, empty, folder / "missing.nii.gz", folder / "missing_folder"]


def check_loader_refuses_junk(build: Build) -> None:
    """Empty, foreign, truncated and missing files are refused with an explanation."""
    loader = build()
    with tempfile.TemporaryDirectory() as root:
        for path in _junk(Path(root, "junk")):
            what = f"{path.parent.name}/{path.name}"
            try:
                accepted = loader.accepts(path)
            except Exception as error:  # accepts() looks at every file a user names
                require(
                    False,
                    f"accepts() raised {type(error).__name__} for {what}: {error}",
                    "Return False for what cannot be read.",
                )
            if not accepted:
                continue
            outcome = "gave a result"
            try:
                loader.load(path, OPTIONS)
            except MsktError:
                continue
            except Exception as error:  # any other type is what this check is about
                outcome = f"raised {type(error).__name__}: {error}"
            require(
                False,
                f"load() of the broken file {what} {outcome}",
                "Catch the library's errors and raise InputError(file name, fault, remedy).",
            )


def check_loader_files_unchanged(build: Build) -> None:
    """Loading changes no file and leaves none behind."""
    loader = build()
    data, grid = _image()
    with _example(loader, formats.IMAGES, data, grid.affine) as files:
        for name, path in files:
            folder = path.parent
            before = {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()}
            _load(loader, name, path)
            after = {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()}
            require(
                before == after,
                f"{name}: loading changed files beside the image",
                "Open for reading only; write nothing, not even a cache, next to the data.",
            )


def _texts(image: Volume) -> str:
    return " ".join(map(str, (image.notes, dict(image.source), image.subject, repr(image.source))))


def check_loader_private(build: Build) -> None:
    """No name, identifier, date or folder of the patient gets out, not in errors either."""
    loader = build()
    data, grid = _image()
    with _example(loader, formats.IMAGES, data, grid.affine) as files:
        for name, path in files:
            said = [("notes, source or subject", _texts(_load(loader, name, path)))]
            broken = path if path.is_file() else sorted(path.iterdir())[1]
            broken.write_bytes(broken.read_bytes()[:700])
            try:
                loader.load(path, OPTIONS)
            except Exception as error:  # a wrong type is another check's concern
                said.append(("the error for a damaged file", str(error)))
            for where, text in said:
                leaks = [secret for secret in formats.SECRETS if secret in text.lower()]
                require(
                    not leaks,
                    f"{name}: {where} contains {', '.join(leaks)}",
                    "Keep geometry, HU, height and weight only; name files without their "
                    "folder; pass on no header text and no library's message with a path.",
                )

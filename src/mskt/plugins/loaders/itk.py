"""NRRD and MetaImage files, through SimpleITK.

SimpleITK fills in what a header lacks (no ``space``, no ``TransformMatrix``) with defaults; here
such a file is refused, because its left and right are unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mskt.core.errors import GeometryError, InputError
from mskt.core.interfaces import Loader, LoadOptions
from mskt.core.volume import Volume
from mskt.plugins.loaders.allowances import unless_allowed
from mskt.plugins.loaders.geometry import LPS_TO_RAS, Affine, settle_affine, single_volume
from mskt.plugins.loaders.hounsfield import settle_values
from mskt.plugins.loaders.integral import whole_numbers

NRRD_SUFFIXES = (".nrrd", ".nhdr")
META_SUFFIXES = (".mha", ".mhd")
_HEADER_BYTES = 1 << 16
_KNOWN_SPACES = {
    "right-anterior-superior",
    "ras",
    "left-anterior-superior",
    "las",
    "left-posterior-superior",
    "lps",
}


class ItkLoader(Loader):
    """Reads ``.nrrd``, ``.nhdr``, ``.mha`` and ``.mhd``."""

    def accepts(self, path: Path) -> bool:
        """True for files with one of the four suffixes."""
        return path.suffix.lower() in NRRD_SUFFIXES + META_SUFFIXES and not path.is_dir()

    def load(self, path: Path, options: LoadOptions) -> Volume:
        """The CT image in HU.

        Raises:
            InputError: damaged, not one volume, not HU (:class:`HounsfieldError`) or without a
                usable orientation (:class:`GeometryError`).
        """
        stored, affine, notes = _read(path, options)
        settled, repairs = settle_affine(affine, stored.shape, path.name, options)
        with np.errstate(all="ignore"):  # NaN and overflow are found and named later
            data = stored.astype(np.float32, order="F")
        source = {
            "format": "nrrd" if _is_nrrd(path) else "metaimage",
            "dtype": stored.dtype.name,
            "affine": affine.tolist(),
        }
        del stored
        notes += repairs + settle_values(data, path.name, options)
        return Volume(data, settled, notes=tuple(notes), source=source)

    def load_labels(
        self, path: Path, options: LoadOptions
    ) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """A label map (integers as stored) and its affine in RAS mm."""
        stored, affine, _ = _read(path, options)
        settled, _ = settle_affine(affine, stored.shape, path.name, options)
        return whole_numbers(stored, path.name), settled


def _is_nrrd(path: Path) -> bool:
    return path.suffix.lower() in NRRD_SUFFIXES


def _read(path: Path, options: LoadOptions) -> tuple[NDArray[Any], Affine, list[str]]:
    """Stored values ``(i, j, k)``, affine in RAS mm, notes."""
    import SimpleITK as sitk  # slow to import: only when a file is read

    notes = _check_header(path, options)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with _named_faults(path):
        reader.ReadImageInformation()
    shape = reader.GetSize()
    components = reader.GetNumberOfComponents()
    if components != 1:
        raise InputError(
            path.name,
            f"holds {components} numbers a voxel (colours or a vector field)",
            "Give a file with one number a voxel.",
        )
    if "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelIDValue()):
        raise InputError(path.name, "holds complex numbers", "Give the CT itself.")
    volume = single_volume(shape, path.name)
    if len(shape) > 3:
        reader.SetExtractSize([*volume, *([0] * (len(shape) - 3))])
    with _named_faults(path):
        image = reader.Execute()
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    lps[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0), LPS_TO_RAS @ lps, notes


@contextmanager
def _named_faults(path: Path) -> Iterator[None]:
    """SimpleITK's faults as InputError: its own texts hold the whole path."""
    import SimpleITK as sitk

    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    except RuntimeError as error:
        raise InputError(
            path.name,
            "cannot be read: it is truncated, damaged or its data file is missing",
            "Copy or download the file (and its data file) again.",
        ) from error
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def _check_header(path: Path, options: LoadOptions) -> list[str]:
    """Refuse what SimpleITK would silently fill in."""
    fields = _fields(path)
    missing = _missing_nrrd(fields, path.name) if _is_nrrd(path) else _missing_meta(fields)
    if not missing:
        return []
    if "no-orientation" not in options.allow:
        raise GeometryError(
            path.name,
            f"has no orientation (its header lacks {missing!r}): left and right are unknown",
            "Convert it again from the original DICOM series.\n" + unless_allowed("no-orientation"),
        )
    return [
        f"The header lacks {missing!r}: the axes were taken as left, posterior, superior "
        "(--allow no-orientation). Left and right may be exchanged."
    ]


def _missing_nrrd(fields: Mapping[str, str], thing: str) -> str:
    space = fields.get("space", "").lower()
    if space and space not in _KNOWN_SPACES:
        raise GeometryError(
            thing,
            f"its space {space!r} is not anatomical",
            "Save it in left-posterior-superior or right-anterior-superior space.",
        )
    units = {unit.lower() for unit in fields.get("space units", "").replace('"', " ").split()}
    if units - {"mm", "???"}:
        raise GeometryError(
            thing, f"its space units are {', '.join(sorted(units))}", "Save it in mm."
        )
    if not space:
        return "space"
    return "" if "space directions" in fields else "space directions"


def _missing_meta(fields: Mapping[str, str]) -> str:
    for name in ("transformmatrix", "rotation", "orientation"):
        if name in fields:
            return ""
    return "TransformMatrix"


def _fields(path: Path) -> dict[str, str]:
    """The text header: lower-case names and values."""
    try:
        with path.open("rb") as stream:
            block = stream.read(_HEADER_BYTES)
    except OSError as error:
        raise InputError(
            path.name,
            f"cannot be read ({error.strerror or type(error).__name__})",
            "Check that the file exists and that you may read it.",
        ) from error
    separator, end = (":", "") if _is_nrrd(path) else ("=", "elementdatafile")
    fields: dict[str, str] = {}
    for line in block.decode("latin-1").splitlines():
        name, found, value = line.partition(separator)
        if not line.strip() and _is_nrrd(path):
            break
        if found and not line.startswith("#"):
            fields.setdefault(name.strip().lower(), value.strip())
        if end and name.strip().lower() == end:
            break
    return fields

"""DICOM: one CT series from a folder or zip archive.

Whether a path is DICOM is told by its first bytes; pydicom is imported when one is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mskt.core.errors import InputError
from mskt.core.interfaces import Loader, LoadOptions
from mskt.core.volume import Volume
from mskt.plugins.loaders.dicom_files import MAGIC, MAGIC_OFFSET, looks_like_dicom, unreadable

_FILE_SUFFIXES = (".dcm", ".ima", ".dicom", ".zip")
_LOOK_AT = 200


class DicomLoader(Loader):
    """Reads a folder (with sub-folders) or a ``.zip`` archive of DICOM files."""

    def accepts(self, path: Path) -> bool:
        """True for archives, DICOM files, and folders with a DICOM file among the first 200."""
        if not path.is_dir():
            return path.suffix.lower() in _FILE_SUFFIXES or _begins_like_dicom(path)
        seen = 0
        for found in path.rglob("*"):
            if found.is_file():
                if found.name != "DICOMDIR" and _begins_like_dicom(found):
                    return True
                seen += 1
                if seen >= _LOOK_AT:
                    return False
        return False

    def load(self, path: Path, options: LoadOptions) -> Volume:
        """The CT image in HU.

        Raises:
            InputError: no or several CT series, damaged files, not HU
                (:class:`HounsfieldError`), or slices whose places make no regular stack
                (:class:`GeometryError`).
        """
        if path.is_file() and path.suffix.lower() != ".zip":
            raise _single_file(path)
        from mskt.plugins.loaders.dicom_volume import read_volume

        return read_volume(path, options)

    def load_labels(
        self, path: Path, options: LoadOptions
    ) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """DICOM has no plain label maps.

        Raises:
            InputError: always.
        """
        raise InputError(
            path.name,
            "is DICOM, which mskt does not read as a label map",
            "Convert the segmentation to NIfTI or NRRD, for example with 3D Slicer.",
        )


def _begins_like_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return looks_like_dicom(stream.read(MAGIC_OFFSET + len(MAGIC)))
    except OSError:
        return False


def _single_file(path: Path) -> InputError:
    try:
        with path.open("rb") as stream:
            head = stream.read(MAGIC_OFFSET + len(MAGIC))
    except OSError as error:
        return unreadable(path.name, error)
    if not looks_like_dicom(head):
        return InputError(
            path.name,
            "is no DICOM file, in spite of its name",
            "Check that the download or the export ended without an error.",
        )
    return InputError(
        path.name, "is a single DICOM file", "Give the folder that holds all slices of the series."
    )

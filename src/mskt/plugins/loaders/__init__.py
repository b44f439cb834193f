"""Loaders of CT images and label maps: NIfTI, NRRD and MetaImage, DICOM.

This module only announces; the file-format libraries are imported when a loader is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable

from mskt.core.hookspecs import hookimpl
from mskt.core.specs import LoaderSpec

_HERE = "mskt.plugins.loaders"


@hookimpl
def mskt_loader() -> Iterable[LoaderSpec]:
    """The file formats that mskt reads by itself."""
    yield LoaderSpec("nifti", f"{_HERE}.nifti:NiftiLoader", "NIfTI-1 and NIfTI-2 (.nii, .nii.gz)")
    yield LoaderSpec(
        "itk", f"{_HERE}.itk:ItkLoader", "NRRD and MetaImage (.nrrd, .nhdr, .mha, .mhd)"
    )
    yield LoaderSpec(
        "dicom", f"{_HERE}.dicom:DicomLoader", "one CT series as a folder or .zip of DICOM files"
    )

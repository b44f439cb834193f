"""Pixels of one DICOM slice as Hounsfield units.

pydicom decodes what it has decoders for; what it has none for (JPEG lossless, JPEG-LS: common in
archives) goes through SimpleITK's GDCM, which is installed anyway.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import get_decoder  # type: ignore[attr-defined]
from pydicom.uid import UID, ImplicitVRLittleEndian

from mskt.core.errors import InputError
from mskt.plugins.loaders.dicom_files import Part
from mskt.plugins.loaders.dicom_headers import CT_IMAGE, PARSE_FAULTS, SliceHeader, parse
from mskt.plugins.loaders.hounsfield import AIR_HU

_DESCRIPTION_TAGS = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PlanarConfiguration",
)
PIXEL_TAGS = (*_DESCRIPTION_TAGS, "PixelPaddingValue", "PixelPaddingRangeLimit", "PixelData")
HIGHEST_HU = 3071.0
"""Of 12-bit CT; padding between air and this could as well be tissue and is left alone."""


def read_hu(header: SliceHeader) -> NDArray[np.float32]:
    """One slice, rows × columns, in HU by its own slope and intercept; padding is air.

    Raises:
        InputError: truncated, or compressed in a way that nothing installed can decode.
    """
    dataset = parse(header.part, PIXEL_TAGS, pixels=True)
    stored = _decode(dataset, header.part)
    if stored.shape != (header.rows, header.columns):
        raise InputError(
            header.part.name,
            f"holds pixels of shape {stored.shape}, not "
            f"{(header.rows, header.columns)} as its header says",
            "Export the series again.",
        )
    slope = 1.0 if header.slope is None else header.slope
    intercept = 0.0 if header.intercept is None else header.intercept
    values = stored.astype(np.float32)
    if slope != 1.0:
        values *= np.float32(slope)
    if intercept != 0.0:
        values += np.float32(intercept)
    padding = _padding(dataset, stored, slope, intercept)
    if padding is not None:
        values[padding] = AIR_HU
    return values


def _decode(dataset: Dataset, part: Part) -> NDArray[np.integer]:
    if "PixelData" not in dataset:
        raise InputError(part.name, "has no pixels", "Export the series again.")
    syntax = _transfer_syntax(dataset)
    try:
        known = not syntax.is_compressed or get_decoder(syntax).is_available
    except NotImplementedError:
        known = False
    if not known:
        return _decode_with_gdcm(dataset, syntax, part)
    try:
        pixels: NDArray[np.integer] = dataset.pixel_array
    except (*PARSE_FAULTS, RuntimeError) as error:
        raise InputError(
            part.name, "its pixel data are truncated or damaged", "Export the series again."
        ) from error
    return pixels


def _transfer_syntax(dataset: Dataset) -> UID:
    """The file's transfer syntax; files without meta information are implicit little endian."""
    syntax = getattr(dataset.file_meta, "TransferSyntaxUID", None)
    if syntax is None:
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        return ImplicitVRLittleEndian
    return UID(syntax)


def _decode_with_gdcm(dataset: Dataset, syntax: UID, part: Part) -> NDArray[np.integer]:
    """Stored values by way of a small temporary file that has pixels and their description only.

    It has no slope and no intercept, so that SimpleITK returns what is stored.
    """
    import SimpleITK as sitk  # slow to import and seldom needed

    bare = Dataset()
    for keyword in (*_DESCRIPTION_TAGS, "PixelData"):
        if keyword in dataset:
            bare[keyword] = dataset[keyword]
    bare.SOPClassUID, bare.SOPInstanceUID = CT_IMAGE, "2.25.1"
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = syntax
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        with TemporaryDirectory(prefix="mskt-") as folder:
            path = Path(folder, "slice.dcm")
            bare.save_as(path, enforce_file_format=True)
            pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    except (*PARSE_FAULTS, RuntimeError) as error:
        raise InputError(
            part.name,
            f"cannot be decoded: transfer syntax {syntax.name} ({syntax})",
            "If the file is not damaged, install a decoder (pip install pylibjpeg[all]) or "
            "export the series uncompressed.",
        ) from error
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
    return pixels[0] if pixels.ndim == 3 else pixels


def _padding(
    dataset: Dataset, stored: NDArray[np.integer], slope: float, intercept: float
) -> NDArray[np.bool_] | None:
    """Where the slice says it holds no image, if its padding value cannot be tissue."""
    limits = []
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        value = dataset.get(keyword)
        if isinstance(value, int):
            # written as signed in unsigned data and the other way round; the bits are meant
            limits.append(
                int(np.array([value % 65536], np.uint16).astype(stored.dtype)[0])
                if stored.dtype.itemsize == 2
                else value
            )
    if not limits:
        return None
    low, high = min(limits), max(limits)
    values = [low * slope + intercept, high * slope + intercept]
    if max(values) > AIR_HU and min(values) <= HIGHEST_HU:
        return None
    return (stored >= low) & (stored <= high)

"""What is read of a DICOM slice before its pixels: geometry, scaling, kind; nothing personal.

Only the tags named here are parsed at all, so that a name or birth date is never in memory.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from mskt.core.errors import InputError
from mskt.plugins.loaders.dicom_files import Part, unreadable

HEADER_TAGS = (
    "SOPClassUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "AcquisitionNumber",
    "Modality",
    "ImageType",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "RescaleSlope",
    "RescaleIntercept",
    "ConvolutionKernel",
    "SliceThickness",
    "GantryDetectorTilt",
    "PatientSize",
    "PatientWeight",
    "FrameOfReferenceUID",
    "SharedFunctionalGroupsSequence",
)
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
PARSE_FAULTS = (
    InvalidDicomError,
    EOFError,
    ValueError,
    KeyError,
    AttributeError,
    TypeError,
    NotImplementedError,
    OverflowError,
)
"""What pydicom raises on damaged files."""


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """One slice.

    Attributes:
        position: ImagePositionPatient, LPS mm; None if absent.
        orientation: ImageOrientationPatient: direction of a row, direction of a column; None if
            absent.
        pixel_spacing: mm between rows, mm between columns; None if absent.
    """

    part: Part
    study: str
    series: str
    series_number: str
    acquisition: str
    frame_of_reference: str
    sop_class: str
    modality: str
    image_type: tuple[str, ...]
    position: NDArray[np.float64] | None
    orientation: NDArray[np.float64] | None
    pixel_spacing: NDArray[np.float64] | None
    rows: int
    columns: int
    frames: int
    samples: int
    slope: float | None
    intercept: float | None
    kernel: str
    thickness_mm: float | None
    tilt_deg: float | None
    height: float | None
    weight_kg: float | None

    @property
    def is_image(self) -> bool:
        """False for structured reports, contours and other objects without pixels."""
        return self.rows > 0 and self.columns > 0

    @property
    def is_damaged(self) -> bool:
        """True for a CT image, or something unnamed, that ends before it says its size."""
        return not self.is_image and self.sop_class in ("", CT_IMAGE)

    @property
    def is_localizer(self) -> bool:
        """True for scout views."""
        return "LOCALIZER" in self.image_type

    @property
    def is_multi_frame(self) -> bool:
        """True for enhanced CT: all slices in one file."""
        return self.frames > 1 or self.sop_class in ENHANCED_CT


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Silence warnings: pydicom quotes every odd value; those that matter are refused here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def parse(part: Part, tags: tuple[str, ...], *, pixels: bool = False) -> Dataset:
    """The named elements of a file.

    Raises:
        InputError: the file is truncated or damaged.
    """
    try:
        with part.open() as stream:
            return pydicom.dcmread(
                stream, stop_before_pixels=not pixels, specific_tags=list(tags), force=True
            )
    except PARSE_FAULTS as error:
        raise _damaged(part) from error
    except OSError as error:
        raise unreadable(part.name, error) from error


def _damaged(part: Part) -> InputError:
    return InputError(
        part.name,
        "is truncated or damaged: it cannot be read as a DICOM slice",
        "Export the series again; one damaged slice cannot be left out without a gap.",
    )


def read_header(part: Part) -> SliceHeader:
    """The header of one file.

    Raises:
        InputError: the file is truncated or damaged.
    """
    dataset = parse(part, HEADER_TAGS)
    header = SliceHeader(
        part=part,
        study=_text(dataset, "StudyInstanceUID"),
        series=_text(dataset, "SeriesInstanceUID"),
        series_number=_text(dataset, "SeriesNumber"),
        acquisition=_text(dataset, "AcquisitionNumber"),
        frame_of_reference=_text(dataset, "FrameOfReferenceUID"),
        sop_class=_text(dataset, "SOPClassUID"),
        modality=_text(dataset, "Modality").upper() or "unknown",
        image_type=tuple(_text(dataset, "ImageType").upper().split("\\")),
        position=_numbers(dataset, "ImagePositionPatient", 3),
        orientation=_numbers(dataset, "ImageOrientationPatient", 6),
        pixel_spacing=_numbers(dataset, "PixelSpacing", 2),
        rows=int(_number(dataset, "Rows") or 0),
        columns=int(_number(dataset, "Columns") or 0),
        frames=int(_number(dataset, "NumberOfFrames") or 1),
        samples=int(_number(dataset, "SamplesPerPixel") or 1),
        slope=_number(dataset, "RescaleSlope"),
        intercept=_number(dataset, "RescaleIntercept"),
        kernel=_text(dataset, "ConvolutionKernel").split("\\")[0],
        thickness_mm=_number(dataset, "SliceThickness"),
        tilt_deg=_number(dataset, "GantryDetectorTilt"),
        height=_number(dataset, "PatientSize"),
        weight_kg=_number(dataset, "PatientWeight"),
    )
    if header.is_damaged:
        raise _damaged(part)
    return header


def _value(dataset: Dataset, keyword: str) -> Any:
    """The value, or None if it is absent, empty or not what its type demands."""
    try:
        return dataset.get(keyword)
    except PARSE_FAULTS:
        return None


def _text(dataset: Dataset, keyword: str) -> str:
    value = _value(dataset, keyword)
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    try:
        return "\\".join(str(item).strip() for item in value)
    except TypeError:
        return str(value).strip()


def _number(dataset: Dataset, keyword: str) -> float | None:
    try:
        number = float(_value(dataset, keyword))
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def _numbers(dataset: Dataset, keyword: str, count: int) -> NDArray[np.float64] | None:
    try:
        numbers = np.array([float(item) for item in _value(dataset, keyword)])
    except (TypeError, ValueError):
        return None
    return numbers if numbers.shape == (count,) and np.isfinite(numbers).all() else None

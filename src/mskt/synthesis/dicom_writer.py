"""Write a volume as a classic CT series: what a scanner would send, of nobody.

Everything about the patient is made up (``PHANTOM^SYNTHETIC``), and all identifiers follow from the
seed, so that the same call writes the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds

from mskt.core.errors import UsageError
from mskt.core.volume import Volume

INTERCEPT = -1024
LOWEST_HU, HIGHEST_HU = INTERCEPT - 32768, INTERCEPT + 32767
PATIENT_NAME, PATIENT_ID = "PHANTOM^SYNTHETIC", "SYNTHETIC"
_DATE, _TIME = "20000101", "120000"
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_dicom_series(
    folder: Path,
    volume: Volume,
    *,
    series_description: str,
    seed: int,
    positions_mm: Sequence[float] | None = None,
    interval_schedule: Sequence[tuple[float, float]] | None = None,
    series_number: int = 1,
    kernel: str = "B30f",
    slice_thickness_mm: float | None = None,
) -> list[Path]:
    """Write one file for each slice along the third axis, ``IM0001.dcm`` first.

    A file is written under a temporary name and renamed: a killed call leaves no half slice. Where
    the third axis points against the normal of the first two (a left-handed affine), a reader that
    sorts along the normal returns the slices in opposite order, at the same places.

    Args:
        folder: is made if it does not exist.
        volume: HU; its third axis is the axis of the slices.
        series_description: of the series; also part of what its identifiers are derived from.
        seed: of the case; series with one seed belong to one study.
        positions_mm: where slices are cut, along the third axis from its first voxel; linear
            interpolation between. By default where the voxels are.
        interval_schedule: instead: blocks of (length in mm, interval in mm), as protocols have that
            change the interval below the hip.
        series_number: of the series.
        kernel: name of the reconstruction kernel.
        slice_thickness_mm: by default the smallest interval.

    Returns:
        The files, in the order of the slices.

    Raises:
        UsageError: positions outside the volume, or both ways to give them.
    """
    places = _places(volume, positions_mm, interval_schedule)
    thickness = slice_thickness_mm
    if thickness is None:
        thickness = float(np.diff(places).min()) if len(places) > 1 else volume.spacing_mm[2]
    common = _series_elements(volume, series_description, seed, series_number)
    common.ConvolutionKernel = kernel
    common.SliceThickness = _ds(thickness)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, place in enumerate(places, start=1):
        file = folder / f"IM{number:04d}.dcm"
        uid = _uid(seed, series_description, series_number, number)
        _write(_slice(common, volume, float(place), number, uid), file)
        files.append(file)
    return files


def scheduled_positions(
    schedule: Sequence[tuple[float, float]], length_mm: float
) -> tuple[float, ...]:
    """Positions of slices for blocks of (length, interval) in mm; the last block ends at the end.

    Example:
        >>> scheduled_positions([(4, 2), (100, 6)], length_mm=20)
        (0.0, 2.0, 4.0, 10.0, 16.0)
    """
    positions, end = [0.0], 0.0
    for block_mm, interval_mm in schedule:
        end = min(end + block_mm, length_mm)
        while positions[-1] + interval_mm <= end + 1e-6:
            positions.append(positions[-1] + interval_mm)
    return tuple(positions)


def _places(
    volume: Volume,
    positions_mm: Sequence[float] | None,
    schedule: Sequence[tuple[float, float]] | None,
) -> NDArray[np.float64]:
    spacing = volume.spacing_mm[2]
    length = (volume.data.shape[2] - 1) * spacing
    if positions_mm is not None and schedule is not None:
        raise UsageError(
            "", "positions_mm and interval_schedule exclude each other", "Give one of them."
        )
    if schedule is not None:
        positions_mm = scheduled_positions(schedule, length)
    if positions_mm is None:
        return spacing * np.arange(volume.data.shape[2], dtype=np.float64)
    places = np.asarray(positions_mm, float)
    if places.min() < -1e-6 or places.max() > length + 1e-6:
        raise UsageError(
            "positions_mm",
            f"{places.min():g} … {places.max():g} mm leave the volume",
            f"Its slices lie at 0 … {length:g} mm.",
        )
    return places


def _uid(*parts: object) -> UID:
    """A UID of the form 2.25.N (a UUID as an integer) that depends on the arguments only."""
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:15], 'big')}")


def _ds(value: float) -> str:
    return format_number_as_ds(float(value))


def _series_elements(volume: Volume, description: str, seed: int, series_number: int) -> Dataset:
    """Elements that all slices share."""
    lps = _RAS_TO_LPS @ volume.affine
    spacing = volume.spacing_mm
    directions = lps[:3, :2] / np.asarray(spacing[:2])
    common = Dataset()
    common.SpecificCharacterSet = "ISO_IR 192"
    common.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", "SYNTHETIC"]
    common.SOPClassUID = CTImageStorage
    common.StudyDate = common.SeriesDate = common.AcquisitionDate = common.ContentDate = _DATE
    common.StudyTime = common.SeriesTime = common.AcquisitionTime = common.ContentTime = _TIME
    common.AccessionNumber = ""
    common.Modality = "CT"
    common.Manufacturer, common.ManufacturerModelName = "mskt", "phantom"
    common.ReferringPhysicianName = ""
    common.StudyDescription, common.SeriesDescription = "Synthetic CT", description
    common.PatientName, common.PatientID = PATIENT_NAME, PATIENT_ID
    common.PatientBirthDate, common.PatientSex = "", "O"
    if volume.subject.height_m is not None:
        common.PatientSize = _ds(volume.subject.height_m)
    if volume.subject.weight_kg is not None:
        common.PatientWeight = _ds(volume.subject.weight_kg)
    common.KVP, common.XRayTubeCurrent, common.ExposureTime = "120", "200", "500"
    common.GantryDetectorTilt, common.PatientPosition = "0", "HFS"
    common.DataCollectionDiameter = "500"
    common.ReconstructionDiameter = _ds(spacing[0] * volume.data.shape[0])
    common.StudyInstanceUID = _uid(seed, "study")
    common.SeriesInstanceUID = _uid(seed, description, series_number)
    common.FrameOfReferenceUID = _uid(seed, "frame of reference")
    common.StudyID, common.SeriesNumber, common.AcquisitionNumber = "1", series_number, 1
    common.PositionReferenceIndicator = ""
    common.ImageOrientationPatient = [_ds(value) for value in directions.T.ravel()]
    common.PixelSpacing = [_ds(spacing[1]), _ds(spacing[0])]
    common.Rows, common.Columns = volume.data.shape[1], volume.data.shape[0]
    common.SamplesPerPixel, common.PhotometricInterpretation = 1, "MONOCHROME2"
    common.BitsAllocated = common.BitsStored = 16
    common.HighBit, common.PixelRepresentation = 15, 1
    common.WindowCenter, common.WindowWidth = "40", "400"
    common.RescaleIntercept, common.RescaleSlope, common.RescaleType = str(INTERCEPT), "1", "HU"
    return common


def _slice(common: Dataset, volume: Volume, place: float, number: int, uid: UID) -> Dataset:
    """One slice, at ``place`` mm along the third axis."""
    lps = _RAS_TO_LPS @ volume.affine
    axis = lps[:3, 2] / volume.spacing_mm[2]
    position = lps[:3, 3] + axis * place
    dataset = Dataset()
    dataset.update(common)
    dataset.SOPInstanceUID = uid
    dataset.InstanceNumber = number
    dataset.ImagePositionPatient = [_ds(value) for value in position]
    dataset.SliceLocation = _ds(float(position @ axis))
    values = np.clip(np.rint(_cut(volume, place)), LOWEST_HU, HIGHEST_HU) - INTERCEPT
    # pixels are stored row by row: the first array axis runs along a row
    dataset.PixelData = values.T.astype("<i2").tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = uid
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def _cut(volume: Volume, place: float) -> NDArray[np.float32]:
    """HU in the plane at ``place``, linear between the two nearest slices."""
    index = np.clip(place / volume.spacing_mm[2], 0, volume.data.shape[2] - 1)
    below = min(int(index), volume.data.shape[2] - 1)
    above = min(below + 1, volume.data.shape[2] - 1)
    weight = np.float32(index - below)
    lower = volume.data[:, :, below]
    return lower + weight * (volume.data[:, :, above] - lower)


def _write(dataset: Dataset, file: Path) -> None:
    temporary = file.with_name(f".{file.name}.part")
    dataset.save_as(temporary, enforce_file_format=True)
    temporary.replace(file)

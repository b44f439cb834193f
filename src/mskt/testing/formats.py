"""Files for the loader checks, written by independent libraries: NIfTI, NRRD, MetaImage, DICOM.

Each writer hides a person in the header, where the format has a place for it. The person is made
up; a loader must not let her out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

NAME, IDENTIFIER, BIRTH = "Mustermann^Erika", "PAT-0815-4711", "19391107"
SECRETS = ("mustermann", "erika", "0815-4711", BIRTH, "folder_of_mustermann")
PRIVATE_FOLDER = "folder_of_mustermann"
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

Writer = Callable[[Path, NDArray[Any], NDArray[np.float64]], Path]
"""(folder, whole-numbered HU or labels, RAS affine) → the path to give to a loader."""


def _write_nifti(name: str) -> Writer:
    def write(folder: Path, data: NDArray[Any], affine: NDArray[np.float64]) -> Path:
        import nibabel

        make: Any = nibabel.Nifti1Image
        image = make(data, affine)
        image.header["descrip"] = f"{NAME} {IDENTIFIER}".encode()
        image.header["aux_file"] = b"mustermann.dcm"
        image.header.set_xyzt_units("mm")
        if data.dtype == np.int16:  # HU: stored with a scale, so that applying it matters
            image = make(((data + 1024) * 2).astype(np.int16), affine, image.header)
            image.header.set_slope_inter(0.5, -1024)
        nibabel.save(image, folder / name)
        return folder / name

    return write


def _write_itk(name: str) -> Writer:
    def write(folder: Path, data: NDArray[Any], affine: NDArray[np.float64]) -> Path:
        import SimpleITK

        lps = RAS_TO_LPS @ affine
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        image: Any = SimpleITK.GetImageFromArray(np.ascontiguousarray(data.T))
        image.SetSpacing(spacing.tolist())
        image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
        image.SetOrigin(lps[:3, 3].tolist())
        image.SetMetaData("PatientName", NAME)
        image.SetMetaData("PatientID", IDENTIFIER)
        SimpleITK.WriteImage(image, str(folder / name))
        return folder / name

    return write


def write_dicom(folder: Path, data: NDArray[Any], affine: NDArray[np.float64]) -> Path:
    """A CT series, one file a slice; columns run along the first array axis."""
    from pydicom.uid import generate_uid

    lps = RAS_TO_LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    directions = lps[:3, :3] / spacing
    place = folder / "series"
    place.mkdir()
    uids = (generate_uid(), generate_uid(), generate_uid())
    for k in range(data.shape[2]):
        origin = lps[:3, 3] + k * lps[:3, 2]
        item = _ct_slice(np.ascontiguousarray(data[:, :, k].T), k, uids)
        item.ImagePositionPatient = [f"{v:.8g}" for v in origin]
        item.ImageOrientationPatient = [f"{v:.8g}" for v in directions[:, :2].T.ravel()]
        item.PixelSpacing = [f"{spacing[1]:.8g}", f"{spacing[0]:.8g}"]
        item.SliceThickness = f"{spacing[2]:.8g}"
        item.save_as(place / f"slice{k:04d}.dcm", enforce_file_format=True)
    return place


def _ct_slice(pixels: NDArray[Any], k: int, uids: tuple[str, str, str]) -> Any:
    """One CT slice in HU + 1024, without its place."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    item = Dataset()
    item.file_meta = FileMetaDataset()
    item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    item.SOPClassUID = item.file_meta.MediaStorageSOPClassUID = CTImageStorage
    item.SOPInstanceUID = item.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    item.StudyInstanceUID, item.SeriesInstanceUID, item.FrameOfReferenceUID = uids
    item.PatientName, item.PatientID, item.PatientBirthDate = NAME, IDENTIFIER, BIRTH
    item.Modality, item.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    item.SeriesNumber, item.InstanceNumber, item.SeriesDescription = 2, k + 1, "thigh"
    item.KVP, item.ConvolutionKernel = "120", "B30f"
    item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
    item.Rows, item.Columns = pixels.shape
    item.BitsAllocated, item.BitsStored, item.HighBit, item.PixelRepresentation = 16, 16, 15, 0
    item.RescaleIntercept, item.RescaleSlope, item.RescaleType = "-1024", "1", "HU"
    item.PixelData = (pixels + 1024).astype("<u2").tobytes()
    return item


IMAGES: Mapping[str, Writer] = MappingProxyType(
    {
        "NIfTI": _write_nifti("image.nii"),
        "compressed NIfTI": _write_nifti("image.nii.gz"),
        "NRRD": _write_itk("image.nrrd"),
        "MetaImage": _write_itk("image.mha"),
        "DICOM series": write_dicom,
    }
)
MASKS: Mapping[str, Writer] = MappingProxyType(
    {name: writer for name, writer in IMAGES.items() if name != "DICOM series"}
)

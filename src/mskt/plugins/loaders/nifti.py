"""NIfTI-1 and NIfTI-2 files, plain or gzip-compressed, in one pass and without float64 copies.

The header is nibabel's; voxels are read slab by slab straight into the float32 result, so that the
peak of memory is the result and one slab. Rules for the orientation stand in ``docs/inputs.md``.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from isal import igzip, isal_zlib
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from mskt.core.errors import GeometryError, InputError
from mskt.core.interfaces import Loader, LoadOptions
from mskt.core.volume import Volume
from mskt.plugins.loaders.allowances import unless_allowed
from mskt.plugins.loaders.geometry import Affine, settle_affine, single_volume
from mskt.plugins.loaders.hounsfield import settle_values
from mskt.plugins.loaders.integral import whole_numbers

SUFFIXES = (".nii", ".nii.gz")
SLAB_BYTES = 16 << 20
MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""NIfTI's xyzt_units: unknown (taken as mm, as everybody does), metre, millimetre, micrometre."""
_GZIP_MAGIC = b"\x1f\x8b"
_GREATEST_COMPRESSION = 1100  # deflate cannot do better than 1032 : 1
_DAMAGED: tuple[type[Exception], ...] = (EOFError, zlib.error, isal_zlib.error, igzip.BadGzipFile)  # type: ignore[assignment]


class NiftiLoader(Loader):
    """Reads ``.nii`` and ``.nii.gz``."""

    def accepts(self, path: Path) -> bool:
        """True for files with a NIfTI suffix."""
        return path.name.lower().endswith(SUFFIXES) and not path.is_dir()

    def load(self, path: Path, options: LoadOptions) -> Volume:
        """The CT image in HU.

        Raises:
            InputError: damaged, not one volume, not HU (:class:`HounsfieldError`) or without a
                usable orientation (:class:`GeometryError`).
        """
        with _opened(path) as stream:
            header = _read_header(stream, path)
            shape = _volume_shape(header, path)
            affine, source, notes = _orientation(header, path.name, options)
            settled, repairs = settle_affine(affine, shape, path.name, options)
            data: NDArray[np.float32] = np.empty(shape, np.float32, order="F")
            _read_voxels(stream, header, data, path.name)
        notes += repairs + settle_values(data, path.name, options)
        return Volume(data, settled, notes=tuple(notes), source=source)

    def load_labels(
        self, path: Path, options: LoadOptions
    ) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """A label map (integers as stored) and its affine in RAS mm."""
        with _opened(path) as stream:
            header = _read_header(stream, path)
            shape = _volume_shape(header, path)
            affine, _, _ = _orientation(header, path.name, options)
            settled, _ = settle_affine(affine, shape, path.name, options)
            stored = header.get_data_dtype().newbyteorder("=")
            exact = stored.kind in "iu" and _scaling(header, path.name) == (1.0, 0.0)
            data = np.empty(shape, stored if exact else np.float32, order="F")
            _read_voxels(stream, header, data, path.name)
        return whole_numbers(data, path.name), settled


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The uncompressed stream of a file; a reading fault becomes an InputError without path."""
    try:
        with path.open("rb") as raw:
            if raw.peek(2)[:2] != _GZIP_MAGIC:
                yield raw
                return
            with igzip.open(raw, "rb") as stream:
                yield stream
    except _DAMAGED as error:
        raise InputError(
            path.name, "its gzip data are truncated or damaged", "Copy or download the file again."
        ) from error
    except OSError as error:
        raise InputError(
            path.name,
            f"cannot be read ({error.strerror or type(error).__name__})",
            "Check that the file exists and that you may read it.",
        ) from error


def _read_header(stream: IO[bytes], path: Path) -> Nifti1Header:
    block = stream.read(348)
    if len(block) < 348:
        raise InputError(
            path.name,
            f"is too short for a NIfTI file ({len(block)} bytes)",
            "Copy or download the file again.",
        )
    kind: type[Nifti1Header] = Nifti1Header
    magic = block[344:348]
    if 540 in (struct.unpack(order, block[:4])[0] for order in ("<i", ">i")):
        block += stream.read(540 - 348)
        magic, kind = block[4:8], Nifti2Header
    if magic[:2] == b"ni":
        raise InputError(
            path.name,
            "is one half of a pair of files (.hdr and .img)",
            "Save it as one .nii.gz file.",
        )
    if magic[:2] != b"n+" or len(block) not in (348, 540):
        raise InputError(
            path.name,
            "is no NIfTI file, in spite of its name",
            "Check that the download or the conversion ended without an error.",
        )
    header = kind(block, check=False)
    _skip(stream, int(header["vox_offset"]) - len(block), path.name)
    return header


def _skip(stream: IO[bytes], count: int, thing: str) -> None:
    """Pass over header extensions; they may hold anything and are not looked at."""
    if count < 0 or count > 1 << 30:
        raise InputError(
            thing,
            "its header is damaged (impossible vox_offset)",
            "Copy or download the file again.",
        )
    while count > 0:
        passed = len(stream.read(min(count, 1 << 20)))
        if not passed:
            raise EOFError
        count -= passed


def _volume_shape(header: Nifti1Header, path: Path) -> tuple[int, int, int]:
    try:
        dtype = header.get_data_dtype()
        shape = header.get_data_shape()
    except (HeaderDataError, KeyError, ValueError) as error:
        raise InputError(
            path.name,
            "its header is damaged (unknown data type or shape)",
            "Copy or download the file again.",
        ) from error
    if dtype.names or dtype.kind not in "iufb":
        kind = "RGB colours" if dtype.names else f"values of type {dtype}"
        raise InputError(
            path.name,
            f"holds {kind}, not one number a voxel",
            "Give the CT itself, not a coloured picture of it.",
        )
    volume = single_volume(shape, path.name)
    size = int(np.prod(volume, dtype=np.int64)) * dtype.itemsize
    present = path.stat().st_size
    if size > present * _GREATEST_COMPRESSION:
        raise InputError(
            path.name,
            f"its header promises {size / 1e6:.0f} MB, the file has {present / 1e6:.2g} MB",
            "It is truncated or damaged: copy or download it again.",
        )
    return volume


def _scaling(header: Nifti1Header, thing: str) -> tuple[float, float]:
    try:
        slope, inter = header.get_slope_inter()
    except HeaderDataError as error:
        raise InputError(
            thing,
            "its scaling (scl_slope, scl_inter) is not a number",
            "Convert it again from the original.",
        ) from error
    return (1.0 if slope is None else float(slope), 0.0 if inter is None else float(inter))


def _orientation(
    header: Nifti1Header, thing: str, options: LoadOptions
) -> tuple[Affine, dict[str, Any], list[str]]:
    """Affine in mm, what writing back needs, and notes: sform before qform, never neither."""
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    qform = _qform(header, thing) if qform_code > 0 else None
    notes: list[str] = []
    if sform_code > 0:
        affine = np.asarray(header.get_sform(), np.float64)
        if qform is not None and not _agree(affine, qform):
            notes.append(
                "sform and qform of the file differ by "
                f"{_difference(affine, qform):.2g} (relative); the sform was used."
            )
    elif qform is not None:
        affine = qform
    elif "no-orientation" in options.allow:
        affine = np.asarray(header.get_base_affine(), np.float64)
        notes.append(
            "The file has no orientation (sform and qform code 0): its axes were taken as "
            "left, anterior, superior (--allow no-orientation). Left and right may be "
            "exchanged."
        )
    else:
        raise GeometryError(
            thing,
            "has no orientation (sform_code 0, qform_code 0): left and right are unknown",
            "Convert it again from the original DICOM series.\n" + unless_allowed("no-orientation"),
        )
    unit = int(header["xyzt_units"]) & 7
    if unit not in MM_PER_UNIT:
        raise GeometryError(
            thing,
            f"its unit of length is unknown (xyzt_units {unit})",
            "Correct the header: 2 means mm.",
        )
    source = {
        "format": "nifti",
        "sform_code": sform_code,
        "qform_code": qform_code,
        "dtype": header.get_data_dtype().newbyteorder("=").name,
        "affine": affine.tolist(),
        "xyzt_units": int(header["xyzt_units"]),
    }
    return np.diag([MM_PER_UNIT[unit]] * 3 + [1.0]) @ affine, source, notes


def _qform(header: Nifti1Header, thing: str) -> Affine:
    try:
        qform: Affine = np.asarray(header.get_qform(), np.float64)
    except (HeaderDataError, ValueError) as error:
        raise GeometryError(
            thing,
            "its qform is no rotation (quaternion longer than 1)",
            "Convert it again from the original DICOM series.",
        ) from error
    return qform


def _agree(first: Affine, second: Affine) -> bool:
    return _difference(first, second) <= 1e-3


def _difference(first: Affine, second: Affine) -> float:
    """Largest difference of direction columns relative to spacing, and of origins to 1 m."""
    spacing = np.maximum(np.linalg.norm(first[:3, :3], axis=0), 1e-12)
    directions = np.abs(first - second)[:3, :3] / spacing
    return float(max(directions.max(), np.abs(first - second)[:3, 3].max() / 1000.0))


def _read_voxels(stream: IO[bytes], header: Nifti1Header, out: NDArray[Any], thing: str) -> None:
    """Fill ``out`` (Fortran order) slab by slab, scaled in its own type.

    What is stored as ``out`` has it goes there without another place between.

    Raises:
        InputError: the file ends too early.
    """
    stored = header.get_data_dtype()
    slope, inter = _scaling(header, thing)
    as_stored = stored == out.dtype and (slope, inter) == (1.0, 0.0)
    slice_bytes = out.shape[0] * out.shape[1] * stored.itemsize
    thickness = max(1, SLAB_BYTES // slice_bytes)
    buffer = bytearray(0 if as_stored else thickness * slice_bytes)
    for start in range(0, out.shape[2], thickness):
        slab = out[:, :, start : start + thickness]
        if as_stored:
            view = slab.reshape(-1, order="F").view(np.uint8).data
        else:
            view = memoryview(buffer)[: slab.shape[2] * slice_bytes]
        filled = _fill(stream, view)
        if filled < len(view):
            read = start * slice_bytes + filled
            raise InputError(
                thing,
                f"ends after {read / 1e6:.2g} of {out.shape[2] * slice_bytes / 1e6:.2g} MB",
                "It is truncated: copy or download it again.",
            )
        if as_stored:
            continue
        with np.errstate(all="ignore"):  # NaN and overflow are found and named later
            slab[...] = np.frombuffer(view, stored).reshape(slab.shape, order="F")
            if slope != 1.0:
                slab *= np.float32(slope)
            if inter != 0.0:
                slab += np.float32(inter)
    stream.read(1)  # the end of a gzip stream holds its checksum: reading there verifies it


def _fill(stream: IO[bytes], view: memoryview) -> int:
    filled = 0
    while filled < len(view):
        count = stream.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            break
        filled += count
    return filled

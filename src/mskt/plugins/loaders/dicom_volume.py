"""From the DICOM files of a folder or archive to a volume in HU.

The place of every slice is its ImagePositionPatient, projected on the normal of
ImageOrientationPatient: never its number, its SliceLocation or the order of files.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mskt.core.errors import GeometryError, HounsfieldError
from mskt.core.interfaces import LoadOptions
from mskt.core.volume import Subject, Volume
from mskt.plugins.loaders.allowances import unless_allowed
from mskt.plugins.loaders.dicom_files import Parts, dicom_parts
from mskt.plugins.loaders.dicom_headers import SliceHeader, quiet_pydicom, read_header
from mskt.plugins.loaders.dicom_pixels import read_hu
from mskt.plugins.loaders.dicom_positions import Plan, plan
from mskt.plugins.loaders.dicom_series import Series, choose, group
from mskt.plugins.loaders.geometry import LPS_TO_RAS, Affine, settle_affine
from mskt.plugins.loaders.hounsfield import settle_values

TILT_TOLERANCE_DEG = 0.05
DRIFT_TOLERANCE_PIXELS = 0.1


def read_volume(path: Path, options: LoadOptions) -> Volume:
    """The chosen CT series; for the errors see :meth:`DicomLoader.load`."""
    thing = path.absolute().name
    with quiet_pydicom(), dicom_parts(path) as parts:
        headers, notes = _read_headers(parts)
        series, others = choose(group(headers), thing, options)
        notes += others
        _check_scaling(series, thing, options)
        ordered, places = _in_order(series)
        notes += _check_tilt(ordered, places, thing, options)
        scheme = plan(places, thing, options, 4 * series.first.rows * series.first.columns)
        notes += scheme.notes
        affine, repairs = settle_affine(
            _affine(ordered[0], scheme),
            (series.first.columns, series.first.rows, len(scheme.places_mm)),
            thing,
            options,
        )
        data = _stack(ordered, places, scheme).transpose(2, 1, 0)
    subject, remarks = _subject(series.first)
    notes += repairs + settle_values(data, thing, options) + remarks
    return Volume(
        data,
        affine,
        subject=subject,
        notes=tuple(notes),
        source={
            "format": "dicom",
            "dtype": "int16",
            "affine": affine.tolist(),
            "resampled": scheme.resampled,
        },
    )


def _read_headers(parts: Parts) -> tuple[list[SliceHeader], list[str]]:
    headers = [read_header(part) for part in parts.dicom]
    notes = []
    if parts.junk:
        notes.append(f"Skipped, not DICOM: {parts.junk} file{'s' if parts.junk > 1 else ''}.")
    other = Counter(header.modality for header in headers if not header.is_image)
    if other:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(other.items()))
        notes.append(f"Skipped, DICOM without an image: {kinds}.")
    return [header for header in headers if header.is_image], notes


def _check_scaling(series: Series, thing: str, options: LoadOptions) -> None:
    if "not-hu" in options.allow:
        return
    for name, tag in (
        ("slope", "RescaleSlope (0028,1053)"),
        ("intercept", "RescaleIntercept (0028,1052)"),
    ):
        lacking = [part for part in series.slices if getattr(part, name) is None]
        if lacking:
            raise HounsfieldError(
                thing,
                f"{len(lacking)} of {len(series.slices)} slices lack {tag}, the first is "
                f"{lacking[0].part.name}: stored values cannot be turned into Hounsfield units",
                "Export the original series again.\n" + unless_allowed("not-hu"),
            )
    zero = [part for part in series.slices if part.slope == 0]
    if zero:
        raise HounsfieldError(
            thing,
            f"RescaleSlope (0028,1053) is 0 in {zero[0].part.name}",
            "Export the original series again.",
        )


def _in_order(series: Series) -> tuple[list[SliceHeader], NDArray[np.float64]]:
    """Slices sorted along their normal, and their places on it in mm."""
    normal = _normal(series.first)
    places = np.array([part.position for part in series.slices]) @ normal
    order = np.argsort(places, kind="stable")
    return [series.slices[index] for index in order], places[order]


def _normal(header: SliceHeader) -> NDArray[np.float64]:
    assert header.orientation is not None  # choose() lets no series without it pass
    normal: NDArray[np.float64] = np.cross(header.orientation[:3], header.orientation[3:])
    length = float(np.linalg.norm(normal))
    if length < 0.9:
        raise GeometryError(
            header.part.name,
            "ImageOrientationPatient (0020,0037) does not name two perpendicular directions",
            "Export the original series again.",
        )
    return normal / length


def _check_tilt(
    ordered: list[SliceHeader], places: NDArray[np.float64], thing: str, options: LoadOptions
) -> list[str]:
    """Slices must lie straight above each other: a tilted gantry shears the stack."""
    first, normal = ordered[0], _normal(ordered[0])
    positions = np.array([part.position for part in ordered])
    drift = positions - positions[0] - np.outer(places - places[0], normal)
    size = np.linalg.norm(drift, axis=1)
    assert first.pixel_spacing is not None
    if size.max() > DRIFT_TOLERANCE_PIXELS * first.pixel_spacing.min():
        raise _sheared(drift, places, thing)
    tilt = max((part.tilt_deg or 0.0 for part in ordered), key=abs)
    if abs(tilt) <= TILT_TOLERANCE_DEG:
        return []
    if "gantry-tilt" not in options.allow:
        raise GeometryError(
            thing,
            f"GantryDetectorTilt (0018,1120) is {tilt:g}°, though the slice positions show none",
            "Check how the series was reformatted.\n" + unless_allowed("gantry-tilt"),
        )
    return [f"GantryDetectorTilt of {tilt:g}° was ignored: the slice positions show none."]


def _sheared(drift: NDArray[np.float64], places: NDArray[np.float64], thing: str) -> GeometryError:
    along = places - places[0]
    slope = along @ drift / max(float(along @ along), 1e-12)
    largest = float(np.linalg.norm(drift, axis=1).max())
    if np.linalg.norm(drift - np.outer(along, slope), axis=1).max() < 0.1 * largest:
        angle = float(np.degrees(np.arctan(np.linalg.norm(slope))))
        return GeometryError(
            thing,
            f"the gantry was tilted by {angle:.2f}° (from the slice positions; "
            "GantryDetectorTilt is tag 0018,1120)",
            "Have the series reconstructed without tilt, or resampled to perpendicular axes.",
        )
    return GeometryError(
        thing,
        f"its slices are shifted sideways against each other by up to {largest:.2f} mm",
        "It holds reconstructions with different centres: give one of them.",
    )


def _affine(lowest: SliceHeader, scheme: Plan) -> Affine:
    """Index (column, row, slice) to RAS mm."""
    assert lowest.position is not None and lowest.orientation is not None
    assert lowest.pixel_spacing is not None
    row_direction, column_direction = lowest.orientation[:3], lowest.orientation[3:]
    between_rows, between_columns = lowest.pixel_spacing
    lps = np.eye(4)
    lps[:3, 0] = row_direction * between_columns
    lps[:3, 1] = column_direction * between_rows
    lps[:3, 2] = _normal(lowest) * scheme.step_mm
    lps[:3, 3] = lowest.position
    return LPS_TO_RAS @ lps


def _stack(
    ordered: list[SliceHeader], places: NDArray[np.float64], scheme: Plan
) -> NDArray[np.float32]:
    """Slices × rows × columns in HU; linear along the normal, two slices in memory at a time."""
    first = ordered[0]
    out = np.empty((len(scheme.places_mm), first.rows, first.columns), np.float32)
    if not scheme.resampled:
        for index, header in enumerate(ordered):
            out[index] = read_hu(header)
        return out
    below, above = read_hu(ordered[0]), read_hu(ordered[1])
    upper = 1
    for index, place in enumerate(scheme.places_mm):
        while place > places[upper] and upper < len(places) - 1:
            upper += 1
            below, above = above, read_hu(ordered[upper])
        weight = (place - places[upper - 1]) / (places[upper] - places[upper - 1])
        out[index] = below + np.float32(np.clip(weight, 0.0, 1.0)) * (above - below)
    return out


def _subject(header: SliceHeader) -> tuple[Subject, list[str]]:
    """Height and weight where they are plausible; a height in centimetres is converted."""
    height, weight, notes = header.height, header.weight_kg, []
    if height is not None and 50 <= height <= 250:
        height /= 100
        notes.append("PatientSize (0010,1020) was taken as centimetres.")
    if height is not None and not 0.5 <= height <= 2.5:
        height = None
    if weight is not None and not 2 <= weight <= 500:
        weight = None
    return Subject(height_m=height, weight_kg=weight), notes

"""Which files belong together, and which series is meant.

Files are one series if their identifiers, kernel, matrix, pixel spacing and orientation agree. One
CT series is taken; among several the user chooses: the refusal lists what there is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from mskt.core.errors import GeometryError, InputError
from mskt.core.interfaces import LoadOptions
from mskt.plugins.loaders.dicom_headers import SliceHeader

ORIENTATION_TOLERANCE = 2e-3
_PLANES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True, slots=True)
class Series:
    """Slices that belong together, in no order."""

    slices: tuple[SliceHeader, ...]

    @property
    def first(self) -> SliceHeader:
        """Any of the slices: for what is the same in all."""
        return self.slices[0]

    @property
    def usable(self) -> bool:
        """True for a stack of CT slices with known places."""
        first = self.first
        return (
            first.modality == "CT"
            and not first.is_localizer
            and not first.is_multi_frame
            and first.samples == 1
            and len(self.slices) > 1
            and self.lacking is None
        )

    @property
    def lacking(self) -> str | None:
        """The geometry tag that at least one slice lacks."""
        for name, tag in (
            ("position", "ImagePositionPatient (0020,0032)"),
            ("orientation", "ImageOrientationPatient (0020,0037)"),
            ("pixel_spacing", "PixelSpacing (0028,0030)"),
        ):
            if any(getattr(part, name) is None for part in self.slices):
                return tag
        return None

    def describe(self) -> str:
        """One line for a list: technical facts, no names."""
        first = self.first
        facts = [
            first.modality,
            f"{len(self.slices)} slices",
            f"{first.columns}×{first.rows}",
            self._plane(),
        ]
        if first.pixel_spacing is not None:
            facts.append(f"pixel {first.pixel_spacing[1]:.3g} mm")
        if first.thickness_mm is not None:
            thick = sorted({part.thickness_mm for part in self.slices if part.thickness_mm})
            facts.append("slice thickness " + " and ".join(f"{value:g}" for value in thick) + " mm")
        if first.kernel:
            facts.append(f"kernel {first.kernel}")
        return ", ".join(facts)

    def _plane(self) -> str:
        if self.first.orientation is None:
            return "orientation unknown"
        normal = np.abs(np.cross(self.first.orientation[:3], self.first.orientation[3:]))
        return _PLANES[int(normal.argmax())] if normal.max() > 0.9 else "oblique"


def group(headers: Sequence[SliceHeader]) -> list[Series]:
    """The series among images, in an order that does not depend on file names."""
    stacks: dict[Hashable, list[list[SliceHeader]]] = {}
    for header in headers:
        candidates = stacks.setdefault(_identity(header), [])
        for stack in candidates:
            if _same_orientation(stack[0], header):
                stack.append(header)
                break
        else:
            candidates.append([header])
    series = [Series(tuple(stack)) for candidates in stacks.values() for stack in candidates]
    return sorted(series, key=_order)


def _identity(header: SliceHeader) -> Hashable:
    spacing = None if header.pixel_spacing is None else tuple(np.round(header.pixel_spacing, 4))
    return (
        header.study,
        header.series,
        header.series_number,
        header.frame_of_reference,
        header.modality,
        header.is_localizer,
        header.kernel,
        header.rows,
        header.columns,
        header.samples,
        spacing,
    )


def _same_orientation(first: SliceHeader, second: SliceHeader) -> bool:
    if first.orientation is None or second.orientation is None:
        return first.orientation is second.orientation
    return bool(np.abs(first.orientation - second.orientation).max() <= ORIENTATION_TOLERANCE)


def _order(series: Series) -> tuple[float, str, str, int]:
    first = series.first
    number = float(first.series_number) if first.series_number.lstrip("-").isdigit() else np.inf
    return (number, first.series, series.describe(), -len(series.slices))


def choose(series: Sequence[Series], thing: str, options: LoadOptions) -> tuple[Series, list[str]]:
    """The one CT series, or the one the user named; and a note about the others.

    Raises:
        InputError: none, or more than one and no choice.
    """
    usable = [one for one in series if one.usable]
    if options.series is not None:
        chosen = _named(series, usable, options.series, thing)
        if not chosen.usable:
            raise _nothing_usable([chosen], thing)
    elif len(usable) == 1:
        chosen = usable[0]
    elif usable:
        raise InputError(
            thing,
            f"holds {len(usable)} CT series, and choosing one would be a guess:\n"
            + _listing(usable),
            f"Choose by number: --series 1 … --series {len(usable)}.",
        )
    else:
        raise _nothing_usable(series, thing)
    others = [one for one in series if one is not chosen]
    return chosen, [f"Not read: {_summary(others)}."] if others else []


def _named(series: Sequence[Series], usable: Sequence[Series], name: str, thing: str) -> Series:
    if name.isdigit() and 1 <= int(name) <= len(usable):
        return usable[int(name) - 1]
    same = [one for one in series if one.first.series == name and name]
    if len(same) == 1:
        return same[0]
    if not usable:
        raise _nothing_usable(series, thing)
    raise InputError(
        thing,
        f"has no series {name!r}; its CT series are:\n" + _listing(usable),
        f"Choose by number: --series 1 … --series {len(usable)}.",
    )


def _listing(usable: Sequence[Series]) -> str:
    return "\n".join(f"  {number}: {one.describe()}" for number, one in enumerate(usable, start=1))


def _summary(others: Sequence[Series]) -> str:
    """Counts by kind: ``1 localizer (2 images), 1 PT series (120 images)``."""
    images: Counter[str] = Counter()
    series: Counter[str] = Counter()
    for one in others:
        kind = "localizer" if one.first.is_localizer else f"{one.first.modality} series"
        images[kind] += len(one.slices)
        series[kind] += 1
    return ", ".join(f"{series[kind]} {kind} ({images[kind]} images)" for kind in sorted(series))


def _nothing_usable(series: Sequence[Series], thing: str) -> InputError:
    """Why there is nothing to take: the most telling reason first."""
    ct = [one for one in series if one.first.modality == "CT"]
    if not ct:
        found = _summary(series) or "no images"
        kinds = " and ".join(sorted({one.first.modality for one in series})) or "none"
        return InputError(
            thing,
            f"holds no CT: its modality is {kinds} ({found})",
            "mskt reads Hounsfield units: give a CT series (Modality CT).",
        )
    largest = max(ct, key=lambda one: len(one.slices))
    first = largest.first
    if first.is_multi_frame:
        return InputError(
            thing,
            f"is enhanced (multi-frame) CT: {first.frames} frames in one file ({first.part.name})",
            "Convert it to NIfTI (for example with dcm2niix) or export it as classic CT.",
        )
    if all(one.first.is_localizer for one in ct):
        return InputError(
            thing,
            f"holds only scout views (ImageType LOCALIZER, {len(largest.slices)} images)",
            "Give the folder of the CT series.",
        )
    if first.samples != 1:
        return InputError(
            thing,
            f"holds colour images ({first.samples} samples a pixel)",
            "Give the CT itself: dose reports and 3D views are pictures.",
        )
    if largest.lacking:
        return GeometryError(
            thing,
            f"at least one slice lacks {largest.lacking}",
            "Export the original series again; the place of a slice is not guessed.",
        )
    return InputError(
        thing,
        f"its largest CT series has one slice ({first.part.name})",
        "Give the folder that holds all slices of the series.",
    )

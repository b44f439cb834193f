"""Where the slices of a series are, and whether any is missing.

Rules (``docs/inputs.md``), for the gaps between neighbouring slices along their normal:

- *uniform*: all gaps agree within 1 % or 0.05 mm; the slices are taken as they are.
- *regular run*: at least three consecutive gaps that agree. A series may have several with
  different intervals: the protocol changed the interval, nothing is missing.
- Any other gap is *isolated*. Up to 1.5 times the larger interval of the regular runs next to it,
  nothing can be missing there; from 1.5 times on, slices are missing and the series is refused.
- Without any regular run, the smallest gap stands for the interval.

A series that is not uniform is resampled linearly, from the true positions, to its smallest
interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mskt.core.errors import GeometryError
from mskt.core.interfaces import LoadOptions
from mskt.plugins.loaders.allowances import unless_allowed

Floats = NDArray[np.float64]

REGULAR_RUN = 3
MISSING_FROM = 1.5
RELATIVE_TOLERANCE, TOLERANCE_MM = 0.01, 0.05
SMALLEST_STEP_MM = 0.5
LARGEST_RESULT_BYTES = 2 << 30
_FEW = 6


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive gaps that agree: ``gaps[start:stop]``, and their mean in mm."""

    start: int
    stop: int
    interval_mm: float

    @property
    def regular(self) -> bool:
        """Long enough to be an interval that the protocol meant."""
        return self.stop - self.start >= REGULAR_RUN


@dataclass(frozen=True, slots=True)
class Plan:
    """The slices of the result.

    Attributes:
        places_mm: along the normal, ascending, uniform.
        step_mm: interval of the result.
        resampled: false if the result's slices are the series' slices.
    """

    places_mm: Floats
    step_mm: float
    resampled: bool
    notes: tuple[str, ...] = ()


def plan(places_mm: Floats, thing: str, options: LoadOptions, slice_bytes: int) -> Plan:
    """How to make one uniform stack of slices at ``places_mm`` (ascending).

    Args:
        places_mm: of the slices along their normal, ascending.
        thing: what the user calls the series.
        options: for ``missing-slices``.
        slice_bytes: of one slice of the result; bounds the number of slices.

    Raises:
        GeometryError: slices are missing, or several lie at one place.
    """
    gaps = np.diff(places_mm)
    refuse_duplicates(places_mm, thing)
    count = len(places_mm)
    step = float((places_mm[-1] - places_mm[0]) / (count - 1))
    straight = places_mm[0] + step * np.arange(count)
    if np.abs(gaps - step).max() <= _tolerance(step) and np.abs(places_mm - straight).max() <= max(
        2 * TOLERANCE_MM, 0.1 * step
    ):
        return Plan(straight, step, resampled=False)
    runs = regular_runs(gaps)
    holes = find_holes(gaps, runs)
    notes = []
    if holes:
        if "missing-slices" not in options.allow:
            raise _missing(places_mm, gaps, holes, thing)
        notes.append(f"Missing slices were interpolated: {_holes_text(places_mm, holes)}.")
    return _resampling(places_mm, gaps, runs, slice_bytes, notes)


def refuse_duplicates(places_mm: Floats, thing: str) -> None:
    """Raise a GeometryError if several slices lie at one place."""
    gaps = np.diff(places_mm)
    # doubles are also those a hair apart: 5 % of the usual gap, but never of a tiny one
    same = np.flatnonzero(gaps < max(0.01, min(0.05, 0.05 * float(np.median(gaps)))))
    if same.size:
        raise GeometryError(
            thing,
            f"{same.size} of {len(places_mm)} slices lie where another one lies "
            f"(positions {_positions(places_mm[same])} mm along the normal)",
            "It holds copies, two acquisitions or several phases: leave one of each in the folder.",
        )


def _tolerance(interval_mm: float) -> float:
    return max(TOLERANCE_MM, RELATIVE_TOLERANCE * interval_mm)


def regular_runs(gaps: Floats) -> list[Run]:
    """All runs of gaps that agree with the first of their run."""
    runs, start = [], 0
    for index in range(1, len(gaps) + 1):
        if index == len(gaps) or abs(gaps[index] - gaps[start]) > _tolerance(gaps[start]):
            runs.append(Run(start, index, float(gaps[start:index].mean())))
            start = index
    return runs


def find_holes(gaps: Floats, runs: Sequence[Run]) -> list[tuple[int, float]]:
    """Isolated gaps too large for their surroundings, with the interval expected there."""
    regular = [run for run in runs if run.regular]
    holes = []
    for run in runs:
        if run.regular:
            continue
        before = [other.interval_mm for other in regular if other.stop <= run.start][-1:]
        after = [other.interval_mm for other in regular if other.start >= run.stop][:1]
        expected = max(before + after, default=float(gaps.min()))
        holes += [
            (index, expected)
            for index in range(run.start, run.stop)
            if gaps[index] >= MISSING_FROM * expected - TOLERANCE_MM
        ]
    return holes


def _missing(
    places_mm: Floats, gaps: Floats, holes: Sequence[tuple[int, float]], thing: str
) -> GeometryError:
    lost = sum(max(1, round(gaps[index] / expected) - 1) for index, expected in holes)
    return GeometryError(
        thing,
        f"about {lost} slice{'s are' if lost > 1 else ' is'} missing: "
        + _holes_text(places_mm, holes),
        "Export or copy the whole series again.\n" + unless_allowed("missing-slices"),
    )


def _holes_text(places_mm: Floats, holes: Sequence[tuple[int, float]]) -> str:
    texts = [
        f"no slice between {places_mm[index]:.2f} and {places_mm[index + 1]:.2f} mm "
        f"(interval there {expected:.4g} mm)"
        for index, expected in holes[:_FEW]
    ]
    more = f"; and {len(holes) - _FEW} more gaps" if len(holes) > _FEW else ""
    return "; ".join(texts) + more


def _resampling(
    places_mm: Floats, gaps: Floats, runs: Sequence[Run], slice_bytes: int, notes: list[str]
) -> Plan:
    regular = [run.interval_mm for run in runs if run.regular]
    step = max(SMALLEST_STEP_MM, min(regular or [float(gaps.min())]))
    extent = float(places_mm[-1] - places_mm[0])
    most = max(2, LARGEST_RESULT_BYTES // max(1, slice_bytes))
    wanted = step
    step = max(step, extent / (most - 1))
    if step > wanted:
        notes.append(f"The interval was widened from {wanted:.4g} to {step:.4g} mm to save memory.")
    count = int(extent / step + 1e-3) + 1
    notes.append(
        f"The slice interval changes inside the series ({_ranges(places_mm, runs)}); it was "
        f"resampled linearly from the true positions to {step:.4g} mm."
    )
    return Plan(places_mm[0] + step * np.arange(count), step, resampled=True, notes=tuple(notes))


def _ranges(places_mm: Floats, runs: Sequence[Run]) -> str:
    regular = [run for run in runs if run.regular]
    if not regular:
        gaps = np.diff(places_mm)
        return f"{gaps.min():.4g} to {gaps.max():.4g} mm"
    texts = [
        f"{run.interval_mm:.4g} mm from {places_mm[run.start]:.1f} to {places_mm[run.stop]:.1f}"
        for run in regular[:_FEW]
    ]
    if len(regular) > _FEW:
        texts.append(f"{len(regular) - _FEW} more ranges")
    return ", ".join(texts)


def _positions(values: Floats) -> str:
    shown = ", ".join(f"{value:.2f}" for value in values[:_FEW])
    return shown + (", …" if len(values) > _FEW else "")

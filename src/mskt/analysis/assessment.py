"""Volume, density, composition and uncertainty of every structure and side of one case.

Soufi 2024: volume in cm³, per height squared where the height is known; mean HU; fat below −30 HU,
mixed tissue in [−30, 30], lean tissue above 30; the predictive structure-wise variance (PSV), the
mean of the voxels' uncertainty over the structure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mskt.core.anatomy import LabelSet, Structure
from mskt.core.errors import GeometryError
from mskt.core.foreground import slabs
from mskt.core.records import Record
from mskt.core.sides import LEFT, RIGHT
from mskt.core.volume import FloatArray, Labels, Volume

FAT_BELOW_HU, LEAN_ABOVE_HU = -30.0, 30.0


OF_THE_WHOLE = frozenset({"volume", "normalized_volume"})
"""What cannot be said of a structure of which only a part is in view."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What tells the rows of one result from those of another.

    Attributes:
        uncertainty: name of the estimator.
    """

    case_id: str
    dataset: str = ""
    segmenter: str = ""
    uncertainty: str = ""
    run_id: str = ""


@dataclass(frozen=True)
class _Sums:
    """Sums over the voxels of each label and side code, arrays ``(256, 3)``; float64."""

    voxels: NDArray[np.float64]
    hu: NDArray[np.float64]
    hu_squared: NDArray[np.float64]
    fat: NDArray[np.float64]
    lean: NDArray[np.float64]
    uncertainty: NDArray[np.float64]


def assess(
    labels: Labels,
    image: Volume | None,
    sides: NDArray[np.uint8],
    uncertainty: FloatArray | None = None,
    unit: str = "1",
    *,
    keys: Keys,
    truncated: Collection[tuple[int, str]] = frozenset(),
) -> list[Record]:
    """Describe each structure of the label set, on each side, as rows of the results table.

    Args:
        labels: label map on the grid of the image.
        image: the CT, in HU; None leaves out what needs intensities or the height.
        sides: 0 unsided, 1 right, 2 left, as :func:`mskt.core.sides.separate_sides` gives it.
        uncertainty: one value a voxel; None leaves the metric out.
        unit: of the uncertainty.
        keys: case, dataset, segmenter, estimator and run.
        truncated: ``(index, side)`` of structures that the field of view cuts. All their rows have
            the status ``truncated``; those of :data:`OF_THE_WHOLE` have no value.

    Returns:
        Rows in the order of the label set, then left, right, both, then metrics. A structure or
        side without voxels has empty values and the status ``absent_prediction``, or ``truncated``
        where it may lie beyond the field of view. Rows of
        ``normalized_volume`` exist only where the height is known. Where the sides of paired
        structures could not be told, only ``both`` is described.

    Raises:
        GeometryError: the arrays do not have the shape of the label map.
    """
    hu = None if image is None else image.data
    _check_shapes(labels.data, {"image": hu, "sides": sides, "uncertainty map": uncertainty})
    sums = _sum(labels.data, hu, sides, uncertainty)
    sided = _sides_known(sums.voxels, labels.label_set)
    rows = []
    for structure in labels.label_set.structures:
        for side, codes in _sides_of(structure, sided):
            present = sums.voxels[structure.index, codes].sum() > 0
            status = "ok" if present else "absent_prediction"
            if (structure.index, side) in truncated:
                status = "truncated"
            for metric, value, its_unit in _describe(
                sums,
                structure.index,
                codes,
                labels.grid.voxel_volume_cm3,
                image,
                unit if uncertainty is not None else None,
            ):
                whole = status != "truncated" or metric not in OF_THE_WHOLE
                rows.append(
                    Record(
                        **asdict(keys),
                        structure=structure.name,
                        side=side,
                        metric=metric,
                        value=value if present and whole else None,
                        unit=its_unit,
                        status=status,
                    )
                )
    return rows


def _check_shapes(labels: NDArray[np.uint8], others: Mapping[str, NDArray[Any] | None]) -> None:
    for name, array in others.items():
        if array is not None and array.shape != labels.shape:
            raise GeometryError(
                name,
                f"has the shape {array.shape}, the label map {labels.shape}",
                "Both must lie on the same grid.",
            )


def _sum(
    labels: NDArray[np.uint8],
    hu: FloatArray | None,
    sides: NDArray[np.uint8],
    uncertainty: FloatArray | None,
) -> _Sums:
    """Add up everything in one walk over the foreground, slab by slab in memory order."""
    order = np.argsort([-abs(stride) for stride in labels.strides], kind="stable")
    labels, sides = labels.transpose(order), sides.transpose(order)
    image = None if hu is None else hu.transpose(order)
    extra = None if uncertainty is None else uncertainty.transpose(order)
    totals = np.zeros((6, 768))
    for part in slabs(labels):
        here = labels[part] != 0
        code = labels[part][here].astype(np.int64) * 3 + sides[part][here]
        totals[0] += np.bincount(code, minlength=768)
        if image is not None:
            values = image[part][here].astype(np.float64)
            for row, weights in enumerate(
                (
                    values,
                    values * values,
                    values < FAT_BELOW_HU,
                    values > LEAN_ABOVE_HU,
                ),
                start=1,
            ):
                totals[row] += np.bincount(code, weights, 768)
        if extra is not None:
            totals[5] += np.bincount(code, extra[part][here], 768)
    return _Sums(*totals.reshape(6, 256, 3))


def _sides_known(voxels: NDArray[np.float64], label_set: LabelSet) -> bool:
    """Tell whether the paired structures that are there have sides."""
    paired = [s.index for s in label_set.structures if s.side == "both"]
    counts = voxels[paired].sum(axis=0)
    return bool(counts.sum() == 0 or counts[[RIGHT, LEFT]].sum() > 0)


def _sides_of(structure: Structure, sided: bool) -> Iterator[tuple[str, list[int]]]:
    """Name the sides that a structure has rows for, and their codes."""
    if structure.side == "both" and sided:
        yield "left", [LEFT]
        yield "right", [RIGHT]
    whole = structure.side if structure.side in ("left", "right") else "both"
    yield whole, [0, RIGHT, LEFT]


def _describe(
    sums: _Sums,
    index: int,
    codes: list[int],
    voxel_cm3: float,
    image: Volume | None,
    unit: str | None,
) -> Iterator[tuple[str, float, str]]:
    """Yield metric, value and unit; values mean nothing where there are no voxels."""

    def total(array: NDArray[np.float64]) -> float:
        return float(array[index, codes].sum())

    count = total(sums.voxels)
    n = max(count, 1.0)
    yield "volume", count * voxel_cm3, "cm3"
    if image is not None:
        if image.subject.height_m:
            yield "normalized_volume", count * voxel_cm3 / image.subject.height_m**2, "cm3/m2"
        mean = total(sums.hu) / n
        yield "mean_hu", mean, "HU"
        yield "sd_hu", max(total(sums.hu_squared) / n - mean * mean, 0.0) ** 0.5, "HU"
        fat, lean = total(sums.fat), total(sums.lean)
        yield "fat_fraction", fat / n, "1"
        yield "mixed_fraction", (count - fat - lean) / n, "1"
        yield "lean_fraction", lean / n, "1"
    if unit is not None:
        yield "uncertainty", total(sums.uncertainty) / n, unit

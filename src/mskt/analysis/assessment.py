"""Volume, density, composition and uncertainty of every structure and side of one case.

Soufi 2024: volume in cm³, per height squared where the height is known; mean HU; fat below −30 HU,
mixed tissue in [−30, 30], lean tissue above 30; the predictive structure-wise variance (PSV), the
mean of the voxels' uncertainty over the structure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mskt.core.anatomy import LabelSet, Structure, label_set
from mskt.core.errors import GeometryError
from mskt.core.foreground import slabs
from mskt.core.records import Record
from mskt.core.sides import LEFT, RIGHT
from mskt.core.structurewise import AGGREGATIONS, OF_VOXELS, Structurewise, structurewise
from mskt.core.volume import FloatArray, Labels, Volume

FAT_BELOW_HU, LEAN_ABOVE_HU = -30.0, 30.0


OF_THE_WHOLE = frozenset({"volume", "normalized_volume", "volume_lower", "volume_upper"})
"""What cannot be said of a structure of which only a part is in view."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """What an estimator says of a case.

    Attributes:
        map: one value a voxel of the label map's grid.
        unit: of it.
        measure: its name.
        aggregation: how it becomes the metric ``uncertainty``
            (:data:`mskt.core.structurewise.AGGREGATIONS`).
        structures: further numbers about whole structures; None if there are none.
        units: of the further measures among them, by name.
    """

    map: FloatArray
    unit: str = "1"
    measure: str = ""
    aggregation: str = "mean"
    structures: Structurewise | None = None
    units: Mapping[str, str] = field(default_factory=dict)


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
    doubt: Doubt | None = None,
    *,
    keys: Keys,
    truncated: Collection[tuple[int, str]] = frozenset(),
) -> list[Record]:
    """Describe each structure of the label set, on each side, as rows of the results table.

    Args:
        labels: label map on the grid of the image.
        image: the CT, in HU; None leaves out what needs intensities or the height.
        sides: 0 unsided, 1 right, 2 left, as :func:`mskt.core.sides.separate_sides` gives it.
        doubt: of the estimator; None leaves its metrics out.
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
    extra = None if doubt is None else doubt.map
    _check_shapes(labels.data, {"image": hu, "sides": sides, "uncertainty map": extra})
    sums = _sum(labels.data, hu, sides, extra)
    sided = _sides_known(sums.voxels, labels.label_set)
    rows = []
    for structure in labels.label_set.structures:
        for side, codes in _sides_of(structure, sided):
            present = sums.voxels[structure.index, codes].sum() > 0
            status = "ok" if present else "absent_prediction"
            if (structure.index, side) in truncated:
                status = "truncated"
            for metric, value, unit in _describe(
                sums, structure.index, codes, labels.grid.voxel_volume_cm3, image, doubt
            ):
                whole = status != "truncated" or metric not in OF_THE_WHOLE
                lacking = value is None and status == "ok"
                rows.append(
                    Record(
                        **asdict(keys),
                        structure=structure.name,
                        side=side,
                        metric=metric,
                        value=value if present and whole else None,
                        unit=unit,
                        status="undefined" if lacking else status,
                    )
                )
    return rows


def metrics_of_run(measure: str, further: Mapping[str, str]) -> frozenset[str]:
    """Name the metrics that every run with an estimator has, before there is a case.

    Found by describing an empty scan, so that they are those of :func:`assess` and no list beside it.
    Left out is what depends on the case: volumes by height, comparisons with a reference.

    Args:
        measure: of the estimator.
        further: units of its further measures, by name.
    """
    empty = np.zeros((1, 1, 1), np.uint8)
    image = Volume(empty.astype(np.float32), np.eye(4))
    structures = structurewise([], empty, empty, image.grid)
    doubt = Doubt(image.data, "1", measure, "mean", structures, further)
    labels = Labels(empty, image.affine, label_set("msk22"))
    return frozenset(row.metric for row in assess(labels, image, empty, doubt, keys=Keys("")))


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
    doubt: Doubt | None,
) -> Iterator[tuple[str, float | None, str]]:
    """Yield metric, value and unit; values mean nothing where there are no voxels."""

    def total(array: NDArray[np.float64]) -> float:
        return float(array[index, codes].sum())

    count = total(sums.voxels)
    n = max(count, 1.0)
    volume, mean = count * voxel_cm3, total(sums.hu) / n
    yield "volume", volume, "cm3"
    if image is not None:
        if image.subject.height_m:
            yield "normalized_volume", volume / image.subject.height_m**2, "cm3/m2"
        yield "mean_hu", mean, "HU"
        yield "sd_hu", max(total(sums.hu_squared) / n - mean * mean, 0.0) ** 0.5, "HU"
        fat, lean = total(sums.fat), total(sums.lean)
        yield "fat_fraction", fat / n, "1"
        yield "mixed_fraction", (count - fat - lean) / n, "1"
        yield "lean_fraction", lean / n, "1"
    if doubt is None:
        return
    plain: float | None = total(sums.uncertainty) / n
    if doubt.structures is None:
        yield "uncertainty", plain, doubt.unit
        return
    yield from _intervals(doubt.structures, index, codes, volume, None if image is None else mean)
    yield from _doubts(doubt, doubt.structures, index, codes, plain)


def _intervals(
    structures: Structurewise, index: int, codes: list[int], volume: float, mean_hu: float | None
) -> Iterator[tuple[str, float | None, str]]:
    """Volume and mean HU ± the spread of the draws: where 95 % of further draws would lie.

    The model's own spread around its own result: whether the truth lies there is another question.
    """
    width = structures.half_width()
    cv, sd = structures.volume_cv(index, codes), structures.hu_sd(index, codes)
    off = None if cv is None else width * cv * volume
    yield "volume_lower", None if off is None else max(0.0, volume - off), "cm3"
    yield "volume_upper", None if off is None else volume + off, "cm3"
    if mean_hu is not None:
        yield "mean_hu_lower", None if sd is None else mean_hu - width * sd, "HU"
        yield "mean_hu_upper", None if sd is None else mean_hu + width * sd, "HU"


def _doubts(
    doubt: Doubt, structures: Structurewise, index: int, codes: list[int], plain: float | None
) -> Iterator[tuple[str, float | None, str]]:
    """The metric ``uncertainty``, and every other aggregation as ``uncertainty:NAME``."""
    chosen = plain
    if doubt.aggregation != "mean":
        chosen = structures.doubt(index, codes, doubt.aggregation, doubt.measure)
    of_voxels = doubt.aggregation in OF_VOXELS
    yield "uncertainty", chosen, doubt.unit if of_voxels else "1"
    for measure, unit in {doubt.measure: doubt.unit, **doubt.units}.items():
        for name in OF_VOXELS:
            value = structures.doubt(index, codes, name, measure)
            yield f"uncertainty:{measure}_{name}", value, unit
    for name in AGGREGATIONS[len(OF_VOXELS) :]:
        yield f"uncertainty:{name}", structures.doubt(index, codes, name), "1"

"""A prediction against a reference: every metric, for every structure and side they share.

The two may come from different tools. They are compared on the finest structures that both label
sets can express (TotalSegmentator's ``iliopsoas`` with ``iliacus`` + ``psoas_major``); what the
prediction's set cannot express is listed as ``not_in_label_set``, never as a miss.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mskt.analysis.assessment import Keys, assess
from mskt.analysis.common import UNNAMED, CommonStructures, common_structures, numbered_alike
from mskt.analysis.recoding import any_sided, renumber
from mskt.core.anatomy import LabelSet, Structure
from mskt.core.errors import GeometryError
from mskt.core.foreground import foreground_box
from mskt.core.interfaces import LabelPair, Metric
from mskt.core.midplane import estimate_midplane
from mskt.core.postprocess import truncated
from mskt.core.records import Record
from mskt.core.registry import Registry
from mskt.core.resample import resample_labels
from mskt.core.sides import LEFT, separate_sides
from mskt.core.volume import Grid, Labels, Volume

Box = tuple[slice, slice, slice]
_Row = tuple[str, float | None, str, str]  # metric, value, unit, status


def metrics_of(registry: Registry, tolerance_mm: float = 2.0) -> list[Metric]:
    """Build every installed family of metrics.

    Args:
        registry: where to look.
        tolerance_mm: of the surface Dice; given to every family that takes it.
    """
    found = []
    for name in sorted(registry.names("metric"), key=_own_first):
        known = inspect.signature(registry.find("metric", name).spec.load()).parameters
        options = {"tolerance_mm": tolerance_mm} if "tolerance_mm" in known else {}
        found.append(registry.get("metric", name, **options))
    return found


def _own_first(name: str) -> tuple[int, str]:
    own = ("overlap", "surface")
    return (own.index(name) if name in own else len(own), name)


def compare(
    prediction: Labels,
    reference: Labels,
    metrics: Sequence[Metric],
    *,
    keys: Keys,
    image: Volume | None = None,
    prediction_sides: NDArray[np.uint8] | None = None,
    reference_sides: NDArray[np.uint8] | None = None,
) -> list[Record]:
    """Measure a prediction against its reference.

    Args:
        prediction: label map of any label set.
        reference: label map of any label set on the same grid.
        metrics: families to compute (:func:`metrics_of`).
        keys: case, dataset, segmenter, estimator and run.
        image: the CT; with it the error of the mean HU (``aie``) is measured too.
        prediction_sides: side of every voxel where it is known; separated here by default.
        reference_sides: the same for the reference.

    Returns:
        Rows in the order of the reference's label set, then left, right, both, then metrics. A
        structure that touches the border of the field of view in either map keeps its values with
        the status ``truncated``.

    Raises:
        GeometryError: the grids differ.
        UsageError: one of the masks has a table of labels and the other has none.
    """
    check_same_grid(prediction.grid, reference.grid)
    prediction, reference = numbered_alike(prediction, reference)
    common = common_structures(prediction.label_set, reference.label_set)
    sides = separate_both(prediction, reference, prediction_sides, reference_sides)
    pair = _Pair.of(prediction, reference, sides, common)
    rows: dict[tuple[str, str], list[_Row]] = {}
    for structure, side, row in pair.measure(metrics, image):
        rows.setdefault((structure, side), []).append(row)
    return list(_records(common, rows, pair.sided, _columns(metrics, image), keys))


def check_same_grid(prediction: Grid, reference: Grid) -> None:
    """Refuse masks on different grids, with the numbers.

    Raises:
        GeometryError: shape or position of the voxels differ.
    """
    if prediction.same_as(reference, tolerance_mm=0.01):
        return

    def told(grid: Grid) -> str:
        origin = ", ".join(f"{x:.2f}" for x in grid.affine[:3, 3])
        spacing = " × ".join(f"{s:.4g}" for s in grid.spacing_mm)
        shape = "×".join(map(str, grid.shape))
        return f"{shape} voxels of {spacing} mm, first voxel at ({origin}) mm"

    raise GeometryError(
        "prediction",
        f"lies on another grid than its reference: {told(prediction)}; reference {told(reference)}",
        "Bring it back to the grid of the image with the tool that made it, or let mskt take the "
        "nearest label: --resample-prediction.",
    )


def on_grid(labels: Labels, grid: Grid) -> Labels:
    """Bring a label map to another grid: the label of the nearest voxel, 0 outside."""
    data = resample_labels(labels.data, labels.grid, grid)
    return Labels(data, grid.affine, labels.label_set)


def separate_both(
    prediction: Labels,
    reference: Labels,
    prediction_sides: NDArray[np.uint8] | None = None,
    reference_sides: NDArray[np.uint8] | None = None,
) -> list[NDArray[np.uint8]]:
    """Separate left and right in both maps; where only one shows the midline, both use it.

    Sides that are given are returned as they are. Maps without names have no sides.
    """
    known = (prediction_sides, reference_sides)
    if reference.label_set.name == UNNAMED:
        return [np.zeros_like(labels.data) for labels in (prediction, reference)]
    found = [
        sides if sides is not None else separate_sides(labels.data, labels.grid, labels.label_set)
        for labels, sides in zip((prediction, reference), known, strict=True)
    ]
    for this, other in ((0, 1), (1, 0)):
        labels, guide = (prediction, reference)[this], (prediction, reference)[other]
        if known[this] is None and not found[this].any() and labels.data.any():
            plane = estimate_midplane(guide.data, guide.grid, guide.label_set)
            if plane is not None:
                found[this] = separate_sides(
                    labels.data, labels.grid, labels.label_set, plane=plane
                )
    return found


@dataclass(frozen=True)
class _Pair:
    """Both maps in common numbers, cropped to the foreground of either."""

    maps: tuple[NDArray[np.uint8], NDArray[np.uint8]]
    sides: tuple[NDArray[np.uint8], NDArray[np.uint8]]
    box: Box
    affine: NDArray[np.float64]
    label_set: LabelSet
    truncated: frozenset[tuple[int, str]]
    sided: bool

    @classmethod
    def of(
        cls,
        prediction: Labels,
        reference: Labels,
        sides: Sequence[NDArray[np.uint8]],
        common: CommonStructures,
    ) -> _Pair:
        box = _union_box(prediction.data, reference.data)
        maps = (
            renumber(common.of_prediction, prediction.data[box]),
            renumber(common.of_reference, reference.data[box]),
        )
        cropped = (sides[0][box], sides[1][box])
        cut: set[tuple[int, str]] = set()
        for labels, its_sides, table in zip(
            (prediction, reference), sides, (common.of_prediction, common.of_reference), strict=True
        ):
            for index, side in truncated(labels.data, its_sides, labels.label_set):
                cut.add((int(table[index]), side))
        paired = np.zeros(256, bool)
        paired[[s.index for s in common.label_set.structures if s.side == "both"]] = True
        sided = any_sided(paired, maps, cropped)
        return cls(
            maps,
            cropped,
            box,
            prediction.affine,
            common.label_set,
            frozenset(cut),
            sided and reference.label_set.name != UNNAMED,
        )

    def measure(
        self, metrics: Sequence[Metric], image: Volume | None
    ) -> Iterator[tuple[str, str, _Row]]:
        """Yield structure, side and row of every metric."""
        hu = None if image is None else image.data[self.box]
        for codes, meaning in self._codings():
            pair = LabelPair(
                *codes,
                tuple(meaning),
                Grid(self.maps[0].shape, self.affine).spacing_mm,
                hu,
                frozenset(
                    code
                    for code, (structure, side) in meaning.items()
                    if (structure.index, side) in self.truncated
                ),
            )
            for metric in metrics:
                for m in metric.measure(pair):
                    structure, side = meaning[m.index]
                    yield structure.name, side, (m.metric, m.value, m.unit, m.status)
        if image is not None:
            yield from self._intensity_errors(image)

    def _codings(
        self,
    ) -> Iterator[tuple[tuple[NDArray[Any], NDArray[Any]], dict[int, tuple[Structure, str]]]]:
        """Yield both maps numbered by structure, then by structure and side.

        A pair of bones that touch at the midline has a border there only when each is looked at
        alone, so "both" cannot be put together from left and right.
        """
        structures = self.label_set.structures
        yield self.maps, {s.index: (s, _whole(s)) for s in structures}
        paired = [s for s in structures if s.side == "both"] if self.sided else []
        if paired:
            table = np.zeros((3, 256), np.uint8 if 2 * len(structures) + 1 < 256 else np.uint16)
            meaning = {}
            for s in paired:
                for code, name in ((LEFT, "left"), (3 - LEFT, "right")):
                    table[code, s.index] = 2 * s.index + (code == LEFT)
                    meaning[int(table[code, s.index])] = (s, name)
            first, second = (
                renumber(table.ravel(), labels, sides)
                for labels, sides in zip(self.maps, self.sides, strict=True)
            )
            yield (first, second), meaning

    def _intensity_errors(self, image: Volume) -> Iterator[tuple[str, str, _Row]]:
        """Yield ``aie``: the difference of the mean HU over prediction and reference."""
        crop = Volume(image.data[self.box], image.affine)
        means = []
        for labels, sides in zip(self.maps, self.sides, strict=True):
            rows = assess(
                Labels(labels, self.affine, self.label_set),
                crop,
                sides,
                keys=Keys(""),
                truncated=self.truncated,
            )
            means.append({(r.structure, r.side): r for r in rows if r.metric == "mean_hu"})
        for place in means[0].keys() | means[1].keys():
            first, second = (found.get(place) for found in means)
            p, r = (None if row is None else row.value for row in (first, second))
            status = {
                (True, True): "absent_both",
                (True, False): "absent_prediction",
                (False, True): "absent_reference",
            }.get((p is None, r is None), "ok")
            if status == "ok" and (self.label_set[place[0]].index, place[1]) in self.truncated:
                status = "truncated"
            value = None if p is None or r is None else abs(p - r)
            yield *place, ("aie", value, "HU", status)


def cropped(labels: Labels, sides: NDArray[np.uint8]) -> tuple[Labels, NDArray[np.uint8]]:
    """Cut a label map and its sides, as views, to the box of its foreground; as they are if empty.

    For counting voxels. Sums of HU would round otherwise: they are added up slab by slab.
    """
    box = foreground_box(labels.data)
    if box is None:
        return labels, sides
    affine = labels.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [part.start for part in box]
    return Labels(labels.data[box], affine, labels.label_set), sides[box]


def _union_box(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Box:
    boxes = [box for box in map(foreground_box, (first, second)) if box] or [(slice(0, 1),) * 3]
    i, j, k = (
        slice(min(b[a].start for b in boxes), max(b[a].stop for b in boxes)) for a in range(3)
    )
    return (i, j, k)


def _whole(structure: Structure) -> str:
    """Name the side in the row of a whole structure."""
    return structure.side if structure.side in ("left", "right") else "both"


def _columns(metrics: Sequence[Metric], image: Volume | None) -> list[tuple[str, str]]:
    """List metric and unit in the order of the table."""
    columns = [(info.name, info.unit) for metric in metrics for info in metric.infos]
    return columns + ([("aie", "HU")] if image is not None else [])


def _records(
    common: CommonStructures,
    rows: Mapping[tuple[str, str], Collection[_Row]],
    sided: bool,
    columns: Sequence[tuple[str, str]],
    keys: Keys,
) -> Iterator[Record]:
    """Put the rows into the order of the reference's label set."""
    shared = common.label_set.by_name
    for name in common.order:
        structure = shared.get(name) or common.not_shared[name]
        pairs = ["left", "right"] if sided and structure.side == "both" else []
        for side in (*pairs, _whole(structure)):
            found = (
                rows.get((name, side), ())
                if name in shared
                else [(metric, None, unit, "not_in_label_set") for metric, unit in columns]
            )
            for metric, value, unit, status in found:
                yield Record(
                    **asdict(keys),
                    structure=name,
                    side=side,
                    metric=metric,
                    value=value,
                    unit=unit,
                    status=status,
                )

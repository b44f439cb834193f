"""Which slices of a case show most: levels found from the labels.

Works on *canonical* arrays: axes point to the patient's right, front and head (RAS), so that a large
first index is the patient's right. A picture in the radiological convention has that on its left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mskt.core.anatomy import LabelSet
from mskt.core.volume import Grid

HEAD_BELOW_TOP_MM = 24.0
"""The centre of the femoral head lies about its radius below the highest point of the femur."""
MID_THIGH_BELOW_TOP_MM = 215.0
_SHORTEST_THIGH_MM = 130.0
_COARSE_MM = 3.0
_WORTH_SHOWING = 0.5  # of the other head: less is a stray piece, or hardly in view
_FEMUR = ("femur", "femur_left", "femur_right")


@dataclass(frozen=True)
class View:
    """One slice.

    Attributes:
        axis: canonical axis that is cut: 0 sagittal, 1 coronal, 2 axial.
        index: of the slice along that axis of the canonical array.
        title: what the slice is to show.
    """

    axis: int
    index: int
    title: str


class _Coarse:
    """Every n-th voxel of a canonical label map: enough to find levels, a hundred times faster."""

    def __init__(
        self, labels: NDArray[np.uint8], sides: NDArray[np.uint8], grid: Grid, label_set: LabelSet
    ) -> None:
        self.steps = [max(1, int(_COARSE_MM / s)) for s in grid.spacing_mm]
        self.mm = [s * n for s, n in zip(grid.spacing_mm, self.steps, strict=True)]
        a, b, c = self.steps
        self.labels = np.ascontiguousarray(labels[::a, ::b, ::c])
        self.sides = np.ascontiguousarray(sides[::a, ::b, ::c])
        femur = [s.index for s in label_set.structures if s.name in _FEMUR]
        self.femur = np.isin(self.labels, femur)
        self.any = self.labels > 0

    def extent(self, mask: NDArray[np.bool_], axis: int) -> tuple[int, int] | None:
        """First and last index of a mask along an axis, ignoring specks."""
        count = mask.sum(axis=tuple(a for a in range(3) if a != axis))
        filled = np.flatnonzero(count > max(1, 0.02 * count.max(initial=0)))
        return (int(filled[0]), int(filled[-1])) if filled.size else None

    def full(self, axis: int, index: float) -> int:
        """Index in the full array of a coarse index."""
        return round(index) * self.steps[axis]


def choose(
    labels: NDArray[np.uint8], sides: NDArray[np.uint8], grid: Grid, label_set: LabelSet
) -> tuple[View, View, View, View]:
    """Two axial slices, one coronal and one sagittal.

    Args:
        labels: canonical label map; may be empty (then the middle of the volume is shown).
        sides: 1 right, 2 left, 0 neither, like ``labels``.
        grid: canonical grid.
        label_set: of the labels.
    """
    coarse = _Coarse(labels, sides, grid, label_set)
    z = coarse.extent(coarse.femur, 2) or coarse.extent(coarse.any, 2)
    if z is None:
        i, j, k = (n // 2 for n in grid.shape)
        return (
            View(2, k, "axial, middle"),
            View(2, grid.shape[2] // 4, "axial, lower quarter"),
            View(1, j, "coronal, middle"),
            View(0, i, "sagittal, middle"),
        )
    return (*_axial(coarse, z), _coronal(coarse), _sagittal(coarse, z))


def _axial(coarse: _Coarse, z: tuple[int, int]) -> tuple[View, View]:
    """The hip joint, and the middle of the thigh or else the upper pelvis."""
    step = coarse.mm[2]
    low, high = z
    if not coarse.femur.any() or high >= coarse.labels.shape[2] - 1:
        # The femoral head is not in view: two levels of what there is.
        areas = coarse.any.sum(axis=(0, 1))
        first = int(areas.argmax())
        second = (
            (low + high) / 2 if abs((low + high) / 2 - first) * step > 40 else (low + 3 * high) / 4
        )
        return (
            View(2, coarse.full(2, first), "axial, most muscle"),
            View(2, coarse.full(2, second), "axial, second level"),
        )
    # The outermost slices of a scan are its worst.
    hip = max(min(low + 6.0 / step, high), high - HEAD_BELOW_TOP_MM / step)
    joint = View(2, coarse.full(2, hip), "axial, hip joint")
    if (high - low) * step >= _SHORTEST_THIGH_MM:
        middle = max(high - MID_THIGH_BELOW_TOP_MM / step, low + 0.25 * (high - low))
        return joint, View(2, coarse.full(2, middle), "axial, thigh")
    whole = coarse.extent(coarse.any, 2) or z
    if (whole[1] - hip) * step > 40:
        return joint, View(2, coarse.full(2, (hip + whole[1]) / 2), "axial, upper pelvis")
    return joint, View(2, coarse.full(2, (whole[0] + hip) / 2), "axial, below the joint")


def _coronal(coarse: _Coarse) -> View:
    mask = coarse.femur if coarse.femur.any() else coarse.any
    # Head and shaft are not in one plane; the slice with most femur shows both best.
    count = mask.sum(axis=(0, 2)).astype(float)
    return View(
        1,
        coarse.full(1, int(_smooth(count).argmax())),
        "coronal, femurs" if coarse.femur.any() else "coronal, most muscle",
    )


def _sagittal(coarse: _Coarse, z: tuple[int, int]) -> View:
    """Through the head of the right femur, or of the left where there is no right one to speak of."""
    mask = coarse.femur if coarse.femur.any() else coarse.any
    low, high = z
    first = max(low, int(high - 2 * HEAD_BELOW_TOP_MM / coarse.mm[2]))
    head, sides = mask[:, :, first : high + 1], coarse.sides[:, :, first : high + 1]
    right, left = ((head & (sides == side)).sum(axis=(1, 2)).astype(float) for side in (1, 2))
    best, name = (left, "left") if right.sum() < _WORTH_SHOWING * left.sum() else (right, "right")
    if not best.any():
        best, name = mask.sum(axis=(1, 2)).astype(float), "unknown side,"
    return View(0, coarse.full(0, int(_smooth(best).argmax())), f"sagittal, {name} hip")


def _smooth(count: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.convolve(count, np.ones(3) / 3, mode="same")

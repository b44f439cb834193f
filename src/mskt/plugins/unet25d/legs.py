"""Which part of the body belongs to which leg, also where the legs touch.

Between two femurs, each slice is cut by a line across the axis that joins them, where least body
lies in its way: the gap between the legs, or the neck where their skins touch. Neighbouring slices
agree on where that is (dynamic programming over the height).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mskt.core.volume import Grid
from mskt.plugins.unet25d.femur import Shaft

RIGHT: Final = "right"
LEFT: Final = "left"
BIN_MM = 4.0
REACH = 0.32
"""How far from the middle the cut may lie, as a part of the distance of the femurs."""
MIDDLE_MM = 0.15
"""Body that a cut may save for each mm from the middle: the middle wins where nothing tells."""
NECK_MM = 140.0
"""A cut through more body than this goes through the trunk: no place of it is better than another."""
BEND = 6.0
"""Body (mm) that a step of one bin between neighbouring slices must save."""
SHAFT_SLOPE_MM = 100.0
"""A femur that leans outwards by 0.1 counts as much as one that lies 10 mm outside the middle."""


@dataclass(frozen=True)
class Leg:
    """One leg.

    Attributes:
        side: ``right`` or ``left``.
        shaft: its femur.
        mask: what belongs to it, shape of the canonical grid that it was found on.
    """

    side: str
    shaft: Shaft
    mask: NDArray[np.bool_]


def separated(body: NDArray[np.bool_], grid: Grid, femurs: Sequence[Shaft]) -> tuple[Leg, ...]:
    """The legs to these femurs, the right one first.

    Args:
        body: True inside the skin, on a canonical grid.
        grid: of it.
        femurs: one or two, by growing x; +x is the patient's right.
    """
    if len(femurs) == 1:
        side = side_of(femurs[0], body, grid)
        return (Leg(side, femurs[0], _around(femurs[0], body, grid)),)
    on_right = _right_of_cut(body, grid, femurs[0], femurs[1])
    return (
        Leg(RIGHT, femurs[1], body & on_right),
        Leg(LEFT, femurs[0], body & ~on_right),
    )


def side_of(femur: Shaft, body: NDArray[np.bool_], grid: Grid) -> str:
    """The side of a femur that is alone in view.

    The femur lies on the outer side of the thigh and leans outwards on its way up; where the trunk
    is in view, it lies at one side of it.
    """
    z = np.array([s.z for s in femur.sections])
    step = grid.spacing_mm[2]
    high = grid.affine[2, 3] + step * np.arange(grid.shape[2])
    upper = np.flatnonzero(high >= np.median(z))
    offsets = []
    for k in upper[body[:, :, upper].any(axis=(0, 1))] if len(upper) else ():
        i = np.flatnonzero(body[:, :, k].any(axis=1))
        weights = body[i, :, k].sum(axis=1)
        middle = grid.affine[0, 3] + grid.affine[0, 0] * np.average(i, weights=weights)
        offsets.append(float(femur.at(high[k])[0]) - middle)
    lean = SHAFT_SLOPE_MM * float(femur.direction[0] / femur.direction[2])
    return RIGHT if (np.mean(offsets) if offsets else 0.0) + lean >= 0 else LEFT


def _around(femur: Shaft, body: NDArray[np.bool_], grid: Grid) -> NDArray[np.bool_]:
    """In each slice, the piece of the body in which the femur lies."""
    out = np.zeros_like(body)
    inverse = np.linalg.inv(grid.affine)
    for k in np.flatnonzero(body.any(axis=(0, 1))):
        pieces, count = ndimage.label(body[:, :, k])
        if count == 1:
            out[:, :, k] = body[:, :, k]
            continue
        place = femur.at(grid.affine[2, 3] + grid.affine[2, 2] * k)
        i, j = (inverse @ [*place, 1.0])[:2]
        rows, columns = np.indices(pieces.shape)
        distance = np.hypot(rows - i, columns - j)
        nearest = np.argmin(np.where(pieces > 0, distance, np.inf))
        out[:, :, k] = pieces == pieces.flat[nearest]
    return out


def _right_of_cut(
    body: NDArray[np.bool_], grid: Grid, left: Shaft, right: Shaft
) -> NDArray[np.bool_]:
    """True on the right leg's side of the cut."""
    i, j = np.meshgrid(*(np.arange(n) for n in grid.shape[:2]), indexing="ij")
    x, y = (grid.affine[a, 0] * i + grid.affine[a, 1] * j for a in (0, 1))
    places, widths, costs = [], [], []
    for k in range(grid.shape[2]):
        sx, sy, sz = grid.affine[:3, 2] * k + grid.affine[:3, 3]
        a, b = left.at(sz)[:2], right.at(sz)[:2]
        apart = float(np.linalg.norm(b - a))
        across, middle = (b - a) / max(apart, 1e-6), (a + b) / 2
        place = (x + sx - middle[0]) * across[0] + (y + sy - middle[1]) * across[1]
        places.append(place)
        widths.append(REACH * apart)
        costs.append(_body_by_place(place[body[:, :, k]], grid))
    cut = _smooth_path(np.array(costs), np.array(widths))
    return np.stack([place > at for place, at in zip(places, cut, strict=True)], axis=-1)


_BINS: Final = 61


def _body_by_place(places: NDArray[np.float64], grid: Grid) -> NDArray[np.float64]:
    """Length of body (mm) that a cut meets at each bin from the middle."""
    bins = np.rint(places / BIN_MM).astype(int) + _BINS // 2
    counts = np.bincount(bins[(bins >= 0) & (bins < _BINS)], minlength=_BINS)
    length = counts * grid.spacing_mm[0] * grid.spacing_mm[1] / BIN_MM
    return np.asarray(np.minimum(length, NECK_MM), np.float64)


def _smooth_path(costs: NDArray[np.float64], widths: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each slice the place (mm from the middle) of the cheapest path through all slices."""
    offsets = (np.arange(_BINS) - _BINS // 2) * BIN_MM
    total = costs + MIDDLE_MM * np.abs(offsets)
    total[np.abs(offsets)[None] > np.maximum(widths, BIN_MM)[:, None]] = np.inf
    step = BEND * np.abs(np.subtract.outer(np.arange(_BINS), np.arange(_BINS)))
    best, came = total[0], []
    for row in total[1:]:
        ways = best[None, :] + step
        came.append(ways.argmin(axis=1))
        best = row + ways.min(axis=1)
    path = [int(best.argmin())]
    for back in reversed(came):
        path.append(int(back[path[-1]]))
    return np.asarray(offsets[path[::-1]])

"""Level 1: the affine that lays an atlas's body on the patient's, by bounded least squares of the HU.

What is compared is chosen before the search and stays: places that leave the atlas's field of view
meet its last slice, not nothing, so nothing is gained by running away. Every parameter has bounds,
and a weak pull towards the start decides what the images do not tell, such as the length of a leg
of which twelve slices are seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage, optimize

from mskt.core.volume import FloatArray

COARSE_TO_FINE_MM = (16.0, 8.0)
"""Distance of the compared places; images are smoothed with half of it."""
RADIUS_MM = 150.0
"""Stretch and shear are counted in the mm by which they move a place so far from the centre."""
STRETCH_MM, SHIFT_MM = 40.0, 60.0
"""Bounds of the search, each way: 27 % of stretch or shear, and a shift."""
_PULL_MM, _PULL = 20.0, 0.02
"""A parameter that moves by 20 mm costs as much as a mean square of 0.02 (14 HU)."""
_SCALE_HU = 100.0
_FEWEST = 200
"""Places that both images must see for a search."""
_MOST_STEPS = 25


@dataclass(frozen=True, eq=False)
class Affine:
    """Takes mm from the patient's first voxel to mm from the atlas's: ``matrix · x + shift``."""

    matrix: NDArray[np.float64]
    shift: NDArray[np.float64]

    def __call__(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Move places, (3, n) in mm."""
        moved: NDArray[np.float64] = self.matrix @ places + self.shift[:, None]
        return moved

    def transform(self) -> sitk.AffineTransform:
        """The same for SimpleITK."""
        out = sitk.AffineTransform(3)
        out.SetMatrix(self.matrix.ravel().tolist())
        out.SetTranslation(self.shift.tolist())
        return out


class _Pair:
    """Two smoothed images, compared at regular places of the patient's."""

    def __init__(
        self,
        fixed: FloatArray,
        moving: FloatArray,
        spacing_mm: tuple[float, float, float],
        distance_mm: float,
    ) -> None:
        self._step = np.asarray(spacing_mm)[:, None]
        sigma = [distance_mm / 2 / step if distance_mm > step else 0.0 for step in spacing_mm]
        smooth = ndimage.gaussian_filter(fixed, sigma, mode="nearest")
        every = tuple(
            slice(None, None, max(1, round(distance_mm / step)) if size > 16 else 1)
            for step, size in zip(spacing_mm, fixed.shape, strict=True)
        )
        index = np.indices(fixed.shape)[(slice(None), *every)].reshape(3, -1)
        self.places = index * self._step
        self.values = smooth[every].ravel().astype(np.float64) / _SCALE_HU
        # Air beside the atlas goes on for ever; its first and last slice do as well.
        aired = np.pad(moving, ((2, 2), (2, 2), (0, 0)), constant_values=float(moving.min()))
        self._moving = ndimage.gaussian_filter(aired, sigma, mode="nearest") / _SCALE_HU
        self._length_mm = (moving.shape[2] - 1) * spacing_mm[2]
        self._edge = np.array([[2.0], [2.0], [0.0]])

    def seen(self, places: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which places of the atlas (mm) lie between its first and last slice."""
        return np.asarray((places[2] >= 0) & (places[2] <= self._length_mm))

    def sampled(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """The atlas at its places (mm)."""
        index = places / self._step + self._edge
        out: NDArray[np.float64] = ndimage.map_coordinates(
            self._moving, index, np.float64, order=1, mode="nearest"
        )
        return out

    def slope(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Its gradient there, (3, n) per mm."""
        out = np.empty_like(places)
        for axis in range(3):
            half = np.zeros((3, 1))
            half[axis] = self._step[axis] / 2
            ahead, behind = self.sampled(places + half), self.sampled(places - half)
            out[axis] = (ahead - behind) / self._step[axis]
        return out


def best_start(
    fixed: FloatArray,
    moving: FloatArray,
    spacing_mm: tuple[float, float, float],
    starts: Sequence[Affine],
) -> Affine:
    """The start whose images correlate best, times the share of the patient that it lets see."""
    pair = _Pair(fixed, moving, spacing_mm, COARSE_TO_FINE_MM[0])

    def score(start: Affine) -> float:
        there = start(pair.places)
        seen = pair.seen(there)
        if seen.sum() < _FEWEST:
            return -1.0
        return correlation(pair.values[seen], pair.sampled(there)[seen]) * float(seen.mean())

    return max(starts, key=score)  # the first of equals


def fitted(
    fixed: FloatArray,
    moving: FloatArray,
    spacing_mm: tuple[float, float, float],
    start: Affine,
) -> Affine:
    """The affine near ``start`` with the least squares of the HU.

    Args:
        fixed: HU of the patient clipped to tissue, air darker than fat: the skin is a strong edge.
        moving: the same of the atlas.
        spacing_mm: of both.
        start: where the atlas lies by the body's level; returned if the two share too little.
    """
    centre = (np.asarray(fixed.shape) - 1)[:, None] * np.asarray(spacing_mm)[:, None] / 2
    parameters = np.zeros(12)
    for distance in COARSE_TO_FINE_MM:
        pair = _Pair(fixed, moving, spacing_mm, distance)
        seen = pair.seen(_moved(start, parameters, centre)(pair.places))
        if seen.sum() < _FEWEST:
            return start
        parameters = _search(pair, seen, start, centre, parameters)
    return _moved(start, parameters, centre)


def _search(
    pair: _Pair,
    seen: NDArray[np.bool_],
    start: Affine,
    centre: NDArray[np.float64],
    parameters: NDArray[np.float64],
) -> NDArray[np.float64]:
    places, values = pair.places[:, seen], pair.values[seen]
    begun = start(places)
    arms = np.vstack([(places - centre) / RADIUS_MM, np.ones((1, places.shape[1]))])  # (4, n)
    norm = 1 / np.sqrt(values.size)
    pull = np.sqrt(_PULL) / _PULL_MM

    def there(p: NDArray[np.float64]) -> NDArray[np.float64]:
        moved: NDArray[np.float64] = begun + p.reshape(3, 4) @ arms
        return moved

    def misfit(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([(pair.sampled(there(p)) - values) * norm, p * pull])

    def jacobian(p: NDArray[np.float64]) -> NDArray[np.float64]:
        slope = pair.slope(there(p)) * norm
        images = (slope[:, None] * arms[None]).reshape(12, -1).T
        return np.vstack([images, np.eye(12) * pull])

    most = np.tile([STRETCH_MM] * 3 + [SHIFT_MM], 3)
    found = optimize.least_squares(
        misfit, parameters, jacobian, bounds=(-most, most), max_nfev=_MOST_STEPS, xtol=1e-4,
        ftol=1e-4,
    )  # fmt: skip
    out: NDArray[np.float64] = found.x
    return out


def _moved(start: Affine, parameters: NDArray[np.float64], centre: NDArray[np.float64]) -> Affine:
    """The start with parameters in mm: three of stretch and shear and one of shift for each axis."""
    by = parameters.reshape(3, 4)
    extra = by[:, :3] / RADIUS_MM
    return Affine(start.matrix + extra, start.shift + by[:, 3] - (extra @ centre)[:, 0])


def correlation(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Normalised cross-correlation; 0 where one does not vary."""
    if first.size < 2:
        return 0.0
    a, b = first - first.mean(dtype=np.float64), second - second.mean(dtype=np.float64)
    norm = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum() / norm) if norm > 0 else 0.0

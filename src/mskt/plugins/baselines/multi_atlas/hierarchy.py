"""Skin, then all muscles and bones as one object, then each structure (Yokota 2018, in Hiasa 2020).

1. Skin: an affine by the HU of the body (:mod:`affine`), from a start by body level
   (:mod:`placing`).
2. All muscles and bones as one object: coarse demons within the skin. What most atlases call object,
   weighed with the patient's HU, is the patient's object.
3. Single structures: fine demons from there, with everything outside the object painted as fat in
   both images, so that the object's surface guides and what lies around it cannot disturb. Every
   voxel of the object belongs to a structure, everything else to none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from mskt.core.volume import FloatArray
from mskt.plugins.baselines.multi_atlas import affine, registration
from mskt.plugins.baselines.multi_atlas.atlases import Atlas
from mskt.plugins.baselines.multi_atlas.placing import Place, starts
from mskt.plugins.baselines.multi_atlas.registration import NOT_SEEN, TISSUE_HU
from mskt.training.losses import IGNORED

AIR_HU = -400.0
"""How dark air is in the first level: the skin counts about as much as the surface of bone."""
COARSE, FINE = (2, 100, 5.0), (1, 40, 3.5)
"""Shrink factor, iterations and smoothing (mm) of the demons of level 2 and 3."""
SURE_WITHIN_MM = 3.0
"""Votes for the object are smoothed by so much: registration is no better."""
MOST_ODDS, LEAST_SHARE = 10.0, 0.1
"""What HU can say for or against the object, and the share of votes without which nothing is it."""
NEAREST_WITHIN_MM = 15.0
"""A voxel of the object is named after a structure of an atlas that is no further away."""
_SHARES = (0.25, 0.35, 0.4)
"""Of the time that each level takes, for progress."""

_T = TypeVar("_T")
_R = TypeVar("_R")
Tell = Callable[[float], None]


@dataclass(frozen=True, eq=False)
class Target:
    """The patient: cropped to the body, canonical.

    Attributes:
        image: HU, (x, y, z).
        body: True inside the skin.
        spacing_mm: of the voxels, that of the atlases.
        place: of its slices.
    """

    image: FloatArray
    body: NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]
    place: Place


@dataclass(frozen=True, eq=False)
class Laid:
    """An atlas on the patient's grid.

    Attributes:
        name: of the atlas.
        labels: uint8; 255 where it does not say anything.
        image: HU of the atlas, warped; :data:`registration.NOT_SEEN` beyond its field of view.
    """

    name: str
    labels: NDArray[np.uint8]
    image: FloatArray


@dataclass(frozen=True, eq=False)
class _Aligned:
    """An atlas after the first level, resampled once by its affine."""

    atlas: Atlas
    transform: sitk.AffineTransform
    image: FloatArray
    object: NDArray[np.bool_]
    likeness: float

    def seen(self) -> NDArray[np.bool_]:
        return np.asarray(self.image != NOT_SEEN)


def lay(
    target: Target,
    atlases: Sequence[tuple[Atlas, Place]],
    count: int,
    *,
    select: bool,
    workers: int,
    tell: Tell,
) -> list[Laid]:
    """Register atlases with the patient.

    Args:
        target: the patient.
        atlases: with their places.
        count: how many are taken through the second and third level.
        select: the most alike after the first level; else the first ones.
        workers: atlases at a time; the result does not depend on it.
        tell: progress, 0 … 1.
    """
    given = list(atlases) if select else list(atlases[:count])
    with ThreadPoolExecutor(workers) as pool:
        aligned = _all(pool, lambda one: _align(target, *one), given, tell, 0.0, _SHARES[0])
        if select:
            order = sorted(range(len(aligned)), key=lambda n: (-aligned[n].likeness, n))
            aligned = [aligned[n] for n in order[:count]]
        done = _SHARES[0]
        fields = _all(pool, lambda one: _coarse(target, one), aligned, tell, done, _SHARES[1])
        whole = _object(aligned, fields, target)
        pairs = list(zip(aligned, fields, strict=True))
        done += _SHARES[1]
        return _all(pool, lambda one: _fine(target, whole, *one), pairs, tell, done, _SHARES[2])


def _all(
    pool: ThreadPoolExecutor,
    work: Callable[[_T], _R],
    items: Sequence[_T],
    tell: Tell,
    begin: float,
    share: float,
) -> list[_R]:
    found: list[_R] = []
    for result in pool.map(work, items):
        found.append(result)
        tell(begin + share * len(found) / len(items))
    return found


def _align(target: Target, atlas: Atlas, place: Place) -> _Aligned:
    """Level 1: skin."""
    step = target.spacing_mm
    fixed = _tissue(target.image, target.body, AIR_HU)
    moving = _tissue(atlas.image, atlas.body, AIR_HU)
    start = affine.best_start(fixed, moving, step, starts(target.place, place))
    transform = affine.fitted(fixed, moving, step, start).transform()
    image, labels = _through(target, atlas, transform)
    inside = (labels > 0) & (labels != IGNORED)
    seen = (image != NOT_SEEN) & target.body
    alike = affine.correlation(fixed[seen], np.clip(image, *TISSUE_HU)[seen])
    share = float(seen.sum()) / max(1, int(target.body.sum()))
    return _Aligned(atlas, transform, image, inside, alike * share)


def _through(
    target: Target, atlas: Atlas, transform: sitk.Transform
) -> tuple[FloatArray, NDArray[np.uint8]]:
    """Image and labels of the atlas on the patient's grid."""
    i, j, k = target.image.shape
    step = target.spacing_mm
    image = registration.warped(
        atlas.image, step, (i, j, k), transform, labels=False, outside=NOT_SEEN
    )
    labels = registration.warped(
        atlas.labels, step, (i, j, k), transform, labels=True, outside=IGNORED
    )
    return image, labels


def _coarse(target: Target, one: _Aligned) -> sitk.Image:
    """Level 2: all muscles and bones as one object, within the skin."""
    fixed = _tissue(target.image, target.body, TISSUE_HU[0])
    moving = np.where(one.seen(), np.clip(one.image, *TISSUE_HU), fixed)
    shrink, iterations, smooth = COARSE
    return registration.demons(
        fixed, moving, target.spacing_mm, shrink=shrink, iterations=iterations, smooth_mm=smooth
    )


def _object(
    aligned: Sequence[_Aligned], fields: Sequence[sitk.Image], target: Target
) -> NDArray[np.bool_]:
    """Muscles and bones of the patient: what most atlases call so, weighed with the patient's HU."""
    votes, voters = np.zeros((2, *target.image.shape), np.float32)
    for one, field in zip(aligned, fields, strict=True):
        labels = _through(target, one.atlas, registration.chain(one.transform, field))[1]
        told = labels != IGNORED
        voters += told
        votes += told & (labels > 0)
    sigma = [SURE_WITHIN_MM / step for step in target.spacing_mm]
    share = ndimage.gaussian_filter(votes, sigma) / np.maximum(
        ndimage.gaussian_filter(voters, sigma), 1e-3
    )
    odds = _odds([one.atlas for one in aligned])[_bins(target.image)]
    likely = share * odds > (1 - share)
    return np.asarray(likely & (share > LEAST_SHARE) & (voters > 0) & target.body)


def _odds(atlases: Sequence[Atlas]) -> NDArray[np.float32]:
    """How much more often each HU is found within the object than elsewhere in the atlases' bodies."""
    counts = np.ones((2, _bins(np.array([np.inf]))[0] + 1))
    for atlas in atlases:
        told = atlas.body & (atlas.labels != IGNORED)
        for row, inside in enumerate((atlas.labels == 0, atlas.labels > 0)):
            counts[row] += np.bincount(_bins(atlas.image[told & inside]), minlength=counts.shape[1])
    often = counts / counts.sum(axis=1, keepdims=True)
    odds: NDArray[np.float32] = np.clip(often[1] / often[0], 1 / MOST_ODDS, MOST_ODDS).astype(
        np.float32
    )
    return odds


def _bins(image: NDArray[Any]) -> NDArray[np.intp]:
    """Number of the 10-HU step of each voxel."""
    low, high = TISSUE_HU
    return np.asarray((np.clip(image, low, high) - low) // 10, np.intp)


def _fine(target: Target, whole: NDArray[np.bool_], one: _Aligned, field: sitk.Image) -> Laid:
    """Level 3: single structures, within the object."""
    around = ndimage.binary_dilation(whole)
    fixed = _tissue(target.image, np.asarray(around & target.body), TISSUE_HU[0])
    own = ndimage.binary_dilation(one.object)
    moving = np.where(own, np.clip(one.image, *TISSUE_HU), np.float32(TISSUE_HU[0]))
    moving = np.where(one.seen(), moving, fixed)
    shrink, iterations, smooth = FINE
    found = registration.demons(
        fixed,
        moving,
        target.spacing_mm,
        shrink=shrink,
        iterations=iterations,
        smooth_mm=smooth,
        field=field,
    )
    image, labels = _through(target, one.atlas, registration.chain(one.transform, found))
    return Laid(one.atlas.name, named(labels, whole, target.spacing_mm), image)


def named(
    labels: NDArray[np.uint8], whole: NDArray[np.bool_], spacing_mm: tuple[float, float, float]
) -> NDArray[np.uint8]:
    """The labels with a structure for every voxel of the object, and none elsewhere.

    Where an atlas sees background within the object, it names its nearest structure. Else thin
    muscles, on which atlases that lie a little beside each other never agree, would lose every vote
    to the background.
    """
    structure = (labels > 0) & (labels != IGNORED)
    out = np.where(whole | (labels == IGNORED), labels, 0).astype(np.uint8)
    missing = whole & (labels == 0)
    if not structure.any() or not missing.any():
        return out
    far, nearest = ndimage.distance_transform_edt(
        ~structure, sampling=spacing_mm, return_indices=True
    )
    missing &= far <= NEAREST_WITHIN_MM
    out[missing] = labels[tuple(nearest[:, missing])]
    return out


def _tissue(image: FloatArray, inside: NDArray[np.bool_], outside: float) -> FloatArray:
    clipped: FloatArray = np.where(inside, np.clip(image, *TISSUE_HU), np.float32(outside))
    return clipped

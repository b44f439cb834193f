"""How far whole structures are in doubt: from voxels and draws to one number for each side.

A :class:`~mskt.core.recorder.Recorder` has noted the draws of each working grid; sides are known only
when the label map is complete, and then :func:`structurewise` adds everything up, at the voxels of the
working grids, each under the final label nearest to it.

A number of doubt is larger where a structure is less certain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import stdtrit

from mskt.core.foreground import foreground_box
from mskt.core.recorder import CELL, DISAGREED, SCALE, Recorder
from mskt.core.resample import resample_labels
from mskt.core.volume import Grid

AGGREGATIONS: Final = (
    *("mean", "interior", "boundary"),
    *("soft_dice", "pairwise_dice", "volume_cv", "combined"),
)
"""Of voxels to structures. The first three take a measure: all voxels of the structure (PSV, Soufi
2024), those whose six neighbours belong to it too, the others. The rest take none: one minus
the soft Dice of mean probabilities and labels (Borges 2024), one minus the mean Dice of pairs of
draws (Zenk 2025), the coefficient of variation of the draws' volumes; and the mean of the first two and
of one minus the mean probability of the label over the structure, in one draw without the second: three
views of one Dice, which err in different scans."""
OF_VOXELS: Final = AGGREGATIONS[:3]

CODES: Final = 3
"""Sides of :mod:`mskt.core.sides`: unsided, right, left."""


@dataclass(frozen=True)
class Structurewise:
    """Doubt about structures, on each side.

    All arrays begin with (structure index 0 … 255, side code); sums over codes are sums over sides.

    Attributes:
        voxels, interior: number of working voxels under the label; of them, those not at its border.
        sums, interior_sums: of each measure over them.
        overlap, mass: Σ p̄ ŷ and Σ (p̄ + ŷ), of mean probabilities and labels.
        volumes: voxels of each draw, ``(256, 3, draws)``.
        hu: Σ HU over them.
        shared: voxels that two draws share, ``(256, 3, pairs)``.
        drawn: draws that a region had, mean over the regions: fewer than asked for where the
            estimator stopped early.
    """

    voxels: NDArray[np.float64]
    interior: NDArray[np.float64]
    sums: Mapping[str, NDArray[np.float64]]
    interior_sums: Mapping[str, NDArray[np.float64]]
    overlap: NDArray[np.float64]
    mass: NDArray[np.float64]
    volumes: NDArray[np.float64]
    hu: NDArray[np.float64]
    shared: NDArray[np.float64]
    drawn: float = 0.0

    @property
    def draws(self) -> int:
        """Number of draws; 0 or 1: nothing can be said of their spread."""
        return int(self.volumes.shape[-1])

    def doubt(
        self, index: int, codes: Sequence[int], aggregation: str, measure: str = ""
    ) -> float | None:
        """One of :data:`AGGREGATIONS`; None where it does not exist.

        Args:
            index: of the structure.
            codes: of the sides that count.
            aggregation: which one.
            measure: for the aggregations that take one.
        """
        if aggregation == "soft_dice":
            return _less(_ratio(2 * _of(self.overlap, index, codes), _of(self.mass, index, codes)))
        if aggregation == "pairwise_dice":
            return self._pairwise(index, codes)
        if aggregation == "volume_cv":
            return self.volume_cv(index, codes)
        if aggregation == "combined":
            return self._combined(index, codes)
        if measure not in self.sums:
            return None
        total, inner = (_of(x[measure], index, codes) for x in (self.sums, self.interior_sums))
        count, within = (_of(x, index, codes) for x in (self.voxels, self.interior))
        if aggregation == "interior":
            return _ratio(inner, within)
        if aggregation == "boundary":
            return _ratio(total - inner, count - within)
        return _ratio(total, count)

    def volume_cv(self, index: int, codes: Sequence[int]) -> float | None:
        """Standard deviation (n − 1) of the draws' volumes over their mean."""
        volumes = self.volumes[index, codes].sum(axis=0)
        if len(volumes) < 2 or not volumes.any():
            return None
        return float(volumes.std(ddof=1) / volumes.mean())

    def hu_sd(self, index: int, codes: Sequence[int]) -> float | None:
        """Standard deviation (n − 1) of the draws' mean HU; draws without the structure are left out."""
        volumes, sums = (x[index, codes].sum(axis=0) for x in (self.volumes, self.hu))
        means = sums[volumes > 0] / volumes[volumes > 0]
        return float(means.std(ddof=1)) if len(means) >= 2 else None

    def half_width(self, level: float = 0.95) -> float:
        """Standard deviations from the middle to the end of a t interval for one further draw."""
        return float(stdtrit(self.draws - 1, 0.5 + level / 2)) if self.draws > 1 else np.nan

    def _combined(self, index: int, codes: Sequence[int]) -> float | None:
        """The mean of those that exist; without a voxel none does."""
        label = _less(_ratio(_of(self.overlap, index, codes), _of(self.voxels, index, codes)))
        soft, pairs = (self.doubt(index, codes, name) for name in ("soft_dice", "pairwise_dice"))
        if label is None:
            return None
        return float(np.mean([one for one in (label, soft, pairs) if one is not None]))

    def _pairwise(self, index: int, codes: Sequence[int]) -> float | None:
        volumes = self.volumes[index, codes].sum(axis=0)
        both = [volumes[a] + volumes[b] for a, b in _pairs(self.draws)]
        sizes, shared = np.array(both), self.shared[index, codes].sum(axis=0)
        there = sizes > 0
        return _less(float(np.mean(2 * shared[there] / sizes[there])) if there.any() else None)


def structurewise(
    recorders: Sequence[Recorder],
    labels: NDArray[np.uint8],
    sides: NDArray[np.uint8],
    grid: Grid,
) -> Structurewise:
    """Add up what was recorded under the final labels.

    Args:
        recorders: of the working grids.
        labels: final label map on the input grid.
        sides: side codes there.
        grid: of these.
    """
    draws = max((recorder.draws for recorder in recorders), default=0)
    found = [_Sums(recorder, labels, sides, grid, draws).result() for recorder in recorders]
    measures = dict.fromkeys(name for one in found for name in one.sums)

    def by_measure(field: str) -> dict[str, NDArray[np.float64]]:
        return {
            name: _added([getattr(one, field)[name] for one in found if name in one.sums])
            for name in measures
        }

    return Structurewise(
        voxels=_added([one.voxels for one in found]),
        interior=_added([one.interior for one in found]),
        sums=by_measure("sums"),
        interior_sums=by_measure("interior_sums"),
        overlap=_added([one.overlap for one in found]),
        mass=_added([one.mass for one in found]),
        volumes=_added([one.volumes for one in found]),
        hu=_added([one.hu for one in found]),
        shared=_added([one.shared for one in found]),
        drawn=float(np.mean([n for one in recorders for n in one.drawn] or [0])),
    )


def _added(arrays: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The sum; grids on which nothing was drawn have no draws and do not count."""
    full = (
        [array for array in arrays if array.size] or list(arrays[:1]) or [np.zeros((256, CODES, 0))]
    )
    return np.asarray(sum(full[1:], full[0]), np.float64)


class _Sums:
    """The sums of one working grid, within the box that holds all that was found there."""

    def __init__(
        self,
        recorder: Recorder,
        labels: NDArray[np.uint8],
        sides: NDArray[np.uint8],
        grid: Grid,
        draws: int,
    ) -> None:
        self._recorder = recorder
        self._draws = draws
        busy = (recorder.winner > 0) | (recorder.agreed == DISAGREED)
        self._box = foreground_box(busy) or (slice(0, 1),) * 3
        affine = recorder.work.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ [part.start for part in self._box]
        i, j, k = (part.stop - part.start for part in self._box)
        target = Grid((i, j, k), affine)
        self._final = resample_labels(labels, grid, target)
        if recorder.work.mask is not None:
            self._final[~recorder.work.mask[self._box]] = 0
        self._side = resample_labels(sides, grid, target)
        self._side[self._final == 0] = 0
        self._code = self._final.astype(np.int16) * CODES + self._side
        self._cell_side = self._sides_of_cells()

    def result(self) -> Structurewise:
        recorder, box = self._recorder, self._box
        inner = (self._final > 0) & _inside(self._code)
        here = self._final > 0
        sums, inner_sums = {}, {}
        for name, values in recorder.measures.items():
            kept = values[box].astype(np.float32) / np.float32(SCALE)
            sums[name] = self._count(here, kept)
            inner_sums[name] = self._count(inner, kept)
        right = here & (recorder.winner[box] == self._final)
        overlap = self._count(right, recorder.confidence[box].astype(np.float32))
        volumes, hu, shared = self._of_draws()
        return Structurewise(
            self._count(here),
            self._count(inner),
            sums,
            inner_sums,
            overlap,
            self._mass() + self._count(right),
            volumes,
            hu,
            shared,
        )

    def _count(
        self, where: NDArray[np.bool_], weights: NDArray[np.float32] | None = None
    ) -> NDArray[np.float64]:
        return _table(self._code[where], None if weights is None else weights[where])

    def _sides_of_cells(self) -> NDArray[np.uint8]:
        """The side of each cell of 8 × 8 voxels of a slice: that of most labelled voxels in or near it."""
        counts = np.stack(
            [_by_cells(self._side == code, self._box, self._recorder.mass.shape) for code in (1, 2)]
        )
        side = (counts.argmax(axis=0) + 1).astype(np.uint8)
        empty = counts.sum(axis=0) == 0
        if empty.all():
            return np.zeros_like(side)
        dx, dy, dz = self._recorder.work.spacing_mm
        nearest = ndimage.distance_transform_edt(
            empty, sampling=(CELL * dx, CELL * dy, dz), return_distances=False, return_indices=True
        )
        return np.asarray(side[tuple(nearest)])

    def _mass(self) -> NDArray[np.float64]:
        """Σ p̄ of each class by side; background and classes that are nowhere stay 0."""
        out = np.zeros((256, CODES))
        for index, cells in enumerate(self._recorder.mass):
            if index and cells.any():
                out[index] = np.bincount(self._cell_side.ravel(), cells.ravel(), CODES)
        return out

    def _of_draws(self) -> tuple[NDArray[np.float64], ...]:
        """Voxels and HU of each draw, and voxels shared by pairs.

        Where the draws agree on a class but the final map has none, the voxel was removed with a
        stray component, and counts for none.
        """
        recorder, box, draws = self._recorder, self._box, self._draws
        if not recorder.draws:
            nothing = np.zeros((256, CODES, 0))
            return nothing, nothing, nothing
        agreed = recorder.agreed[box]
        certain = (agreed > 0) & (agreed != DISAGREED) & (self._final > 0)
        code = agreed[certain].astype(np.int16) * CODES + self._side[certain]
        image = recorder.work.data[box]
        base, base_hu = _table(code), _table(code, image[certain])
        places, votes = recorder.disagreements(draws)
        side = self._sides_at(places)
        values = recorder.work.data.reshape(-1)[places] if places.size else np.zeros(0)
        codes = votes.astype(np.int16) * CODES + side
        codes[votes == 0] = 0
        volumes = np.stack([base + _table(one) for one in codes], axis=-1)
        hu = np.stack([base_hu + _table(one, values) for one in codes], axis=-1)
        shared = [base + _table(codes[a][codes[a] == codes[b]]) for a, b in _pairs(draws)]
        pairs = np.stack(shared, axis=-1) if shared else np.zeros((256, CODES, 0))
        for one in (volumes, hu, pairs):
            one[0] = 0
        return volumes, hu, pairs

    def _sides_at(self, places: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Of voxels by number: that of the final label there, else of the cell."""
        index = np.unravel_index(places, self._recorder.winner.shape)
        inside = [n - part.start for n, part in zip(index, self._box, strict=True)]
        own = self._side[tuple(inside)]
        cell = self._cell_side[index[0] // CELL, index[1] // CELL, index[2]]
        return np.where(self._final[tuple(inside)] > 0, own, cell)


def _inside(code: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Voxels whose six neighbours have the same code; beyond the array nothing has."""
    out = np.zeros(code.shape, bool)
    if min(code.shape) < 3:
        return out
    core = code[1:-1, 1:-1, 1:-1]
    same = np.ones(core.shape, bool)
    for axis in range(3):
        for part in (slice(0, -2), slice(2, None)):
            window = [slice(1, -1)] * 3
            window[axis] = part
            same &= code[tuple(window)] == core
    out[1:-1, 1:-1, 1:-1] = same
    return out


def _by_cells(
    mask: NDArray[np.bool_], box: tuple[slice, slice, slice], shape: tuple[int, ...]
) -> NDArray[np.int64]:
    """Number of true voxels in each cell of the whole working grid; the mask covers the box."""
    _, i, j, k = shape
    x, y, z = np.nonzero(mask)
    cell = ((x + box[0].start) // CELL * j + (y + box[1].start) // CELL) * k + z + box[2].start
    return np.bincount(cell, minlength=i * j * k).reshape(i, j, k)


def _table(
    code: NDArray[np.int16], weights: NDArray[np.floating] | None = None
) -> NDArray[np.float64]:
    """Voxels, or sums of weights, of each structure and side code: ``(256, 3)``."""
    found = np.bincount(code, weights, 256 * CODES).astype(np.float64)
    return found.reshape(256, CODES)


def _pairs(count: int) -> list[tuple[int, int]]:
    return [(a, b) for a in range(count) for b in range(a + 1, count)]


def _of(array: NDArray[np.float64], index: int, codes: Sequence[int]) -> float:
    return float(array[index, codes].sum())


def _ratio(above: float, below: float) -> float | None:
    return above / below if below > 0 else None


def _less(confidence: float | None) -> float | None:
    """Doubt from a confidence of at most 1; rounding may leave −1e-8."""
    return None if confidence is None else max(0.0, 1.0 - confidence)

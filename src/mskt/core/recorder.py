"""What is remembered of draws while they go by, for what is asked of whole structures later.

The winner and its probability, one number a voxel and measure, sums of the probabilities by cells of
8 × 8 voxels, and the classes of single draws where these disagree. Everything that must be told apart
by side waits here until the label map is complete (:mod:`mskt.core.structurewise`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from mskt.core.foreground import foreground_box
from mskt.core.interfaces import Estimate, Region
from mskt.core.volume import Volume

if TYPE_CHECKING:
    from torch import Tensor

DISAGREED: Final = 255
CELL: Final = 8
SCALE: Final = 1024.0
"""Of measures kept as float16: a variance of 1e-5 would lose digits unscaled."""


class Recorder:
    """What is remembered of the draws on one working grid.

    Args:
        work: the working grid with its HU; outside its mask nothing is recorded.
        classes: background included, at most 255.
    """

    def __init__(self, work: Volume, classes: int) -> None:
        i, j, k = work.data.shape
        self.work = work
        self.winner = np.zeros((i, j, k), np.uint8)
        self.confidence = np.zeros((i, j, k), np.float16)
        self.agreed = np.zeros((i, j, k), np.uint8)
        self.measures: dict[str, NDArray[np.float16]] = {}
        self.mass = np.zeros((classes, -(-i // CELL), -(-j // CELL), k))
        self._places: list[NDArray[np.int64]] = []
        self._votes: list[NDArray[np.uint8]] = []
        self._draws: list[int] = []
        self._votes_here: list[Tensor] = []

    def watched(self, region: Region, draws: Iterable[Tensor]) -> Iterator[Tensor]:
        """The draws of a region as they come; the class that each gives a voxel is noted.

        One byte a voxel and draw of one region; of the whole grid only disagreements are kept.
        """
        self._votes_here = []
        box = self._box(region)
        for draw in draws:
            if box is not None:
                # On a CPU max() finds the places in a third of the time that argmax() takes.
                vote = draw[(slice(None), *box)].max(dim=0).indices
                self._votes_here.append(vote.byte())
            yield draw

    def add(self, region: Region, estimate: Estimate, primary: str) -> None:
        """Take one region; disjoint regions in any order, each after it was :meth:`watched`.

        Args:
            region: where; a box of the working grid.
            estimate: what the draws of the region came to.
            primary: name of ``estimate.uncertainty`` among the measures.
        """
        box = self._box(region)
        if box is None:
            return
        start = [a + part.start for a, part in zip(region.start, box, strict=True)]
        there = tuple(
            slice(a, a + part.stop - part.start) for a, part in zip(start, box, strict=True)
        )
        # All is computed where the estimates are; what is fetched is a few bytes a voxel.
        probabilities = estimate.probabilities[(slice(None), *box)].float()
        top, winner = (one[box] for one in estimate.winner)
        self.winner[there] = winner.cpu().numpy()
        self.confidence[there] = top.half().cpu().numpy()
        self._add_mass(probabilities, start)
        for name, values in ({primary: estimate.uncertainty} | dict(estimate.measures)).items():
            kept = self.measures.setdefault(name, np.zeros(self.winner.shape, np.float16))
            kept[there] = (values[box].float() * SCALE).half().cpu().numpy()
        if self._votes_here:
            self._add_votes(self._votes_here, there)
            self._votes_here = []

    def _box(self, region: Region) -> tuple[slice, slice, slice] | None:
        """The part of a region, counted from its start, that holds all of the mask."""
        if self.work.mask is None:
            i, j, k = region.shape
            return (slice(0, i), slice(0, j), slice(0, k))
        return foreground_box(self.work.mask[region.slices])

    def _add_mass(self, probabilities: Tensor, start: Sequence[int]) -> None:
        """Sum probabilities by cells; their borders are the same for every partition."""
        lead = [at % CELL for at in start[:2]]
        rest = [-(at + n) % CELL for at, n in zip(lead, probabilities.shape[1:3], strict=True)]
        classes, rows, columns, k = probabilities.shape
        i, j = rows + lead[0] + rest[0], columns + lead[1] + rest[1]
        padded = probabilities.new_zeros((classes, i, j, k))
        padded[:, lead[0] : lead[0] + rows, lead[1] : lead[1] + columns] = probabilities
        sums = padded.view(classes, i // CELL, CELL, j // CELL, CELL, k).sum((2, 4))
        a, b = start[0] // CELL, start[1] // CELL
        self.mass[:, a : a + i // CELL, b : b + j // CELL, start[2] : start[2] + k] += (
            sums.cpu().numpy()
        )

    def _add_votes(self, votes: Sequence[Tensor], there: tuple[slice, ...]) -> None:
        same = votes[0] == votes[-1]
        for vote in votes[1:-1]:
            same &= vote == votes[0]
        self.agreed[there] = votes[0].masked_fill(~same, DISAGREED).cpu().numpy()
        inside = (~same).nonzero(as_tuple=True)
        index = tuple(n.cpu().numpy() + part.start for n, part in zip(inside, there, strict=True))
        self._places.append(np.ravel_multi_index(index, self.winner.shape))
        self._votes.append(np.stack([vote[inside].cpu().numpy() for vote in votes]))
        self._draws.append(len(votes))

    @property
    def drawn(self) -> Sequence[int]:
        """Number of draws of each region in which there was something to see."""
        return tuple(self._draws)

    @property
    def draws(self) -> int:
        """The largest of them; 0 if there are none."""
        return max(self._draws, default=0)

    def disagreements(self, count: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Flat voxel numbers ``(n,)`` and the classes of ``count`` draws there, ``(count, n)``.

        A region that stopped earlier repeats its draws in their order.
        """
        if not self._places:
            return np.zeros(0, np.int64), np.zeros((count, 0), np.uint8)
        repeated = [votes[np.arange(count) % len(votes)] for votes in self._votes]
        return np.concatenate(self._places), np.concatenate(repeated, axis=1)

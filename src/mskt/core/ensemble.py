"""Several segmenters as one: a deep ensemble whose members take turns.

The members may be sets of weights of one segmenter or different segmenters; they share a label set.
Draws are given on the working grid of the first member. Another member's grid may differ in spacing
and extent, not in orientation; its draws are then interpolated, a region at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mskt.core.errors import UsageError
from mskt.core.interfaces import Region, ReportsEvents, Segmenter, Tags, member_of, still
from mskt.core.resample import axis_coordinates, interpolation_matrix, parallel
from mskt.core.volume import Volume

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Joint(Volume):
    """The working grid of the first member, with that of every member.

    Attributes:
        works: one a member.
        expected: classes that the scan should show to any member; None: all
            (:class:`mskt.core.viewcheck.Stack`).
    """

    works: tuple[Volume, ...] = ()
    expected: NDArray[np.bool_] | None = None


class Ensemble(Segmenter):
    """The members as one segmenter; draw ``index`` comes from member ``member_of(index, n)``.

    Args:
        members: at least two, by the name that the user gave them.

    Raises:
        UsageError: fewer than two, or members with different label sets.
    """

    def __init__(self, members: Sequence[tuple[str, Segmenter]]) -> None:
        if len(members) < 2:
            raise UsageError("ensemble", "has one member.", "Give at least two: --weights a,b.")
        self._names = [name for name, _ in members]
        self._members = [segmenter for _, segmenter in members]
        first = self._members[0]
        for name, other in members:
            if other.labels != first.labels:
                raise UsageError(
                    "ensemble",
                    f"{name!r} has the label set {other.label_set.name}, {self._names[0]!r} has "
                    f"{first.label_set.name}.",
                    "Members must have the same structures in the same order.",
                )
        self.label_set = first.label_set
        self.tags = Tags(
            stochastic=all(one.tags.stochastic for one in self._members),
            members=len(members),
            mirror=all(one.tags.mirror for one in self._members),
        )

    def describe(self) -> Mapping[str, Any]:
        """The facts of every member; the checksum of the weights is all of theirs."""
        facts = [dict(one.describe()) for one in self._members]
        sums = [str(one.get("weights_sha256", "")) for one in facts]
        return {
            "weights": ",".join(self._names),
            "weights_sha256": "+".join(sums),
            "device": facts[0].get("device", "cpu"),
            "members": facts,
        }

    def prepare(self, image: Volume) -> Sequence[Volume]:
        """The working grid of the first member.

        Raises:
            UsageError: a member has several working grids, or one that is turned.
        """
        works = []
        for name, member in zip(self._names, self._members, strict=True):
            found = member.prepare(image)
            if len(found) != 1 or not parallel(found[0].grid, image.grid):
                raise UsageError(
                    "ensemble",
                    f"{name!r} works on grids of its own for each leg, which others cannot share.",
                    "Take it alone (--uncertainty planes), or leave it out of the ensemble.",
                )
            works.append(found[0])
        first = works[0]
        mask = _union(works)
        notes = tuple(dict.fromkeys(note for work in works for note in work.notes))
        shown = [getattr(work, "expected", None) for work in works]
        known = [one for one in shown if one is not None]
        return (
            Joint(
                first.data,
                first.affine,
                mask,
                first.subject,
                notes,
                first.source,
                works=tuple(works),
                expected=np.logical_or.reduce(known) if len(known) == len(shown) else None,
            ),
        )

    def regions(self, image: Volume) -> Sequence[Region]:
        """Those of the first member."""
        assert isinstance(image, Joint)
        return self._members[0].regions(image.works[0])

    def draw(self, image: Volume, region: Region, *, index: int, seed: int) -> Tensor:
        """One pass of one member."""
        number = len(self._members)
        turn = member_of(index, number)
        inner = index // number if index >= 0 else still(still(index) // number)
        assert isinstance(image, Joint)
        work, member = image.works[turn], self._members[turn]
        if work.grid.same_as(image.grid):
            return member.draw(work, region, index=inner, seed=seed)
        return _interpolated(member, work, image, region, inner, seed)

    def events(self) -> Sequence[str]:
        """Those of the members."""
        telling = [one for one in self._members if isinstance(one, ReportsEvents)]
        return [event for one in telling for event in one.events()]


def _union(works: Sequence[Volume]) -> NDArray[np.bool_] | None:
    """Where any member may find something; None: not known on the first one's grid."""
    masks = [work.mask for work in works if work.mask is not None]
    if len(masks) < len(works) or not all(w.grid.same_as(works[0].grid) for w in works):
        return None
    return np.asarray(np.logical_or.reduce(masks), bool)


def _interpolated(
    member: Segmenter, work: Volume, image: Volume, region: Region, index: int, seed: int
) -> Tensor:
    """A draw on another parallel grid, linearly interpolated; background where that grid ends."""
    import torch

    along = axis_coordinates(image.grid, work.grid)
    spans, matrices = [], []
    for axis in range(3):
        place = along[axis][region.start[axis] : region.stop[axis]]
        length = work.data.shape[axis]
        low = int(np.clip(np.floor(place.min()), 0, length - 1))
        high = int(np.clip(np.ceil(place.max()) + 1, low + 1, length))
        spans.append((low, high))
        weights = interpolation_matrix(place - low, high - low, widen=False)
        matrices.append(torch.from_numpy(weights))
    (a, b), (c, d), (e, f) = spans
    draw = member.draw(work, Region((a, c, e), (b, d, f)), index=index, seed=seed).float().cpu()
    out = torch.einsum("cxyz,ix,jy,kz->cijk", draw, *matrices)
    out[0] += 1 - out.sum(0)
    return out.clamp_(min=0)

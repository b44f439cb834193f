"""One distribution from those of the three planes (Haque 2019: "winner takes all").

What the paper's vote is in detail, it does not say. Here, for each voxel, with p_n(c) of plane n:

- ``wta``: the plane that is surest (largest max_c p_n(c)) gives its whole distribution.
- ``mean``: (p_1 + p_2 + p_3) / 3.
- ``max``: max_n p_n(c) for each class, divided by their sum.
- ``majority``: the part of the planes whose most probable class is c; where the planes name three
  different classes, the mean decides.

Planes come one after the other, so that two probability volumes are in memory, not three.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

Fusion = Callable[[Iterable[Tensor]], Tensor]
"""Distributions ``(C, …)`` of the planes to one of the same shape that sums to 1 over C."""


def winner_takes_all(planes: Iterable[Tensor]) -> Tensor:
    """The distribution of the surest plane; the first of equally sure ones."""
    out, surest = None, None
    for plane in planes:
        sure = plane.amax(dim=0)
        if out is None or surest is None:
            out, surest = plane, sure
        else:
            better = sure > surest
            out = torch.where(better, plane, out)
            surest = torch.maximum(sure, surest)
    assert out is not None
    return out


def mean(planes: Iterable[Tensor]) -> Tensor:
    """The arithmetic mean."""
    total, count = None, 0
    for plane in planes:
        total = plane if total is None else total + plane
        count += 1
    assert total is not None
    return total / count


def maximum(planes: Iterable[Tensor]) -> Tensor:
    """The largest probability of each class, brought to the sum 1."""
    top = None
    for plane in planes:
        top = plane if top is None else torch.maximum(top, plane)
    assert top is not None
    return top / top.sum(dim=0)


def majority(planes: Iterable[Tensor]) -> Tensor:
    """Votes for each class as parts of all votes; the mean where no class has two of three."""
    total, votes, count = None, None, 0
    for plane in planes:
        vote = functional.one_hot(plane.argmax(dim=0), len(plane)).movedim(-1, 0).to(plane.dtype)
        total = plane if total is None else total + plane
        votes = vote if votes is None else votes + vote
        count += 1
    assert total is not None and votes is not None
    split = votes.amax(dim=0) * 2 <= count
    return torch.where(split, total, votes) / count


FUSIONS: Final[Mapping[str, Fusion]] = {
    "wta": winner_takes_all,
    "mean": mean,
    "max": maximum,
    "majority": majority,
}

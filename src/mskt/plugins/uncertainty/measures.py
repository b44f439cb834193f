"""Voxel-wise measures of doubt, accumulated draw by draw.

Notation: ``p_t(c)`` softmax of draw t, T draws, C classes, ``p̄`` the mean over the draws, H the
entropy in nats. Each is 0 where all draws name one class with certainty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from mskt.core.pieces import pieces, two_largest

_LARGEST_ENTROPY = math.log(256)


@dataclass(frozen=True, slots=True)
class Measure:
    """What a measure is called in results, and what it needs.

    Attributes:
        name: in full, as files and reports have it.
        largest: an upper bound for any number of classes up to 256 and any draws.
        spread: it compares draws: one is not enough.
    """

    name: str
    unit: str
    largest: float
    spread: bool


MEASURES: Final = {
    # Hiasa 2020, eq. 4 (biased, 1/T), mean over classes; summed: eq. 5 as printed.
    "variance": Measure("predictive_variance_mean", "1", 0.25, True),
    "variance_sum": Measure("predictive_variance_sum", "1", 1.0, True),
    "entropy": Measure("predictive_entropy", "nat", _LARGEST_ENTROPY, False),  # H[p̄]
    "expected_entropy": Measure("expected_entropy", "nat", _LARGEST_ENTROPY, False),  # mean H[p_t]
    "mutual_information": Measure(
        "mutual_information", "nat", _LARGEST_ENTROPY, True
    ),  # difference
    "max_softmax": Measure("one_minus_max_softmax", "1", 1.0, False),  # 1 − max p̄
    "margin": Measure("one_minus_margin", "1", 1.0, False),  # 1 − (largest − second of p̄)
}


class Accumulator:
    """Mean of the draws, and what the measures need beside it. Memory does not grow with T.

    Args:
        measures: names of :data:`MEASURES`.
    """

    def __init__(self, measures: Sequence[str]) -> None:
        self.measures = tuple(measures)
        self.count = 0
        self._squares = any(name.startswith("variance") for name in measures)
        self._entropies = any(
            name in ("expected_entropy", "mutual_information") for name in measures
        )
        self._sum = self._sum_squares = self._sum_entropy = torch.empty(0)

    def add(self, draw: Tensor) -> None:
        """Take one draw, ``(C, …)``; it is not kept."""
        draw = draw.float()
        if self.count == 0:
            self._sum = torch.zeros_like(draw)
            self._sum_squares = torch.zeros_like(draw) if self._squares else self._sum_squares
            self._sum_entropy = torch.zeros_like(draw[0])
        self._sum += draw
        if self._squares:
            self._sum_squares.addcmul_(draw, draw)
        if self._entropies:
            self._sum_entropy += entropy(draw)
        self.count += 1

    def so_far(self, measure: str) -> tuple[Tensor, Tensor]:
        """Mean probabilities ``(C, …)`` and one measure ``(…)`` of the draws taken so far."""
        mean = self._sum / self.count
        variance = torch.empty(0)
        if self._squares:
            variance = (self._sum_squares / self.count).addcmul_(mean, mean, value=-1).clamp_(min=0)
        return mean, _measure(measure, mean, variance, self._sum_entropy / self.count, {})

    def result(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean probabilities ``(C, …)`` and each measure ``(…)``; the accumulator is used up."""
        mean = self._sum.div_(self.count)
        variance = torch.empty(0)
        if self._squares:
            # Rounding may leave −1e-8 where all draws agree.
            variance = self._sum_squares.div_(self.count)
            variance = variance.addcmul_(mean, mean, value=-1).clamp_(min=0)
        expected = self._sum_entropy.div_(self.count)
        known = {} if "entropy" not in self.measures else {"entropy": entropy(mean)}
        if {"max_softmax", "margin"} <= {*self.measures}:  # both from one pass over the classes
            best, second = _two_largest(mean)
            known |= {"max_softmax": _doubt(best), "margin": _doubt(best - second)}
        return mean, {
            name: known[name] if name in known else _measure(name, mean, variance, expected, known)
            for name in self.measures
        }


def _measure(
    name: str, mean: Tensor, variance: Tensor, expected: Tensor, known: Mapping[str, Tensor]
) -> Tensor:
    """One measure; what is known already is not computed again."""
    if name == "variance":
        return variance.mean(0)
    if name == "variance_sum":
        return variance.sum(0)
    if name == "entropy":
        return entropy(mean)
    if name == "expected_entropy":
        return expected
    if name == "mutual_information":
        total = known["entropy"] if "entropy" in known else entropy(mean)
        return (total - expected).clamp_(min=0)
    best, second = _two_largest(mean)
    return _doubt(best if name == "max_softmax" else best - second)


def _two_largest(mean: Tensor) -> tuple[Tensor, Tensor]:
    """The two largest probabilities; of one class 1 and 0: there is nothing to doubt."""
    if len(mean) == 1:
        return torch.ones_like(mean[0]), torch.zeros_like(mean[0])
    return two_largest(mean)


def _doubt(certainty: Tensor) -> Tensor:
    return (1 - certainty).clamp_(min=0)


def entropy(probabilities: Tensor) -> Tensor:
    """Shannon entropy over the first axis, in nats; 0·log 0 = 0."""
    out = torch.empty_like(probabilities[0])
    for part, here in pieces(probabilities, out):
        # The smallest normal float stands in for 0: its product with 0 is 0.
        logs = part.clamp(min=torch.finfo(torch.float32).tiny).log_()
        torch.sum(logs.mul_(part), 0, out=here)
    return out.neg_().clamp_(min=0)

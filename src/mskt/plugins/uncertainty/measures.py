"""Voxel-wise measures of disagreement, accumulated draw by draw.

Notation: ``p_t(c)`` softmax of draw t, T draws, C classes, ``p̄`` the mean over the draws.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MEASURES = ("variance", "variance_sum", "entropy", "mutual_information")


class Accumulator:
    """Mean of the draws, and what one measure needs beside it. Memory does not grow with T.

    Args:
        measure: ``variance`` (predictive variance, Hiasa 2020 eq. 4, mean over classes),
            ``variance_sum`` (the same summed over classes, eq. 5 as printed), ``entropy``
            (of p̄, in nats) or ``mutual_information`` (entropy of p̄ minus mean entropy of p_t).
    """

    def __init__(self, measure: str) -> None:
        self.measure = measure
        self.count = 0
        self._sum = torch.empty(0)
        self._extra = torch.empty(0)

    def add(self, draw: Tensor) -> None:
        """Take one draw, ``(C, …)``; it is not kept."""
        draw = draw.float()
        if self.count == 0:
            self._sum = torch.zeros_like(draw)
            self._extra = torch.zeros_like(draw if self._needs_squares else draw[0])
        self._sum += draw
        if self._needs_squares:
            self._extra.addcmul_(draw, draw)
        elif self.measure == "mutual_information":
            self._extra += entropy(draw)
        self.count += 1

    @property
    def _needs_squares(self) -> bool:
        return self.measure.startswith("variance")

    def result(self) -> tuple[Tensor, Tensor]:
        """Mean probabilities ``(C, …)`` and the measure ``(…)``; the accumulator is used up."""
        mean = self._sum.div_(self.count)
        if self._needs_squares:
            # Biased (1/T), as printed; rounding may leave −1e-8 where all draws agree.
            variance = self._extra.div_(self.count).addcmul_(mean, mean, value=-1).clamp_(min=0)
            return mean, variance.mean(0) if self.measure == "variance" else variance.sum(0)
        total = entropy(mean)
        if self.measure == "mutual_information":
            total = (total - self._extra.div_(self.count)).clamp_(min=0)
        return mean, total


def entropy(probabilities: Tensor) -> Tensor:
    """Shannon entropy over the first axis, in nats; 0·log 0 = 0."""
    terms: Tensor = torch.special.entr(probabilities.clamp(min=0))
    return terms.sum(0)


def largest(measure: str) -> float:
    """An upper bound of the measure that holds for any number of classes up to 256 and any draws."""
    return {"variance": 0.25, "variance_sum": 1.0}.get(measure, math.log(256))

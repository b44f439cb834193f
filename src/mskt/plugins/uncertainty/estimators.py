"""The built-in estimators."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from torch import Tensor

from mskt.core.anatomy import suggestion
from mskt.core.errors import UsageError
from mskt.core.interfaces import Estimate, Needs, UncertaintyEstimator
from mskt.plugins.uncertainty.measures import MEASURES, Accumulator, largest

_FULL_NAMES = {
    "variance": "predictive_variance_mean",
    "variance_sum": "predictive_variance_sum",
    "entropy": "predictive_entropy",
    "mutual_information": "mutual_information",
}


class McDropoutEstimator(UncertaintyEstimator):
    """Mean and spread of T stochastic passes (Gal & Ghahramani 2016; Hiasa 2020, section II-C).

    Args:
        samples: T, number of draws; the papers use 10 and found no gain above (Soufi 2024, Table 8).
        measure: ``variance`` (default: predictive variance, mean over classes), ``variance_sum``,
            ``entropy`` or ``mutual_information``.
    """

    needs: ClassVar[Needs] = "stochastic"
    minimum_draws: ClassVar[int] = 2

    def __init__(self, samples: int = 10, measure: str = "variance") -> None:
        if measure not in MEASURES:
            raise UsageError("", f"no measure named {measure!r}.", suggestion(measure, MEASURES))
        if samples < self.minimum_draws:
            raise UsageError(
                "samples",
                f"{samples} is too few: a {measure} needs at least two draws.",
                "Take --samples 10, or --uncertainty deterministic for one pass.",
            )
        self.draws = samples
        self.measure = _FULL_NAMES[measure]
        self.unit = "1" if measure.startswith("variance") else "nat"
        self.range = (0.0, largest(measure))
        self._short = measure

    def reduce(self, draws: Iterable[Tensor]) -> Estimate:
        """One pass over the draws; holds their sum and one further sum."""
        accumulator = Accumulator(self._short)
        for draw in draws:
            accumulator.add(draw)
        if accumulator.count < self.minimum_draws:
            raise UsageError(
                "draws", f"{accumulator.count} given; a {self._short} needs at least two."
            )
        return Estimate(*accumulator.result())


class DeterministicEstimator(UncertaintyEstimator):
    """One pass; the uncertainty is the entropy of its softmax, not doubt about the model."""

    needs: ClassVar[Needs] = "any"

    def __init__(self) -> None:
        self.unit = "nat"
        self.range = (0.0, largest("entropy"))
        self.draws = 1
        self.measure = "predictive_entropy"

    def reduce(self, draws: Iterable[Tensor]) -> Estimate:
        """The mean of what comes (one draw) and its entropy."""
        accumulator = Accumulator("entropy")
        for draw in draws:
            accumulator.add(draw)
        if accumulator.count == 0:
            raise UsageError("draws", "none given; at least one is needed.")
        return Estimate(*accumulator.result())

"""The built-in estimators: a source of draws, and what is computed of them.

Every source goes with every measure of :mod:`mskt.plugins.uncertainty.measures` that its draws
allow, and with every aggregation of :mod:`mskt.core.structurewise`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from mskt.core.anatomy import suggestion
from mskt.core.errors import UsageError
from mskt.core.interfaces import Estimate, Needs, Segmenter, UncertaintyEstimator
from mskt.core.structurewise import AGGREGATIONS
from mskt.plugins.uncertainty.measures import MEASURES, Accumulator
from mskt.plugins.uncertainty.stopping import Watch
from mskt.plugins.uncertainty.transforms import Transformed

ALL = "all"
AUTO = "auto"
MOST_DRAWS = 10
"""Of ``samples="auto"``: the papers use 10 and found no gain above (Soufi 2024, Table 8)."""


class DrawsEstimator(UncertaintyEstimator):
    """Mean and measures of the draws in one pass; where the draws come from, subclasses say.

    Args:
        samples: number of draws, or ``auto``: as many as it takes until the doubt about the
            structures of a region changes no more, up to 10.
        measure: the voxel-wise measure of the map and of the results.
        measures: further ones for the results, names with commas between or ``all``.
        aggregation: how voxels become the doubt about a structure
            (:data:`mskt.core.structurewise.AGGREGATIONS`).
    """

    def __init__(
        self,
        samples: int | str = 10,
        measure: str = "variance",
        measures: str | Sequence[str] = (),
        aggregation: str = "mean",
    ) -> None:
        adaptive = samples == AUTO
        self.draws = MOST_DRAWS if adaptive else _number(samples)
        _known(aggregation, AGGREGATIONS, "aggregation")
        _known(measure, MEASURES, "measure")
        if self.draws < self.minimum_draws:
            raise UsageError(
                "samples",
                f"{self.draws} is too few: a {measure} needs at least two draws.",
                "Take --samples 10, or --uncertainty deterministic for one pass.",
            )
        _check_measure(measure, self.draws)
        self._short = measure
        self._adaptive = adaptive
        self._measures = [measure, *(m for m in _further(measures, self.draws) if m != measure)]
        self.measure = MEASURES[measure].name
        self.unit = MEASURES[measure].unit
        self.range = (0.0, MEASURES[measure].largest)
        self.aggregation = aggregation
        self.further = {MEASURES[m].name: MEASURES[m].unit for m in self._measures[1:]}

    def reduce(self, draws: Iterable[Tensor]) -> Estimate:
        """One pass over the draws; holds sums."""
        accumulator = Accumulator(self._measures)
        watch = Watch(self._short) if self._adaptive else None
        for draw in draws:
            accumulator.add(draw)
            if watch and watch.settled(accumulator):
                break
        if accumulator.count < self.minimum_draws:
            raise UsageError(
                "draws",
                f"{accumulator.count or 'none'} given; a {self._short} needs at least "
                f"{'two' if self.minimum_draws == 2 else self.minimum_draws}.",
            )
        mean, found = accumulator.result()
        further = {MEASURES[name].name: found[name] for name in self._measures[1:]}
        return Estimate(mean, found[self._short], further)


class McDropoutEstimator(DrawsEstimator):
    """Monte Carlo dropout: T random passes (Gal & Ghahramani 2016; Hiasa 2020, section II-C).

    Args:
        samples: T; the papers use 10 and found no gain above (Soufi 2024, Table 8), or ``auto``.
        measure, measures, aggregation: see :class:`DrawsEstimator`.
    """

    needs: ClassVar[Needs] = "stochastic"
    minimum_draws: ClassVar[int] = 2


class DeterministicEstimator(DrawsEstimator):
    """One pass without randomness; its doubt is that of the softmax, not doubt about the model.

    Args:
        measure, measures, aggregation: see :class:`DrawsEstimator`; no measure that compares draws.
    """

    needs: ClassVar[Needs] = "any"
    random: ClassVar[bool] = False

    def __init__(
        self,
        measure: str = "entropy",
        measures: str | Sequence[str] = (),
        aggregation: str = "mean",
    ) -> None:
        super().__init__(1, measure, measures, aggregation)
        if aggregation in ("pairwise_dice", "volume_cv"):
            raise UsageError(
                "--aggregation",
                f"{aggregation} compares draws, and there is only one.",
                "Take mean, interior, boundary, soft_dice or combined.",
            )


class EnsembleEstimator(DrawsEstimator):
    """Deep ensemble: one pass of each member without dropout (Lakshminarayanan 2017).

    Members are the weights given with ``--weights a,b,c``, or several segmenters. With segmenters
    that keep members apart themselves (``unet25d --option members=planes``), those.

    Args:
        measure, measures, aggregation: see :class:`DrawsEstimator`.
    """

    needs: ClassVar[Needs] = "members"
    random: ClassVar[bool] = False
    minimum_draws: ClassVar[int] = 2

    def __init__(
        self,
        measure: str = "variance",
        measures: str | Sequence[str] = (),
        aggregation: str = "mean",
    ) -> None:
        super().__init__(2, measure, measures, aggregation)


class EnsembleDropoutEstimator(DrawsEstimator):
    """Deep ensemble whose members take turns in T random passes.

    Args:
        samples: T, of all members together; at least one of each is drawn.
        measure, measures, aggregation: see :class:`DrawsEstimator`.
    """

    needs: ClassVar[Needs] = "members"
    minimum_draws: ClassVar[int] = 2


class PlanesEstimator(EnsembleEstimator):
    """The three planes of ``unet25d`` as members of an ensemble, one pass of each.

    Args:
        measure, measures, aggregation: see :class:`DrawsEstimator`.
    """

    asks: ClassVar[Mapping[str, str]] = {"members": "planes"}


class PlanesDropoutEstimator(EnsembleDropoutEstimator):
    """The three planes of ``unet25d`` take turns in T random passes.

    Args:
        samples: T, of all planes together.
        measure, measures, aggregation: see :class:`DrawsEstimator`.
    """

    asks: ClassVar[Mapping[str, str]] = {"members": "planes"}


class AugmentationEstimator(DrawsEstimator):
    """Test-time augmentation (Wang 2019): the image changed as another scanner might have, T times.

    Draw 0 sees the image as it is; see :mod:`mskt.plugins.uncertainty.transforms` for the others.

    Args:
        samples: T.
        measure, measures, aggregation: see :class:`DrawsEstimator`.
    """

    needs: ClassVar[Needs] = "any"
    random: ClassVar[bool] = False
    minimum_draws: ClassVar[int] = 2

    def through(self, segmenter: Segmenter) -> Segmenter:
        """The segmenter with the image of each draw changed."""
        return Transformed(segmenter, random=False)


class AugmentationDropoutEstimator(DrawsEstimator):
    """Test-time augmentation and Monte Carlo dropout at once: each draw has its own of both.

    Args:
        samples: T.
        measure, measures, aggregation: see :class:`DrawsEstimator`.
    """

    needs: ClassVar[Needs] = "stochastic"
    minimum_draws: ClassVar[int] = 2

    def through(self, segmenter: Segmenter) -> Segmenter:
        """The segmenter with the image of each draw changed."""
        return Transformed(segmenter, random=True)


def _known(name: str, among: Iterable[str], what: str) -> None:
    if name not in among:
        raise UsageError("", f"no {what} named {name!r}.", suggestion(name, tuple(among)))


def _check_measure(name: str, draws: int) -> None:
    _known(name, MEASURES, "measure")
    if MEASURES[name].spread and draws == 1:
        single = ", ".join(m for m, one in MEASURES.items() if not one.spread)
        raise UsageError(
            "--measure",
            f"{name} compares draws, and there is only one.",
            f"Take {single}, or --uncertainty mcdropout.",
        )


def _further(names: str | Sequence[str], draws: int) -> list[str]:
    """The further measures that a user named; of ``all``, those that the draws allow."""
    if names == ALL:
        return [name for name, one in MEASURES.items() if draws > 1 or not one.spread]
    listed = names.split(",") if isinstance(names, str) else list(names)
    chosen = [name.strip() for name in listed if name.strip()]
    for name in chosen:
        _check_measure(name, draws)
    return chosen


def _number(samples: int | str) -> int:
    try:
        return int(samples)
    except ValueError:
        raise UsageError(
            "--samples", f"{samples!r} is no number.", "Give one, or 'auto'."
        ) from None

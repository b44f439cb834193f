"""Distances between surfaces: ASSD, Hausdorff, its 95th percentile, surface Dice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mskt.core.errors import UsageError
from mskt.core.interfaces import LabelPair, Measurement, Metric, MetricInfo
from mskt.plugins.metrics.borders import surface_distances
from mskt.plugins.metrics.presence import presence_status

_ROUNDING_MM = 1e-9
"""Added to the tolerance: 20 voxels of 0.1 mm are 2 mm, whatever the last bit says."""

_Distances = NDArray[np.float64]


def _both_95(forth: _Distances, back: _Distances) -> tuple[float, float]:
    return float(np.percentile(forth, 95)), float(np.percentile(back, 95))


OTHER_DEFINITIONS: Mapping[str, Callable[[_Distances, _Distances], float]] = {
    "assd_directed": lambda forth, back: float(forth.mean() + back.mean()) / 2,
    "hd95_pooled": lambda forth, back: float(np.percentile(np.concatenate([forth, back]), 95)),
    "hd95_mean": lambda forth, back: sum(_both_95(forth, back)) / 2,
}
"""Distances as other libraries define them, from those of both directions; see docs/metrics.md."""


class Surface(Metric):
    """Distances between the border voxels of prediction and reference, in mm.

    - ``assd``: all distances of both surfaces, added up and divided by their number (pooled);
    - ``hd``, ``hd95``: maximum and 95th percentile (linear interpolation) of the distances from one
      surface to the other; of the two directions the larger;
    - ``nsd``: part of all border voxels of both that lie within the tolerance of the other surface.

    Args:
        tolerance_mm: of ``nsd``.
        also: other definitions in use (:data:`OTHER_DEFINITIONS`), measured beside these under names
            of their own.
    """

    infos: ClassVar[tuple[MetricInfo, ...]] = (
        MetricInfo("assd", "mm", "lower", perfect=0.0, scales_with_mm=True),
        MetricInfo("hd", "mm", "lower", perfect=0.0, scales_with_mm=True),
        MetricInfo("hd95", "mm", "lower", perfect=0.0, scales_with_mm=True),
        MetricInfo("nsd", "1", "higher", perfect=1.0),
    )

    def __init__(self, tolerance_mm: float = 2.0, also: Iterable[str] = ()) -> None:
        if not tolerance_mm >= 0:
            raise UsageError(
                "", f"a tolerance of {tolerance_mm} mm is no distance.", "Give 0 or more, in mm."
            )
        self.tolerance_mm = tolerance_mm
        self.also = tuple(also)
        if unknown := [name for name in self.also if name not in OTHER_DEFINITIONS]:
            raise UsageError(
                ", ".join(unknown),
                "is no definition of a distance that mskt knows.",
                f"Choose from {', '.join(OTHER_DEFINITIONS)}.",
            )
        more = (MetricInfo(n, "mm", "lower", perfect=0.0, scales_with_mm=True) for n in self.also)
        vars(self)["infos"] = (*type(self).infos, *more)

    def measure(self, pair: LabelPair) -> Iterator[Measurement]:
        """Yield the four distances of each structure."""
        for found in surface_distances(pair):
            status = presence_status(pair, found.index, found.in_prediction, found.in_reference)
            values: dict[str, float] = {}
            if found.from_prediction is not None and found.from_reference is not None:
                values = self._summarise(found.from_prediction, found.from_reference)
            elif status == "absent_prediction":
                values = {"nsd": 0.0}
            for info in self.infos:
                yield Measurement(found.index, info.name, values.get(info.name), info.unit, status)

    def _summarise(self, forth: NDArray[np.float64], back: NDArray[np.float64]) -> dict[str, float]:
        """Reduce the distances of both directions."""
        number = forth.size + back.size
        within = self.tolerance_mm + _ROUNDING_MM
        near = np.count_nonzero(forth <= within) + np.count_nonzero(back <= within)
        return {
            "assd": float(forth.sum() + back.sum()) / number,
            "hd": float(max(forth.max(), back.max())),
            "hd95": max(_both_95(forth, back)),
            "nsd": float(near) / number,
            **{name: OTHER_DEFINITIONS[name](forth, back) for name in self.also},
        }

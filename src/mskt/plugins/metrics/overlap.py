"""Dice and volume errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from mskt.core.interfaces import LabelPair, Measurement, Metric, MetricInfo
from mskt.plugins.metrics.joint import joint_histogram
from mskt.plugins.metrics.presence import presence_status


class Overlap(Metric):
    """``dice`` over the whole volume; ``ave`` and ``ravd`` in percent of the reference volume.

    A structure that the prediction misses has Dice 0 and volume errors of 100 %; one that the
    reference lacks has no values, because the reference then says nothing about it.
    """

    infos: ClassVar[tuple[MetricInfo, ...]] = (
        MetricInfo("dice", "1", "higher", perfect=1.0),
        MetricInfo("ave", "%", "lower", perfect=0.0),
        MetricInfo("ravd", "%", "none", perfect=0.0),
    )

    def measure(self, pair: LabelPair) -> Iterator[Measurement]:
        """Yield Dice and volume errors of each structure from one joint histogram."""
        counts = joint_histogram(pair)
        predicted, referred = counts.sum(axis=1).tolist(), counts.sum(axis=0).tolist()
        for place, index in enumerate(pair.indices, start=1):
            in_prediction, in_reference = predicted[place], referred[place]
            status = presence_status(pair, index, in_prediction, in_reference)
            dice = ave = ravd = None
            if in_reference:
                dice = 2.0 * int(counts[place, place]) / (in_prediction + in_reference)
                ravd = 100.0 * (in_prediction - in_reference) / in_reference
                ave = abs(ravd)
            yield Measurement(index, "dice", dice, "1", status)
            yield Measurement(index, "ave", ave, "%", status)
            yield Measurement(index, "ravd", ravd, "%", status)

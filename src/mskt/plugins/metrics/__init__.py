"""Overlap and surface metrics of label maps: definitions in ``docs/metrics.md``."""

from __future__ import annotations

from collections.abc import Iterable

from mskt.core.hookspecs import hookimpl
from mskt.core.specs import MetricSpec


@hookimpl
def mskt_metric() -> Iterable[MetricSpec]:
    """Announce the two families."""
    yield MetricSpec(
        name="overlap",
        factory="mskt.plugins.metrics.overlap:Overlap",
        summary="Dice, absolute and relative volume error",
    )
    yield MetricSpec(
        name="surface",
        factory="mskt.plugins.metrics.surface:Surface",
        summary="ASSD, Hausdorff distance, its 95th percentile, surface Dice at a tolerance",
    )

"""Uncertainty estimators: how a stream of draws becomes labels and a map of doubt."""

from __future__ import annotations

from collections.abc import Iterable

from mskt.core.hookspecs import hookimpl
from mskt.core.specs import UncertaintySpec


@hookimpl
def mskt_uncertainty() -> Iterable[UncertaintySpec]:
    """Announce the built-in estimators."""
    yield UncertaintySpec(
        name="mcdropout",
        factory="mskt.plugins.uncertainty.estimators:McDropoutEstimator",
        summary="Monte Carlo dropout: mean of T random passes, their variance or entropy",
    )
    yield UncertaintySpec(
        name="deterministic",
        factory="mskt.plugins.uncertainty.estimators:DeterministicEstimator",
        summary="one pass without randomness: entropy of the softmax",
    )

"""Uncertainty estimators: how a stream of draws becomes labels and doubt."""

from __future__ import annotations

from collections.abc import Iterable

from mskt.core.hookspecs import hookimpl
from mskt.core.specs import UncertaintySpec

_SUMMARIES = {
    "deterministic": (
        "DeterministicEstimator",
        "one pass without randomness: doubt of the softmax",
    ),
    "mcdropout": ("McDropoutEstimator", "Monte Carlo dropout: T random passes (the papers' way)"),
    "ensemble": ("EnsembleEstimator", "deep ensemble: one pass of each of several weights"),
    "ensemble+mcdropout": ("EnsembleDropoutEstimator", "members take turns in T random passes"),
    "planes": ("PlanesEstimator", "disagreement of the three planes of unet25d"),
    "planes+mcdropout": ("PlanesDropoutEstimator", "three planes take turns in T random passes"),
    "tta": ("AugmentationEstimator", "test-time augmentation: HU changed, mirrored, T passes"),
    "tta+mcdropout": ("AugmentationDropoutEstimator", "both: T random passes of changed images"),
}


@hookimpl
def mskt_uncertainty() -> Iterable[UncertaintySpec]:
    """Announce the built-in estimators."""
    for name, (estimator, summary) in _SUMMARIES.items():
        factory = f"mskt.plugins.uncertainty.estimators:{estimator}"
        yield UncertaintySpec(name=name, factory=factory, summary=summary)

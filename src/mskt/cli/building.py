"""From names on the command line to a segmenter and an estimator that fit each other."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mskt.cli.options import RunOptions
from mskt.core.errors import MsktError, UsageError

if TYPE_CHECKING:
    from mskt.core.interfaces import Segmenter, UncertaintyEstimator
    from mskt.core.registry import Registry
    from mskt.report.finished import Method
    from mskt.report.outputs import UncertaintyInfo

FAST_SAMPLES = 3
"""Draws of ``--fast``: Soufi 2024, Table 8 finds most of the gain of 10 draws at 5."""


@dataclass(frozen=True)
class Model:
    """What computes, and what is known of it before the first case.

    Attributes:
        name: of the segmenter, as the user gave it.
        facts: of the segmenter, for ``run.json``.
        info: of the uncertainty, for ``run.json``.
    """

    name: str
    segmenter: Segmenter
    estimator: UncertaintyEstimator
    facts: Mapping[str, Any]
    info: UncertaintyInfo

    @property
    def method(self) -> Method:
        """The method as ``run.json`` tells it to those who read the results."""
        from mskt.report.finished import Method

        return Method(
            self.name,
            str(self.facts.get("weights") or ""),
            str(self.facts.get("weights_sha256") or ""),
            self.info.estimator,
            self.info.measure,
            self.info.aggregation,
            self.info.draws,
            self.segmenter.label_set.name,
        )


def _torch() -> Any:
    """The library; the first thing that fails where a limit of memory is too low.

    Raises:
        UsageError: it cannot be loaded.
    """
    try:
        import torch
    except (ImportError, OSError) as error:
        raise UsageError(
            "torch",
            f"cannot be loaded: {error}",
            "Where memory is limited (ulimit -v), allow 10 GB: its libraries alone take several. "
            "Otherwise install mskt anew.",
        ) from error
    return torch


def load_model(options: RunOptions, plugins: Registry) -> Model:
    """Load segmenter and estimator onto the device.

    Raises:
        UsageError: see :func:`build_pair`; or the label set has no structure that was asked for.
    """
    torch = _torch()

    from mskt.core.device import resolve_device
    from mskt.core.pipeline import wanted_draws
    from mskt.report.outputs import UncertaintyInfo

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    segmenter, estimator = build_pair(options, plugins, str(resolve_device(options.device)))
    if options.roi_subset:
        segmenter.label_set.subset(options.roi_subset)
    info = UncertaintyInfo(
        options.uncertainty,
        estimator.measure,
        estimator.unit,
        estimator.range,
        len(wanted_draws(segmenter, estimator)),
        options.seed,
        estimator.aggregation,
    )
    return Model(options.segmenter, segmenter, estimator, dict(segmenter.describe()), info)


def providers(options: RunOptions, plugins: Registry) -> dict[str, str]:
    """Who provides what was named; unknown names are refused before anything is read."""
    names = [("segmenter", name) for name in _listed(options.segmenter)]
    found: dict[str, str] = {}
    for kind, name in (*names, ("uncertainty", options.uncertainty)):
        announced = plugins.find(kind, name)
        text = f"{announced.distribution} {announced.version}".strip()
        before = found.get(f"{kind}_provider")
        found[f"{kind}_provider"] = text if before in (None, text) else f"{before}, {text}"
    return found


def build_pair(
    options: RunOptions, plugins: Registry, device: str
) -> tuple[Segmenter, UncertaintyEstimator]:
    """The segmenter, or ensemble of several, and the estimator.

    Args:
        options: the call.
        plugins: what there is.
        device: to compute on.

    Raises:
        UsageError: unknown names or options, or a pair that does not fit; the estimators that do
            are named.
    """
    from mskt.core.pipeline import check_pair

    estimator_chosen = dict(options.estimator_options)
    if options.fast:
        _check_fast(options, plugins)
        if "samples" in _parameters(plugins, "uncertainty", options.uncertainty):
            estimator_chosen.setdefault("samples", FAST_SAMPLES)
    estimator = plugins.get("uncertainty", options.uncertainty, **estimator_chosen)
    segmenter = _segmenter(options, plugins, device, dict(estimator.asks))
    try:
        check_pair(segmenter, estimator, options.uncertainty)
    except UsageError as error:
        names = ", ".join(_fitting(segmenter, plugins)) or "none"
        raise UsageError(error.thing, error.fault, f"{error.remedy}\nThese fit: {names}.") from None
    return segmenter, estimator


def _segmenter(
    options: RunOptions, plugins: Registry, device: str, asked: dict[str, str]
) -> Segmenter:
    members = list(_members(options))
    built: list[tuple[str, Segmenter]] = []
    for name, weights in members:
        chosen = {**options.segmenter_options, **weights, **_asked(name, options, plugins, asked)}
        known = _parameters(plugins, "segmenter", name)
        # A segmenter without that option computes on the CPU; another device is refused.
        if "device" in known or options.device not in ("auto", "cpu"):
            chosen["device"] = device
        if options.fast and "fast" in known:
            chosen.setdefault("fast", True)
        spoken = " ".join([name, *(Path(one).stem for one in weights.values())])
        built.append((spoken, plugins.get("segmenter", name, **chosen)))
    if len(built) == 1:
        return built[0][1]
    from mskt.core.ensemble import Ensemble

    return Ensemble(built)


def _members(options: RunOptions) -> Iterator[tuple[str, dict[str, str]]]:
    """Names of segmenters, each with its weights where any were named."""
    names, weights = _listed(options.segmenter), _listed_files(options.weights)
    if len(names) > 1 and weights and len(weights) != len(names):
        raise UsageError(
            "--weights",
            f"names {len(weights)}, --segmenter {len(names)}.",
            "Give as many weights as segmenters, in their order, or none for those that come "
            "with mskt.",
        )
    if not weights:
        yield from ((name, {}) for name in names)
        return
    if len(names) == 1:
        names = names * len(weights)
    for name, one in zip(names, weights, strict=True):
        yield name, {"weights": one}


def _listed(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _listed_files(text: str | None) -> list[str]:
    """Several with commas between; a file whose own name has a comma is one."""
    if text is None:
        return []
    return [text] if Path(text).exists() else _listed(text)


def _parameters(plugins: Registry, kind: str, name: str) -> Mapping[str, Any]:
    return inspect.signature(plugins.find(kind, name).spec.load()).parameters


def takes(plugins: Registry, kind: str, name: str, option: str) -> bool:
    """Whether a plugin's factory has an option."""
    return option in _parameters(plugins, kind, name)


def _asked(
    name: str, options: RunOptions, plugins: Registry, asked: dict[str, str]
) -> dict[str, str]:
    """What the estimator wants of the segmenter, if that has such options."""
    if all(option in _parameters(plugins, "segmenter", name) for option in asked):
        return asked
    wanted = ", ".join(f"{option}={value}" for option, value in asked.items())
    able = " or ".join(_able(plugins, asked)) or "(none is installed)"
    raise UsageError(
        f"--uncertainty {options.uncertainty}",
        f"needs a segmenter with {wanted}; {name} has no such option",
        f"Take --segmenter {able}, or another estimator.",
    )


def _able(plugins: Registry, asked: dict[str, str]) -> Iterator[str]:
    """Names of the segmenters that can be built, untrained, with what an estimator asks for."""
    for name in plugins.names("segmenter"):
        if {"weights", *asked} <= set(_parameters(plugins, "segmenter", name)):
            try:
                plugins.get("segmenter", name, weights="random", **asked)
            except MsktError:
                continue
            yield name


def _check_fast(options: RunOptions, plugins: Registry) -> None:
    """Refuse ``--fast`` where neither a segmenter nor the estimator has a quicker way."""
    names = [("segmenter", name, "fast") for name in _listed(options.segmenter)]
    for kind, name, option in (*names, ("uncertainty", options.uncertainty, "samples")):
        if option in _parameters(plugins, kind, name):
            return
    raise UsageError(
        "--fast",
        f"{options.segmenter} with {options.uncertainty} has no quicker way",
        "Leave --fast out.",
    )


def _fitting(segmenter: Segmenter, plugins: Registry) -> Iterator[str]:
    """Names of the estimators that can use this segmenter's draws as it is built."""
    from mskt.core.pipeline import check_pair

    for name in plugins.names("uncertainty"):
        try:
            estimator = plugins.get("uncertainty", name)
            check_pair(segmenter, estimator)
        except (MsktError, TypeError):
            continue
        if not estimator.asks:
            yield name

"""The four hooks. Each yields specs: addresses, never live objects.

A plugin is a package with an entry point in the group ``mskt`` that names a module; the module has
functions marked ``@hookimpl`` with the names below.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from mskt.core.specs import LoaderSpec, MetricSpec, SegmenterSpec, UncertaintySpec

PROJECT = "mskt"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def mskt_segmenter() -> Iterable[SegmenterSpec]:  # type: ignore[empty-body]
    """Announce segmenters. Called at start-up: yield addresses, never models.

    Example:
        >>> from mskt import SegmenterSpec, hookimpl
        >>> @hookimpl
        ... def mskt_segmenter():
        ...     yield SegmenterSpec(name="tinynet", factory="tinynet:TinyNet", summary="one convolution")
    """


@hookspec
def mskt_uncertainty() -> Iterable[UncertaintySpec]:  # type: ignore[empty-body]
    """Announce uncertainty estimators.

    Example:
        >>> from mskt import UncertaintySpec, hookimpl
        >>> @hookimpl
        ... def mskt_uncertainty():
        ...     yield UncertaintySpec(name="margin", factory="acme:Margin", summary="1 - (p1 - p2)")
    """


@hookspec
def mskt_metric() -> Iterable[MetricSpec]:  # type: ignore[empty-body]
    """Announce families of metrics.

    Example:
        >>> from mskt import MetricSpec, hookimpl
        >>> @hookimpl
        ... def mskt_metric():
        ...     yield MetricSpec(name="iou", factory="acme:Jaccard", summary="intersection over union")
    """


@hookspec
def mskt_loader() -> Iterable[LoaderSpec]:  # type: ignore[empty-body]
    """Announce loaders of image files or folders.

    Example:
        >>> from mskt import LoaderSpec, hookimpl
        >>> @hookimpl
        ... def mskt_loader():
        ...     yield LoaderSpec(name="minc", factory="acme:MincLoader", summary="MINC 2 volumes")
    """

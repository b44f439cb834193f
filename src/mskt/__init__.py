"""mskt: muscles and bones of hip and thigh in CT, and how far to trust each one.

Importing this package imports neither torch nor any file-format library; names are loaded on use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mskt.core.anatomy import LabelSet, Structure, label_set
    from mskt.core.errors import MsktError
    from mskt.core.hookspecs import hookimpl
    from mskt.core.interfaces import (
        Estimate,
        Loader,
        Metric,
        Region,
        Segmenter,
        Tags,
        UncertaintyEstimator,
    )
    from mskt.core.pipeline import segment_case
    from mskt.core.specs import LoaderSpec, MetricSpec, SegmenterSpec, UncertaintySpec
    from mskt.core.volume import Labels, Volume

__version__ = "0.1.0"

_HOME = {
    "LabelSet": "mskt.core.anatomy",
    "label_set": "mskt.core.anatomy",
    "Structure": "mskt.core.anatomy",
    "MsktError": "mskt.core.errors",
    "hookimpl": "mskt.core.hookspecs",
    "Estimate": "mskt.core.interfaces",
    "Loader": "mskt.core.interfaces",
    "Metric": "mskt.core.interfaces",
    "Region": "mskt.core.interfaces",
    "Segmenter": "mskt.core.interfaces",
    "Tags": "mskt.core.interfaces",
    "UncertaintyEstimator": "mskt.core.interfaces",
    "segment_case": "mskt.core.pipeline",
    "LoaderSpec": "mskt.core.specs",
    "MetricSpec": "mskt.core.specs",
    "SegmenterSpec": "mskt.core.specs",
    "UncertaintySpec": "mskt.core.specs",
    "Labels": "mskt.core.volume",
    "Volume": "mskt.core.volume",
}
__all__ = [
    "Estimate",
    "LabelSet",
    "Labels",
    "Loader",
    "LoaderSpec",
    "Metric",
    "MetricSpec",
    "MsktError",
    "Region",
    "Segmenter",
    "SegmenterSpec",
    "Structure",
    "Tags",
    "UncertaintyEstimator",
    "UncertaintySpec",
    "Volume",
    "__version__",
    "hookimpl",
    "label_set",
    "segment_case",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'mskt' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""3-D UNETR (Kim 2024)."""

from __future__ import annotations

from collections.abc import Iterable

from mskt.core.hookspecs import hookimpl
from mskt.core.specs import SegmenterSpec


@hookimpl
def mskt_segmenter() -> Iterable[SegmenterSpec]:
    """Announce ``unetr``."""
    yield SegmenterSpec(
        name="unetr",
        factory="mskt.plugins.unetr.segmenter:unetr",
        summary="3-D UNETR, a vision transformer with a convolutional decoder (Kim 2024)",
        training="mskt.plugins.unetr.training:training",
    )

"""2.5-D tri-planar ensemble of 2-D U-Nets for the muscles of the thigh (Haque 2019)."""

from __future__ import annotations

from collections.abc import Iterable

from mskt.core.hookspecs import hookimpl
from mskt.core.specs import SegmenterSpec


@hookimpl
def mskt_segmenter() -> Iterable[SegmenterSpec]:
    """Announce ``unet25d``."""
    yield SegmenterSpec(
        name="unet25d",
        factory="mskt.plugins.unet25d.segmenter:UNet25D",
        summary="2.5-D ensemble of axial, coronal and sagittal U-Nets, each leg alone (Haque 2019)",
        training="mskt.plugins.unet25d.training:training",
    )

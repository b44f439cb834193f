"""What the papers compare against: 2-D and 3-D U-Net, FCN-8s, multi-atlas; and other tools' masks."""

from __future__ import annotations

from collections.abc import Iterable

from mskt.core.hookspecs import hookimpl
from mskt.core.specs import SegmenterSpec

_HERE = "mskt.plugins.baselines"


@hookimpl
def mskt_segmenter() -> Iterable[SegmenterSpec]:
    """Announce the baselines."""
    yield SegmenterSpec(
        name="unet2d",
        factory=f"{_HERE}.unet2d:unet2d",
        summary="plain 2-D U-Net, one slice at a time, no dropout",
        training=f"{_HERE}.unet2d:training",
    )
    yield SegmenterSpec(
        name="fcn8s",
        factory=f"{_HERE}.fcn8s:fcn8s",
        summary="FCN-8s over VGG (Long 2015; the comparison of Hiasa 2020)",
        training=f"{_HERE}.fcn8s:training",
    )
    yield SegmenterSpec(
        name="unet3d",
        factory=f"{_HERE}.unet3d:segmenter",
        summary="3-D U-Net in overlapping boxes (Çiçek 2016; the comparison of Haque 2019, Kim 2024)",
        training=f"{_HERE}.unet3d:training",
    )
    yield SegmenterSpec(
        name="multi_atlas",
        factory=f"{_HERE}.multi_atlas:MultiAtlas",
        summary="registration of labelled cases and fusion of their labels (Hiasa 2020's comparison)",
    )
    yield SegmenterSpec(
        name="precomputed",
        factory=f"{_HERE}.precomputed:Precomputed",
        summary="masks that another tool made: TotalSegmentator, nnU-Net, MuscleMap, mskt",
    )

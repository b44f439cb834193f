"""An announcement as it should be."""

from mskt import SegmenterSpec, hookimpl


@hookimpl
def mskt_segmenter():
    yield SegmenterSpec(name="good", factory="kit_reference:Good", summary="imports nothing")

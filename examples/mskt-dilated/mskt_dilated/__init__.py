from mskt import SegmenterSpec, hookimpl


@hookimpl
def mskt_segmenter():
    here = "mskt_dilated.model"
    what = "dilated convolutions at full resolution"
    yield SegmenterSpec("dilated", f"{here}:segmenter", what, training=f"{here}:training")

from mskt import SegmenterSpec, hookimpl


@hookimpl
def mskt_segmenter():
    yield SegmenterSpec("tinynet", "mskt_tinynet.model:TinyNet", "bone by one 3D convolution")

from mskt.core.hookspecs import hookimpl
from mskt.core.specs import SegmenterSpec


@hookimpl
def mskt_segmenter():
    yield SegmenterSpec(
        "fake", "mskt_fake.segmenter:Fake", "muscle and bone by threshold, in no time"
    )

"""An announcement that imports its network: what check_announcement_is_light is for."""

import torch

from mskt import SegmenterSpec, hookimpl

SIZE = torch.Size([3])


@hookimpl
def mskt_segmenter():
    yield SegmenterSpec(name="heavy", factory="kit_reference:Good", summary="imports torch")

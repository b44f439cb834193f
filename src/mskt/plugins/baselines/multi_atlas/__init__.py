"""Hierarchical multi-atlas segmentation, with which Hiasa 2020 compares its network."""

from mskt.plugins.baselines.multi_atlas.segmenter import MultiAtlas

__all__ = ["MultiAtlas"]

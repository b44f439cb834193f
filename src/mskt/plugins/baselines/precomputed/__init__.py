"""Masks that another tool made, as a segmenter: the same pipeline and the same table for all."""

from mskt.plugins.baselines.precomputed.segmenter import Precomputed

__all__ = ["Precomputed"]

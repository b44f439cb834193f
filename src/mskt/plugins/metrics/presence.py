"""Which of two masks has a structure, and what follows for the status of its metrics."""

from __future__ import annotations

from mskt.core.interfaces import LabelPair


def presence_status(pair: LabelPair, index: int, in_prediction: int, in_reference: int) -> str:
    """Name the status of a structure with so many voxels in the prediction and the reference."""
    if not in_prediction and not in_reference:
        return "absent_both"
    if not in_reference:
        return "absent_reference"
    if not in_prediction:
        return "absent_prediction"
    return "truncated" if index in pair.truncated else "ok"

"""How a network walks over a volume: which boxes, in which order."""

from __future__ import annotations

from mskt.core.interfaces import Region


def axial_slabs(shape: tuple[int, int, int], depth: int) -> tuple[Region, ...]:
    """Groups of whole axial slices, from the lowest up.

    Args:
        shape: of the working grid; slices are counted along its last axis.
        depth: slices a group; the last group may have fewer.
    """
    i, j, k = shape
    return tuple(
        Region((0, 0, start), (i, j, min(start + depth, k))) for start in range(0, k, depth)
    )

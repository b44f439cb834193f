"""Label maps looked up in tables, slab by slab and byte by byte where that is faster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mskt.core.foreground import slabs
from mskt.core.sides import UNSIDED


def renumber(
    table: NDArray[Any], labels: NDArray[np.uint8], sides: NDArray[np.uint8] | None = None
) -> NDArray[Any]:
    """Look up ``table[256·side + label]`` slab by slab.

    A table of bytes is applied to bytes as they are, which is several times faster than an index:
    NumPy makes 8 bytes of each first.
    """
    out = np.empty_like(labels, dtype=table.dtype)
    parts = _in_memory_order(out, labels, *([] if sides is None else [sides]))
    for part in slabs(parts[0]):
        to, code, *side = (array[part] for array in parts)
        if table.dtype.itemsize == 1 and side and code.max() < 64:
            # Label and side fit into one byte: one look at each voxel instead of three.
            packed = np.zeros(256, table.dtype)
            packed[: table.size // 4] = table.reshape(-1, 256)[:, :64].ravel()
            to[...] = _translated(packed, (side[0] << 6) | code)
        elif table.dtype.itemsize == 1:
            to[...] = _translated(table[:256], code)
            for which in range(1, table.size // 256 if side else 1):
                here = side[0] == which
                np.copyto(to, _translated(table[256 * which :][:256], code), where=here)
        else:
            place = code.astype(np.intp)
            if side:
                place += side[0].astype(np.intp) * 256
            to[...] = table[place]
    return out


def any_sided(
    paired: NDArray[np.bool_],
    maps: Sequence[NDArray[np.uint8]],
    sides: Sequence[NDArray[np.uint8]],
) -> bool:
    """Whether a voxel of a paired structure has a side in either map, or there is no such voxel.

    Slab by slab: mostly one of the first settles it.
    """
    none = True
    for labels, its_sides in zip(maps, sides, strict=True):
        ordered, beside = _in_memory_order(labels, its_sides)
        for part in slabs(ordered):
            here = _translated(paired, ordered[part])
            if bool((here & (beside[part] != UNSIDED)).any()):
                return True
            none = none and not here.any()
    return none


def _in_memory_order(*arrays: NDArray[Any]) -> list[NDArray[Any]]:
    """The same arrays with their slowest axis first, as the first one has it."""
    order = np.argsort([-abs(stride) for stride in arrays[0].strides], kind="stable")
    return [array.transpose(order) for array in arrays]


def _translated(table: NDArray[Any], labels: NDArray[np.uint8]) -> NDArray[Any]:
    """Look up bytes in a table of 256 bytes."""
    found = labels.tobytes().translate(table.tobytes())
    return np.frombuffer(found, table.dtype).reshape(labels.shape)

"""Many small networks' worth of work on the cores of one computer, with the same result every time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

_T = TypeVar("_T")
_R = TypeVar("_R")


def each(work: Callable[[_T], _R | None], items: Iterable[_T], device: torch.device) -> list[_R]:
    """Results of ``work`` that are not None, in the order of the items.

    On a CPU every item is computed by one thread, several items at a time: the order of additions
    inside a convolution then depends on nothing, and small convolutions are too short to be worth
    sharing among threads. On other devices one item comes after the other.

    Args:
        work: what to do with an item; must not depend on the other items.
        items: any number.
        device: where ``work`` computes.
    """
    if device.type != "cpu":
        return [result for item in items if (result := work(item)) is not None]
    with ThreadPoolExecutor(
        torch.get_num_threads(), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        return [result for result in pool.map(work, items) if result is not None]

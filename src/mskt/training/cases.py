"""What training sees: numbered cases, and a window of them that moves along.

Case ``n`` of a stream depends on the stream and ``n`` alone; which process makes it, and when,
does not matter. That is what lets a resumed run see what an uninterrupted one would have seen.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context, parent_process
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mskt.core.anatomy import LabelSet
from mskt.core.errors import InputError

FIRST_CASES = 4
"""Training begins with so many; one would be learned by heart, a full window takes minutes."""
AHEAD = 4
"""Cases made in advance, so that one which takes long does not stop training."""


@dataclass(frozen=True)
class TrainingCase:
    """One case on the stream's grid, in small types.

    Attributes:
        image: int16 HU, (x, y, z), RAS.
        target: uint8 class indices of the stream's label set, (x, y, z); 255 counts for nothing.
        body: True inside the skin, (x, y, z); table, hands and forearms are outside.
        known: names of the structures that somebody annotated; None: all of the label set. A
            voxel of background may be any structure that is not known.
        patient: who it is; cases of one patient belong to one fold.
    """

    image: NDArray[np.int16]
    target: NDArray[np.uint8]
    body: NDArray[np.bool_]
    known: tuple[str, ...] | None = None
    patient: str = ""

    @cached_property
    def labelled_slices(self) -> NDArray[np.intp]:
        """Numbers of the axial slices with a structure in them."""
        labelled = (self.target > 0) & (self.target < 255)
        return np.flatnonzero(labelled.any(axis=(0, 1)))


class CaseStream(ABC):
    """Cases by number, without end. Implementations are frozen dataclasses that can be pickled.

    Attributes:
        label_set: classes of the targets.
        spacing_mm: of every case.
    """

    label_set: LabelSet
    spacing_mm: tuple[float, float, float]

    @abstractmethod
    def case(self, number: int) -> TrainingCase:
        """Case ``number`` (0, 1, …): a pure function of the stream and the number."""

    @abstractmethod
    def describe(self) -> Mapping[str, Any]:
        """What the cases are, JSON-ready, for the record of a run."""


Adapt = Callable[[TrainingCase], Sequence[TrainingCase]]
"""Turns one case of a stream into the cases that a task learns from; it can be pickled."""


def as_it_is(case: TrainingCase) -> Sequence[TrainingCase]:
    """The case itself."""
    return (case,)


class CaseWindow:
    """The cases that training may look at: a window that moves along the stream.

    Args:
        stream: of cases.
        capacity: cases kept.
        workers: processes that work ahead; 0 makes the cases when they are asked for.
        adapt: what a task makes of a case, where the case is made.
    """

    def __init__(
        self, stream: CaseStream, capacity: int = 24, workers: int = 1, adapt: Adapt = as_it_is
    ) -> None:
        self._stream = stream
        self._adapt = adapt
        self.capacity = capacity
        self._cases: OrderedDict[int, Sequence[TrainingCase]] = OrderedDict()
        self._ahead: dict[int, Future[Sequence[TrainingCase]]] = {}
        self._pool = (
            ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_worker)
            if workers
            else None
        )

    def at(self, position: int) -> Sequence[TrainingCase]:
        """The newest ``capacity`` cases up to ``position + FIRST_CASES − 1``.

        The window grows from :data:`FIRST_CASES`, so that training begins before it is full. It
        is a function of the position alone; a few cases more are asked for in the background.

        Raises:
            InputError: the task can use none of them.
        """
        end = position + min(FIRST_CASES, self.capacity)
        wanted = range(max(0, end - self.capacity), end)
        if self._pool is not None:
            for index in range(wanted.start, end + AHEAD):
                if index not in self._cases and index not in self._ahead:
                    self._ahead[index] = self._pool.submit(_made, self._stream, self._adapt, index)
        for index in wanted:
            if index in self._ahead:
                self._cases[index] = self._ahead.pop(index).result()
            elif index not in self._cases:
                self._cases[index] = _made(self._stream, self._adapt, index)
        for index in [i for i in self._cases if i < wanted.start]:
            del self._cases[index]
        found = [case for index in wanted for case in self._cases[index]]
        if not found:
            raise InputError(
                f"training cases {wanted.start} to {wanted.stop - 1}",
                "show nothing that this part of the segmenter learns from",
                "Give data that show the part of the body that the segmenter is for.",
            )
        return found

    def close(self) -> None:
        """Stop the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _made(stream: CaseStream, adapt: Adapt, number: int) -> Sequence[TrainingCase]:
    """Case ``number`` of a stream as a task wants it."""
    return tuple(adapt(stream.case(number)))


def _worker() -> None:
    """Workers leave the cores to the network, and do not outlive a training that was killed."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    threadpool_limits(1)  # NumPy's matrix products
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Wait for it; without this a worker waits for work from nobody, with all its memory."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

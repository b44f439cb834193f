"""A deterministic stream of synthetic cases, made in a process of its own.

Case ``n`` of a stream depends on (seed, n) alone; which process makes it, and when, does not
matter.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mskt.core.seeding import generator
from mskt.synthesis.config import SynthesisConfig
from mskt.synthesis.engine import synthesise
from mskt.synthesis.labelmap import LabelMap
from mskt.synthesis.parametric import canonical_labels
from mskt.synthesis.source import PreparedSource, prepare


@dataclass(frozen=True)
class StreamSpec:
    """What a stream of synthetic cases is made of.

    Attributes:
        maps: label maps of real people (with their label table), each drawn with equal chance.
        table: JSON table of the maps.
        persons: how many parametric persons to draw from beside them.
        p_parametric: chance of a parametric person.
        excluded_person: number of a measured person who has no share in the parametric ones.
        p_clinical: chance of a clean clinical scan instead of wide randomisation.
        overrides: settings of the synthesis that differ from its presets.
        spacing_mm, shape: of each case.
    """

    maps: tuple[str, ...]
    table: str
    persons: int = 8
    p_parametric: float = 0.5
    excluded_person: int | None = None
    p_clinical: float = 0.25
    overrides: tuple[tuple[str, float], ...] = ()
    spacing_mm: tuple[float, float, float] = (2.0, 2.0, 3.0)
    shape: tuple[int, int, int] = (192, 144, 96)
    seed: int = 0


@dataclass(frozen=True)
class TrainingCase:
    """One synthetic case in small types: int16 HU, uint8 sided atoms, bool body; (x, y, z)."""

    image: NDArray[np.int16]
    atoms: NDArray[np.uint8]
    body: NDArray[np.bool_]


@lru_cache(maxsize=16)
def _source(spec: StreamSpec, number: int) -> PreparedSource:
    """A map (number < len(maps)) or a parametric person."""
    if number < len(spec.maps):
        return prepare(LabelMap.from_shared(Path(spec.maps[number]), Path(spec.table)))
    person = number - len(spec.maps)
    weights = None
    if spec.excluded_person is not None:
        rng = generator(spec.seed, "person", person)
        shares = rng.dirichlet(np.ones(2)) * 1.2 - 0.1
        weights = list(np.insert(shares, spec.excluded_person, 0.0))
    return prepare(canonical_labels(50_000 + person, weights=weights))


def make_case(spec: StreamSpec, index: int) -> TrainingCase:
    """Case ``index`` of the stream."""
    rng = generator(spec.seed, "case", index)
    if not spec.maps or rng.random() < spec.p_parametric:
        number = len(spec.maps) + int(rng.integers(spec.persons))
    else:
        number = int(rng.integers(len(spec.maps)))
    config = SynthesisConfig.training()
    if rng.random() < spec.p_clinical:
        config = replace(
            SynthesisConfig.phantom(),
            view_level=config.view_level,
            view_shift_mm=15.0,
            p_mirror=0.5,
            flexion=(-6.0, 14.0),
            deform_wide_mm=(1.0, 5.0),
            scale=(0.88, 1.12),
        )
    config = replace(config, **dict(spec.overrides))  # type: ignore[arg-type]
    case = synthesise(
        _source(spec, number),
        seed=int(rng.integers(2**62)),
        spacing_mm=spec.spacing_mm,
        shape=spec.shape,
        config=config,
    )
    image = np.clip(np.rint(case.image), -1024, 3071).astype(np.int16)
    return TrainingCase(image, case.labels, case.body)


class CaseWindow:
    """The cases that training may look at: a window that moves along the stream.

    Args:
        capacity: cases kept.
        workers: processes that work ahead.
    """

    def __init__(self, spec: StreamSpec, capacity: int = 24, workers: int = 1) -> None:
        self._spec = spec
        self.capacity = capacity
        self._cases: OrderedDict[int, TrainingCase] = OrderedDict()
        self._ahead: dict[int, Future[TrainingCase]] = {}
        self._pool = ProcessPoolExecutor(
            workers, mp_context=get_context("spawn"), initializer=_one_thread
        )

    def at(self, first: int) -> Sequence[TrainingCase]:
        """Cases ``first … first + capacity − 1``; asks for a few more in the background."""
        wanted = range(first, first + self.capacity)
        for index in range(first, first + self.capacity + 4):
            if index not in self._cases and index not in self._ahead:
                self._ahead[index] = self._pool.submit(make_case, self._spec, index)
        for index in wanted:
            if index in self._ahead:
                self._cases[index] = self._ahead.pop(index).result()
        for index in [i for i in self._cases if i < first]:
            del self._cases[index]
        return [self._cases[index] for index in wanted]

    def close(self) -> None:
        """Stop the processes."""
        self._pool.shutdown(cancel_futures=True)


def _one_thread() -> None:
    """Workers leave the cores to the network."""
    import torch

    torch.set_num_threads(1)

"""An endless, reproducible stream of training cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mskt.synthesis.config import SynthesisConfig
from mskt.synthesis.engine import SyntheticCase, synthesise
from mskt.synthesis.labelmap import LabelMap
from mskt.synthesis.lattice import child_rng
from mskt.synthesis.source import PreparedSource, prepare


def training_case(
    sources: Sequence[PreparedSource],
    config: SynthesisConfig,
    spacing: tuple[float, float, float],
    shape: tuple[int, int, int],
    seed: int,
    index: int,
) -> SyntheticCase:
    """Case ``index`` of the stream ``seed``: a pure function of its arguments."""
    rng = child_rng(seed, "stream", index)
    source = sources[int(rng.integers(len(sources)))]
    case_seed = int(rng.integers(2**62))
    return synthesise(source, seed=case_seed, spacing_mm=spacing, shape=shape, config=config)


def training_stream(
    sources: Sequence[LabelMap | PreparedSource],
    config: SynthesisConfig | None = None,
    spacing: tuple[float, float, float] = (3.0, 3.0, 3.0),
    shape: tuple[int, int, int] = (128, 128, 150),
    seed: int = 0,
    worker: int = 0,
    workers: int = 1,
    start: int = 0,
) -> Iterator[SyntheticCase]:
    """Yield cases ``start + worker``, ``start + worker + workers``, … of the stream ``seed``.

    Which process makes a case does not change it; ``workers`` processes together give each case
    of the one-process stream once.
    """
    if not sources:
        raise ValueError("a stream needs at least one source")
    if not 0 <= worker < workers:
        raise ValueError(f"worker {worker} is not one of {workers}")
    config = config or SynthesisConfig.training()
    ready = [prepare(s) for s in sources]
    index = start + worker
    while True:
        yield training_case(ready, config, spacing, shape, seed, index)
        index += workers

"""Wall time by stage, in words that hold for every segmenter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

STAGES: Mapping[str, tuple[str, ...]] = {
    "read": ("load",),
    "prepare": ("prepare",),
    "network": ("segment",),
    "post-process": ("return", "record", "post-process"),
    "assess": ("assess",),
    "write": ("write", "preview"),
}
"""What the stages of ``run.json`` are called here; what is left of the total is ``other``."""
OTHER, READ, TOTAL = "other", "read", "total"


@dataclass(frozen=True)
class Timing:
    """Seconds a case, averaged over cases.

    Attributes:
        cases: that went in.
        stages: mean of each; empty for a tool that is timed from outside.
        seconds: mean of a case without reading it; for a tool timed from outside of all it does.
        sd: of the same; None for fewer than two cases.
    """

    cases: int
    stages: Mapping[str, float]
    seconds: float | None
    sd: float | None

    @property
    def cases_per_hour(self) -> float | None:
        """One after the other, reading not counted."""
        return 3600.0 / self.seconds if self.seconds else None


def by_stage(seconds: Mapping[str, float]) -> dict[str, float]:
    """The stages of one case; ``other`` is what none of them names, such as checksums.

    Args:
        seconds: of ``run.json``, with ``total``.
    """
    found = {name: sum(seconds.get(part, 0.0) for part in parts) for name, parts in STAGES.items()}
    found[OTHER] = max(0.0, seconds.get(TOTAL, 0.0) - sum(found.values()))
    return found


def timing(cases: Sequence[Mapping[str, float]]) -> Timing:
    """Average the times of cases that mskt itself has done.

    Args:
        cases: ``seconds`` of each ``run.json``.
    """
    stages = [by_stage(seconds) for seconds in cases]
    totals = [sum(part for name, part in one.items() if name != READ) for one in stages]
    names = (*STAGES, OTHER)
    means = {name: float(np.mean([one[name] for one in stages])) for name in names if stages}
    return Timing(len(cases), means, *_mean_and_sd(totals))


def timing_from_outside(seconds: Sequence[float]) -> Timing:
    """Average the times of a tool that reads, computes and writes by itself."""
    return Timing(len(seconds), {}, *_mean_and_sd(seconds))


def _mean_and_sd(values: Sequence[float]) -> tuple[float | None, float | None]:
    if not values:
        return None, None
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None

"""From a CT volume to labels and uncertainty on its own grid: the papers' figure 1.

load → draw → reduce → label → assess → report; loading, assessment and report stand around this.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mskt.core.anatomy import LabelSet
from mskt.core.errors import UsageError
from mskt.core.interfaces import (
    FastDraws,
    PlansRegions,
    ReadsThrough,
    Region,
    ReportsEvents,
    ReportsPreparation,
    Segmenter,
    UncertaintyEstimator,
    still,
)
from mskt.core.midplane import beside_the_scan
from mskt.core.postprocess import cut_by_grid, ends_inside, truncated, without_voxels
from mskt.core.postprocess import keep_largest as keep_largest_components
from mskt.core.sides import sides_and_plane
from mskt.core.volume import Labels, Volume

if TYPE_CHECKING:
    from torch import Tensor

    from mskt.core.backproject import Output
    from mskt.core.recorder import Recorder
    from mskt.core.structurewise import Structurewise

Progress = Callable[[str, float], None]
"""Called with the name of the stage and the part of it that is done, 0 … 1."""


@dataclass(frozen=True)
class CaseResult:
    """What segmentation gives for one case; all maps on the input grid.

    Attributes:
        labels: one class a voxel.
        sides: uint8, 0 unsided, 1 right, 2 left.
        uncertainty: float32, one value a voxel, 0 where nothing was segmented.
        measure, unit: what the uncertainty is.
        truncated: (index, side) of structures that touch the border of the field of view: of the
            image, or of a working grid that ends inside the body; and of those that were not found
            where a working grid ends so, or of which the region check sees no more than the margin,
            since they may lie beyond.
        seconds: wall time by stage.
        removed: voxels taken away from each structure as not belonging to its largest component.
        structurewise: doubt about structures and the spread of the draws.
    """

    labels: Labels
    sides: NDArray[np.uint8]
    uncertainty: NDArray[np.float32]
    measure: str
    unit: str
    truncated: frozenset[tuple[int, str]]
    seconds: Mapping[str, float]
    removed: Mapping[str, int]
    structurewise: Structurewise
    notes: tuple[str, ...] = ()


@dataclass
class _Clock:
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin


def check_pair(segmenter: Segmenter, estimator: UncertaintyEstimator, name: str = "") -> None:
    """Refuse an estimator whose draws the segmenter cannot give.

    Raises:
        UsageError: e.g. Monte Carlo dropout asked of a network without dropout.
    """
    what = name or type(estimator).__name__
    if estimator.needs == "stochastic" and not segmenter.tags.stochastic:
        raise UsageError(
            what,
            "needs a segmenter whose draws differ (Monte Carlo dropout); "
            "this one gives the same result every time.",
            "Take a segmenter with dropout, or --uncertainty deterministic.",
        )
    if estimator.needs == "members" and segmenter.tags.members < 2:
        raise UsageError(
            what,
            "needs an ensemble of at least two members; this segmenter has "
            f"{segmenter.tags.members}.",
            "Give several weights (--weights a,b,c), or take --uncertainty mcdropout or "
            "deterministic.",
        )
    if estimator.needs == "members" and estimator.random and not segmenter.tags.stochastic:
        raise UsageError(
            what,
            "needs members with dropout; these give the same result every time.",
            "Take --uncertainty ensemble.",
        )


def wanted_draws(segmenter: Segmenter, estimator: UncertaintyEstimator) -> Sequence[int]:
    """The numbers of the draws that an estimator gets: random ones, or passes without randomness."""
    count = estimator.draws
    if estimator.needs == "members":
        count = max(count, segmenter.tags.members)
    return range(count) if estimator.random else [still(n) for n in range(count)]


def segment_case(
    image: Volume,
    segmenter: Segmenter,
    estimator: UncertaintyEstimator,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    keep_largest: bool = True,
) -> CaseResult:
    """Segment one CT and say for every voxel how uncertain the label is.

    Args:
        image: HU on any grid.
        segmenter: gives the draws, on a grid of its own.
        estimator: reduces them; says how many it wants.
        progress: is told how far each stage is.
        seed: of the draws; the same seed gives the same result.
        keep_largest: keep only the largest component of each structure and side (Hiasa 2020).

    Raises:
        UsageError: the estimator does not fit the segmenter.
    """
    from mskt.core.backproject import Output  # torch
    from mskt.core.structurewise import structurewise

    check_pair(segmenter, estimator)
    if isinstance(estimator, ReadsThrough):
        segmenter = estimator.through(segmenter)
    tell = progress or (lambda stage, part: None)
    clock = _Clock()
    output = Output(image.grid)
    with clock.stage("prepare"):
        tell("prepare", 0.0)
        works = _prepared(segmenter, image, tell)
    recorders = []
    for number, work in enumerate(works):

        def told(part: float, before: int = number) -> None:
            tell("segment", (before + part) / len(works))

        recorders.append(_segment_grid(work, output, segmenter, estimator, seed, told, clock))
    tell("post-process", 0.0)
    with clock.stage("post-process"):
        ends = [end for work in works for end in ends_inside(work, image)]
        beyond = _beyond(works, segmenter.label_set)
        final = _post_process(output.labels, image, segmenter.label_set, ends, beyond, keep_largest)
    with clock.stage("record"):
        structures = structurewise(recorders, output.labels, final.sides, image.grid)
    return CaseResult(
        labels=Labels(output.labels, image.affine, segmenter.label_set),
        sides=final.sides,
        uncertainty=output.uncertainty,
        measure=estimator.measure,
        unit=estimator.unit,
        truncated=final.truncated,
        seconds=clock.seconds,
        removed=final.removed,
        structurewise=structures,
        notes=(
            *_new_notes(image, works),
            *_unseen(final.absent, segmenter.label_set, bool(ends)),
            *(segmenter.events() if isinstance(segmenter, ReportsEvents) else ()),
        ),
    )


def _segment_grid(
    work: Volume,
    output: Output,
    segmenter: Segmenter,
    estimator: UncertaintyEstimator,
    seed: int,
    tell: Callable[[float], None],
    clock: _Clock,
) -> Recorder:
    """One working grid, region by region: draw, reduce, bring back, remember what is asked later."""
    from mskt.core.backproject import projector
    from mskt.core.recorder import Recorder

    wanted = wanted_draws(segmenter, estimator)
    target = projector(output, work.grid, len(segmenter.labels))
    recorder = Recorder(work, len(segmenter.labels))
    if isinstance(segmenter, PlansRegions):
        regions = segmenter.regions_for(work, len(wanted))
    else:
        regions = segmenter.regions(work)
    for done, region in enumerate(regions):
        tell(done / len(regions))
        with clock.stage("segment"):
            draws = _draws(segmenter, work, region, wanted, seed)
            estimate = estimator.reduce(recorder.watched(region, draws))
        with clock.stage("return"):
            target.add(region, estimate)
        with clock.stage("record"):
            recorder.add(region, estimate, estimator.measure)
        del draws, estimate  # before the next are made
    with clock.stage("return"):
        target.finish()
    return recorder


@dataclass(frozen=True)
class _Final:
    """What post-processing finds out; see :class:`CaseResult`.

    Attributes:
        absent: what was not found, where that may lie beyond what was looked at; else empty.
    """

    sides: NDArray[np.uint8]
    removed: Mapping[str, int]
    truncated: frozenset[tuple[int, str]]
    absent: frozenset[tuple[int, str]]


def _post_process(
    labels: NDArray[np.uint8],
    image: Volume,
    label_set: LabelSet,
    ends: Sequence[NDArray[np.int64]],
    beyond: Set[int],
    keep_largest: bool,
) -> _Final:
    """Sides, largest components (taken away in place), and what the fields of view cut."""
    sides, plane = sides_and_plane(labels, image.grid, label_set)
    removed = keep_largest_components(labels, sides, label_set) if keep_largest else {}
    cut = truncated(labels, sides, label_set) | cut_by_grid(labels, sides, label_set, ends)
    absent: frozenset[tuple[int, str]] = frozenset()
    beside = beside_the_scan(plane, image.grid, label_set)
    if ends or beyond or beside:  # what was not found may lie beyond
        absent = without_voxels(labels, sides, label_set)
        outside = absent & beside
        cut |= outside | {(index, "both") for index, _ in outside}
        cut |= {(index, side) for index, side in absent if ends or index in beyond}
    return _Final(sides, removed, frozenset(cut), absent)


def _beyond(works: Sequence[Volume], label_set: LabelSet) -> Set[int]:
    """Structures that the region check does not expect in the scan: not to find them is no failure."""
    shown = [getattr(work, "expected", None) for work in works]
    return {
        structure.index
        for structure in label_set.structures
        if shown and all(one is not None and not one[structure.index] for one in shown)
    }


def _prepared(segmenter: Segmenter, image: Volume, tell: Progress) -> Sequence[Volume]:
    """The working grids; a segmenter that takes minutes for them says how far it is."""
    if isinstance(segmenter, ReportsPreparation):
        return segmenter.prepare_reporting(image, lambda part: tell("prepare", part))
    return segmenter.prepare(image)


def _new_notes(image: Volume, works: Sequence[Volume]) -> tuple[str, ...]:
    """What the segmenter has said while it prepared the image, each sentence once."""
    said = [note for work in works for note in work.notes if note not in image.notes]
    return tuple(dict.fromkeys(said))


def _unseen(
    absent: Set[tuple[int, str]], label_set: LabelSet, ends_in_body: bool
) -> tuple[str, ...]:
    """Absent structures that may lie beyond the end of a working grid are named, not passed over."""
    if not ends_in_body:
        return ()
    names = [s.name for s in label_set.structures if (s.index, "both") in absent]
    if not names:
        return ()
    return (
        "not found, or outside the field of view of the segmenter, which ends inside the body: "
        + ", ".join(names),
    )


def _draws(
    segmenter: Segmenter, image: Volume, region: Region, wanted: Sequence[int], seed: int
) -> Iterator[Tensor]:
    """The draws of one region, by the segmenter's faster path where it says it has one."""
    random = wanted == range(len(wanted))
    if random and segmenter.tags.fast_draws and isinstance(segmenter, FastDraws):
        yield from segmenter.draw_many(image, region, count=len(wanted), seed=seed)
    else:
        for index in wanted:
            yield segmenter.draw(image, region, index=index, seed=seed)

"""The four questions that plugins answer: load, segment, reduce, measure.

Nothing here imports torch; tensors appear in signatures only: announcing a plugin stays cheap.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mskt.core.anatomy import LabelSet
from mskt.core.volume import Volume

if TYPE_CHECKING:
    from torch import Tensor

Needs = Literal["any", "stochastic", "members"]


@dataclass(frozen=True, slots=True)
class Region:
    """A box of the working grid: ``start[a] <= index < stop[a]`` along each array axis."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along each axis."""
        (a, b, c), (x, y, z) = self.start, self.stop
        return (x - a, y - b, z - c)

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """For indexing an array of the working grid: ``array[region.slices]``."""
        (a, b, c), (x, y, z) = self.start, self.stop
        return (slice(a, x), slice(b, y), slice(c, z))


@dataclass(frozen=True, slots=True)
class Tags:
    """What a segmenter can do; pipeline and checks read these, never the class.

    Attributes:
        stochastic: draws with different ``index`` differ (Monte Carlo dropout).
        members: number of ensemble members; draw ``index`` uses member ``member_of(index, members)``.
        fast_draws: the segmenter also has ``draw_many`` (see :class:`FastDraws`).
        mirror: it was trained on images mirrored left to right, and may be shown them.
    """

    stochastic: bool = False
    members: int = 1
    fast_draws: bool = False
    mirror: bool = False


def still(member: int = 0) -> int:
    """The ``index`` of the pass of a member without randomness (dropout off): −1, −2, …"""
    return -1 - member


def member_of(index: int, members: int) -> int:
    """Which of an ensemble's members a draw comes from: they take turns."""
    return (index if index >= 0 else still(index)) % members


class Segmenter(ABC):
    """Maps a CT volume to class probabilities.

    Contract:
        - ``draw`` is a pure function of (image, region, index, seed): it changes no argument, keeps
          no state and leaves the global random generators alone.
        - Two partitions of the grid into regions give the same values where they overlap.
        - Probabilities are non-negative and sum to 1 over the classes.

    Attributes:
        label_set: the classes; channel 0 is background, channel ``n`` the structure with index ``n``.
        tags: what it can do.
        description: facts for ``run.json`` (weights' checksum, variant, parameters).
    """

    label_set: LabelSet
    tags: Tags = Tags()

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in channel order; ``labels[0]`` is ``background``."""
        return ("background", *self.label_set.names)

    def describe(self) -> Mapping[str, Any]:
        """Facts for ``run.json`` and ``mskt plugins info``; nothing by default."""
        return {}

    def prepare(self, image: Volume) -> Sequence[Volume]:
        """The image on the segmenter's working grid or grids (one leg or two).

        A working grid is described by the affine of the returned volume alone, so the way back is
        always known: any resampling, cropping, rotation or mirroring is an affine. A ``mask`` says
        where there is something to segment; outside it the result is background.

        Returns:
            One volume a working grid; by default the image itself.
        """
        return (image,)

    def regions(self, image: Volume) -> Sequence[Region]:
        """Disjoint boxes that cover a working grid, ordered by ``start[2]``.

        Each must be small enough to hold one draw of it in memory. By default one box: the whole
        grid. Boxes that share ``start[2]`` must share ``stop[2]`` too: they form a slab.
        """
        i, j, k = image.data.shape
        return (Region((0, 0, 0), (i, j, k)),)

    @abstractmethod
    def draw(self, image: Volume, region: Region, *, index: int, seed: int) -> Tensor:
        """One probability map of one region: a pure function of (image, region, index, seed).

        Args:
            image: a volume returned by :meth:`prepare`.
            region: a box of that volume's grid.
            index: number of the draw, 0, 1, 2, …; :func:`still` gives the numbers of the passes
                without randomness, in which a stochastic segmenter leaves ``seed`` unread.
            seed: of the run.

        Returns:
            ``(C, *region.shape)``, non-negative, sums to 1 over C, any device, at least bfloat16.
        """


@runtime_checkable
class FastDraws(Protocol):
    """All draws of a region at once, sharing what does not depend on the draw."""

    def draw_many(
        self, image: Volume, region: Region, *, count: int, seed: int
    ) -> Iterator[Tensor]:
        """Yield what ``draw(image, region, index=i, seed=seed)`` gives for i = 0 … count − 1."""
        ...


@runtime_checkable
class PlansRegions(Protocol):
    """A segmenter whose regions are better chosen when the number of draws is known."""

    def regions_for(self, image: Volume, draws: int) -> Sequence[Region]:
        """As :meth:`Segmenter.regions`; the caller takes ``draws`` draws of each before the next."""
        ...


@runtime_checkable
class ReportsPreparation(Protocol):
    """A segmenter whose :meth:`Segmenter.prepare` takes minutes and says how far it is."""

    def prepare_reporting(self, image: Volume, tell: Callable[[float], None]) -> Sequence[Volume]:
        """What ``prepare(image)`` gives; ``tell`` gets the part that is done, 0 … 1, now and then."""
        ...


@runtime_checkable
class ReportsEvents(Protocol):
    """A segmenter to which something may happen that leaves the result as it is, and is told."""

    def events(self) -> Sequence[str]:
        """Sentences about what happened since it was last asked, such as memory that ran out."""
        ...


@dataclass(frozen=True)
class Estimate:
    """What remains of the draws of one region.

    Attributes:
        probabilities: mean over the draws, ``(C, *shape)``.
        uncertainty: one value a voxel, ``shape``; unit and range as the estimator declares.
        measures: further measures by name, each ``shape``, of the same draws.
    """

    probabilities: Tensor
    uncertainty: Tensor
    measures: Mapping[str, Tensor] = field(default_factory=dict)

    @cached_property
    def winner(self) -> tuple[Tensor, Tensor]:
        """The largest mean probability of each voxel and its class, uint8; each ``shape``."""
        # On a CPU max() finds the places in a third of the time that argmax() takes.
        top, place = self.probabilities.float().max(dim=0)
        return top, place.byte()


class UncertaintyEstimator(ABC):
    """Reduces a stream of draws in one pass and constant memory.

    Contract:
        - ``reduce`` reads the iterable once, may stop before its end, and never holds more than two
          draws.
        - identical draws have the uncertainty that is documented as none; the result is never NaN.
        - fewer draws than ``minimum_draws`` are refused with a MsktError.

    Attributes:
        needs: what the draws must come from: ``any`` segmenter, a ``stochastic`` one, ``members``.
        random: draws are random where the segmenter is stochastic; False: passes without randomness.
        unit: of the uncertainty map, for the results table.
        range: smallest and largest possible value.
        measure: name of what is computed, e.g. ``predictive_variance_mean``.
        draws: number of draws that the pipeline asks for, and at least one of each member where
            members are needed.
        minimum_draws: fewest with which the measure is defined.
        aggregation: how voxels become the ``uncertainty`` of a structure: a name of
            :data:`mskt.core.structurewise.AGGREGATIONS`.
        further: unit of each of the ``measures`` that its estimates have, by name.
        asks: options that the segmenter must be built with, such as ``members=planes``.
    """

    needs: ClassVar[Needs]
    random: ClassVar[bool] = True
    asks: ClassVar[Mapping[str, str]] = MappingProxyType({})
    aggregation: str = "mean"
    further: Mapping[str, str] = MappingProxyType({})
    unit: str
    range: tuple[float, float]
    minimum_draws: ClassVar[int] = 1
    measure: str
    draws: int

    @abstractmethod
    def reduce(self, draws: Iterable[Tensor]) -> Estimate:
        """The mean and the uncertainty of the draws, each ``(C, *shape)`` and summing to 1 over C."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number about one structure; None where it does not exist, with the status that says why."""

    index: int
    metric: str
    value: float | None
    unit: str
    status: str = "ok"


@dataclass(frozen=True)
class LabelPair:
    """A prediction and its reference on one grid.

    Attributes:
        prediction, reference: unsigned integer label maps of equal shape; 0 is background.
        indices: the structures to measure.
        spacing_mm: voxel spacing along the array axes.
        image: HU, same shape, for metrics that need intensities.
        truncated: indices of structures that the field of view cuts.
    """

    prediction: NDArray[Any]
    reference: NDArray[Any]
    indices: tuple[int, ...]
    spacing_mm: tuple[float, float, float]
    image: NDArray[np.float32] | None = None
    truncated: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """What a metric is.

    Attributes:
        direction: ``higher`` or ``lower`` is better, ``none`` if neither.
        perfect: the value of a prediction that equals its reference.
        scales_with_mm: multiplying the spacing by s multiplies the value by s.
    """

    name: str
    unit: str
    direction: Literal["higher", "lower", "none"]
    perfect: float | None = None
    scales_with_mm: bool = False


class Metric(ABC):
    """Measures a prediction against a reference, all structures at once.

    Contract:
        - yields exactly one :class:`Measurement` for each of ``indices`` and each of ``infos``;
        - empty structures follow the table of statuses: absent in both → ``absent_both``; absent in
          the reference → ``absent_reference``; absent in the prediction → ``absent_prediction``
          with the worst value where one is defined (Dice 0), else no value;
        - inputs are not changed.
    """

    infos: ClassVar[tuple[MetricInfo, ...]]

    @abstractmethod
    def measure(self, pair: LabelPair) -> Iterable[Measurement]:
        """All metrics of this family for all ``pair.indices``."""


@dataclass(frozen=True)
class LoadOptions:
    """What the user said about the inputs.

    Attributes:
        series: SeriesInstanceUID or number of the DICOM series to take.
        allow: faults that the user accepts by name (``--allow NAME``).
    """

    series: str | None = None
    allow: frozenset[str] = frozenset()
    extra: Mapping[str, Any] = field(default_factory=dict)


class Loader(ABC):
    """Reads one kind of file or folder.

    Contract:
        - geometry is read, never guessed; what is repaired is noted in ``Volume.notes``;
        - what cannot be used is refused with an InputError: name, value, remedy;
        - no name, identifier, birth date or path of the patient's files leaves the loader.
    """

    @abstractmethod
    def accepts(self, path: Path) -> bool:
        """True if this loader is the one for ``path``: by name and a few bytes, quickly."""

    @abstractmethod
    def load(self, path: Path, options: LoadOptions) -> Volume:
        """The CT image in HU."""

    @abstractmethod
    def load_labels(
        self, path: Path, options: LoadOptions
    ) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """A label map (integers as stored) and its affine in RAS mm."""


@runtime_checkable
class ReadsThrough(Protocol):
    """An estimator that wants draws of a segmenter in disguise (test-time augmentation)."""

    def through(self, segmenter: Segmenter) -> Segmenter:
        """The segmenter whose draws it reduces; made once a run."""
        ...


Maker = Callable[[], Any]
"""Builds a fresh object for each check of the conformance kit."""

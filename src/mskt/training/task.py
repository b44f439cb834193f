"""What a plugin says about its training: which networks, on which grid, and how a sample looks.

A segmenter becomes trainable by an address in its spec (``training="package.module:function"``). The
function takes a label set and the user's options and returns a :class:`TrainingTask` for each
network of the segmenter, the main one last. Most networks are a
:class:`~mskt.training.slices.SliceTask` or a :class:`~mskt.training.patches.PatchTask`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mskt.core.anatomy import LabelSet
from mskt.core.seeding import generator
from mskt.training.cases import TrainingCase
from mskt.training.recipes import Recipe

Sample = tuple[NDArray[np.float32], NDArray[np.int64]]
"""An image ``(channels, *space)`` as the network takes it, and its target ``(*space)``."""


@dataclass(frozen=True)
class Batch:
    """What one step sees.

    Attributes:
        image: float32 ``(N, channels, *space)``.
        target: int64 ``(N, *space)``; 255 counts for nothing.
        known: bool ``(N, classes)``: which classes were annotated; background always is.
    """

    image: Tensor
    target: Tensor
    known: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The same with ``change`` applied to each tensor."""
        return Batch(change(self.image), change(self.target), change(self.known))


class TrainingTask(ABC):
    """One network of a segmenter and what it is trained with.

    Attributes:
        name: of the part; its tensors get the prefix ``"NAME."`` in the file of weights.
        network: builds it, untrained.
        label_set: of the cases; channel n of the network is the structure with index n.
        classes: channels of the network, background included.
        class_names: of the channels but the first, for the tables.
        spacing_mm: of the cases.
        shape: of the cases, where nothing else fixes it: of synthetic ones.
        card: what the model card must say so that the segmenter can build the network again.
        fallback: weights whose part of this name is taken where this part is not trained.
    """

    name: str
    network: Callable[[], nn.Module]
    label_set: LabelSet
    spacing_mm: tuple[float, float, float]
    shape: tuple[int, int, int]
    card: Mapping[str, Any]
    fallback: str

    @property
    def class_names(self) -> tuple[str, ...]:
        """Those of the label set."""
        return self.label_set.names

    @property
    def classes(self) -> int:
        """One more than there are names."""
        return len(self.class_names) + 1

    @abstractmethod
    def sample(self, case: TrainingCase, recipe: Recipe, rng: np.random.Generator) -> Sample:
        """One random sample of a case; everything random comes from ``rng``."""

    @abstractmethod
    def tiles(self, case: TrainingCase, recipe: Recipe) -> Iterator[Sample]:
        """The case cut into samples of one shape for validation: always the same, none random."""

    @abstractmethod
    def samples_in(self, case: TrainingCase, recipe: Recipe) -> int:
        """How many samples of a case of the stream, not yet adapted, make an epoch."""

    def adapted(self, case: TrainingCase) -> Sequence[TrainingCase]:
        """What this task makes of a case of the stream: by default the case itself.

        A task that works on parts of a body returns each part as a case of its own, or nothing
        where the case has none. It is called once a case, in the process that makes the case, and
        must be a function of the case alone.
        """
        return (case,)

    def known(self, case: TrainingCase) -> NDArray[np.bool_]:
        """Which channels are annotated in the case, ``(classes,)``."""
        if case.known is None:
            return np.ones(self.classes, bool)
        return np.array([True, *(name in case.known for name in self.class_names)])

    def batch(
        self,
        step: int,
        cases: Sequence[TrainingCase],
        recipe: Recipe,
        seed: int,
        *,
        rank: int = 0,
        ranks: int = 1,
    ) -> Batch:
        """The batch of a step: a function of its arguments alone.

        Args:
            step: 0, 1, …
            cases: to draw from.
            recipe: sizes and augmentation.
            seed: of the run.
            rank: of this process; sample n goes to process ``n % ranks``.
            ranks: number of processes.
        """
        drawn = []
        for number in range(recipe.sampling.size * recipe.sampling.per_case)[rank::ranks]:
            group = number // recipe.sampling.per_case
            chosen = generator(seed, "case", step, group).integers(len(cases))
            case = cases[int(chosen)]
            rng = generator(seed, "sample", step, number)
            drawn.append((*self.sample(case, recipe, rng), self.known(case)))
        return as_batch(drawn)

    def validation(self, case: TrainingCase, recipe: Recipe) -> Iterator[Batch]:
        """The tiles of a case, in batches."""
        known, held = self.known(case), []
        for image, target in self.tiles(case, recipe):
            held.append((image, target, known))
            if len(held) == recipe.sampling.size:
                yield as_batch(held)
                held = []
        if held:
            yield as_batch(held)


def as_batch(
    samples: Sequence[tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]],
) -> Batch:
    """Samples of one shape, stacked."""
    images, targets, known = zip(*samples, strict=True)
    return Batch(
        torch.from_numpy(np.stack(images)),
        torch.from_numpy(np.stack(targets)),
        torch.from_numpy(np.stack(known)),
    )


def jittered(
    values: NDArray[np.float32], recipe: Recipe, rng: np.random.Generator
) -> NDArray[np.float32]:
    """HU of a scanner that is calibrated a little differently."""
    varied = recipe.augmentation
    shift = rng.normal(0, varied.hu_shift_sd)
    gain = 1 + rng.uniform(-1, 1) * varied.hu_gain
    return np.asarray((values + shift) * gain, np.float32)

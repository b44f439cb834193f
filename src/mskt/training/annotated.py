"""A stream of windows from the user's annotated cases.

Every epoch shows each case once, in an order of its own. What the loop gets is a window of a case,
at most the stream's ``shape`` (where an axis fits, all of it): a scan of 500 slices never travels
between processes, and windows vary the field of view as clinics do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mskt.core.anatomy import LabelSet
from mskt.core.seeding import generator
from mskt.training.cases import CaseStream, TrainingCase
from mskt.training.prepared import Prepared

P_LABELLED = 0.85
"""Chance that a window is placed where labels are; the others may lie anywhere along the body."""


@dataclass(frozen=True)
class AnnotatedStream(CaseStream):
    """Windows of prepared cases.

    Attributes:
        prepared: the cases, at least one.
        label_set: of their targets.
        spacing_mm: of their grid.
        shape: voxels (x, y, z) of a window; cases that are smaller come as they are.
        seed: of order and places.
    """

    prepared: tuple[Prepared, ...]
    label_set: LabelSet
    spacing_mm: tuple[float, float, float]
    shape: tuple[int, int, int]
    seed: int = 0

    def case(self, number: int) -> TrainingCase:
        """Window ``number``: of the case that this place of its epoch has."""
        epoch, place = divmod(number, len(self.prepared))
        order = generator(self.seed, "epoch", epoch).permutation(len(self.prepared))
        chosen = self.prepared[int(order[place])]
        whole = chosen.whole()
        window = self._window(chosen, generator(self.seed, "window", number))
        return TrainingCase(
            np.ascontiguousarray(whole.image[window]),
            np.ascontiguousarray(whole.target[window]),
            np.ascontiguousarray(whole.body[window]),
            None if whole.known == self.label_set.names else whole.known,
            whole.patient,
        )

    def _window(self, chosen: Prepared, rng: np.random.Generator) -> tuple[slice, slice, slice]:
        """A box that holds a random point of the body, and more often than not of the labels."""
        inside = chosen.body or tuple((0, n) for n in chosen.shape)
        if chosen.labelled and rng.random() < P_LABELLED:
            inside = chosen.labelled
        parts = []
        for length, size, (low, high) in zip(chosen.shape, self.shape, inside, strict=True):
            point = int(rng.integers(low, high))
            start = point - int(rng.integers(min(size, length)))
            start = min(max(0, start), max(0, length - size))
            parts.append(slice(start, start + min(size, length)))
        return parts[0], parts[1], parts[2]

    def describe(self) -> Mapping[str, Any]:
        """Settings and size; the cases themselves are the data set's business."""
        return {
            "kind": "annotated",
            "cases": len(self.prepared),
            "patients": len({one.patient for one in self.prepared}),
            "label_set": self.label_set.name,
            "spacing_mm": list(self.spacing_mm),
            "shape": list(self.shape),
            "seed": self.seed,
        }

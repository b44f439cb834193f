"""Cases that take no time: bright boxes in a grey body; what a stream and a data set of them need."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import nn

from mskt.core.anatomy import LabelSet, Structure
from mskt.training.cases import CaseStream, TrainingCase
from mskt.training.slices import SliceTask

BOXES = LabelSet("boxes", (Structure(1, "bright"), Structure(2, "dark")))
SHAPE = (24, 20, 6)
SPACING = (2.0, 2.0, 3.0)


def case(patient: str = "a", seed: int = 0, known: tuple[str, ...] | None = None) -> TrainingCase:
    """A bright and a dark box at random places."""
    rng = np.random.default_rng(seed)
    target = np.zeros(SHAPE, np.uint8)
    x, y = int(rng.integers(3, 6)), int(rng.integers(3, 8))
    target[x : x + 6, y : y + 8] = 1
    target[x + 9 : x + 15, y : y + 8] = 2
    body = np.zeros(SHAPE, bool)
    body[1:-1, 1:-1] = True
    hu = np.where(body, 40.0, -1024.0) + np.array([0, 200, -120])[target]
    image = (hu + rng.normal(0, 8, SHAPE)).astype(np.int16)
    for structure in BOXES.structures:
        if known is not None and structure.name not in known:
            target[target == structure.index] = 0
    return TrainingCase(image, target, body, known, patient)


@dataclass(frozen=True)
class BoxStream(CaseStream):
    patients: tuple[str, ...]
    label_set: LabelSet = BOXES
    spacing_mm: tuple[float, float, float] = SPACING

    def case(self, number):
        return case(self.patients[number % len(self.patients)], number)

    def describe(self):
        return {"kind": "boxes"}


@dataclass(frozen=True)
class _Source:
    follows_folds: bool = True


@dataclass(frozen=True)
class BoxData:
    """What ``open_data`` gives, without a file."""

    text: tuple[str, ...] = ("boxes",)
    patients: tuple[str, ...] = ("a", "b", "c", "d")
    sources: tuple[_Source, ...] = (_Source(),)
    patient_of: dict[str, str] = field(default_factory=dict)

    def stream(self, patients=None):
        return BoxStream(tuple(patients or self.patients))

    def cases(self, patients=None):
        return [case(name, 100 + ord(name)) for name in patients or self.patients]

    def check(self, fold):
        assert {*fold.train, *fold.validation} <= {*self.patients}

    def describe(self):
        return {"kind": "boxes", "text": list(self.text)}


def open_boxes(specs, **_):
    return BoxData(tuple(specs))


def network() -> nn.Module:
    """Learns boxes in a few steps; has batch statistics and random masks."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout2d(0.1),
        nn.Conv2d(8, 3, 1),
    )


def task(**changes) -> SliceTask:
    """The boxes as slices."""
    values = {
        "name": "net",
        "network": network,
        "label_set": BOXES,
        "spacing_mm": SPACING,
        "shape": SHAPE,
    }
    return SliceTask(**{**values, **changes})

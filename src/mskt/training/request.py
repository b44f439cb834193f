"""What is to be trained, and under what conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mskt.core.anatomy import LabelSet
from mskt.training.loop import Conditions
from mskt.training.recipes import Recipe


@dataclass(frozen=True)
class Request:
    """What is to be trained, and from what; everything in it decides the numbers.

    Attributes:
        segmenter: name.
        recipe: with the user's changes.
        data: specs of the data, as :func:`mskt.training.datasets.open_data` takes them.
        label_set: classes.
        options: of the segmenter's networks; they override the recipe's.
        parts: names of the networks to train; ``("all",)`` for every one, empty for the main one.
        spacing_mm: instead of the networks' own.
        start_from: weights to begin with, by name or path.
        seed: of everything random.
    """

    segmenter: str
    recipe: Recipe
    data: tuple[str, ...]
    label_set: LabelSet
    options: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    spacing_mm: tuple[float, float, float] | None = None
    start_from: str = ""
    seed: int = 0


@dataclass(frozen=True)
class Setting:
    """Where it runs; nothing in it decides the numbers but by rounding.

    Attributes:
        conditions: device, precision, processes.
        workers: processes that make cases ahead.
        cache: folder for prepared data.
        card: fields for the model card that only its author knows.
        command: the call, for ``run.json``.
    """

    conditions: Conditions
    workers: int = 1
    cache: Path = Path("cache")
    card: Mapping[str, Any] = field(default_factory=dict)
    command: tuple[str, ...] = ()

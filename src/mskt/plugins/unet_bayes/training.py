"""How ``unet_bayes`` is trained: the body network and the Bayesian one behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from mskt.core.anatomy import LabelSet, suggestion
from mskt.core.errors import UsageError
from mskt.plugins.unet_bayes.cascade import DEFAULT_WEIGHTS, build
from mskt.plugins.unet_bayes.variants import BODY, Variant, variant
from mskt.training.cases import TrainingCase
from mskt.training.slices import SliceTask
from mskt.training.task import Sample, TrainingTask

_OPTIONS = ("variant", "backbone")
_BODY_FINE_MM = (2.0, 2.0, 3.0)
"""Slices of the body network are made at this spacing and averaged to its own, as inference does."""


def training(label_set: LabelSet, options: Mapping[str, Any]) -> Sequence[TrainingTask]:
    """The two parts, ``body`` and ``muscles``.

    Args:
        label_set: classes of the Bayesian network.
        options: ``variant`` (``compact`` if not given) and ``backbone``.
    """
    unknown = [name for name in options if name not in _OPTIONS]
    if unknown:
        raise UsageError(
            "training of 'unet_bayes'",
            f"has no option {unknown[0]!r}.",
            suggestion(unknown[0], _OPTIONS),
        )
    name = str(options.get("variant", "compact"))
    made = replace(variant(name), backbone=str(options.get("backbone", "")))
    body = BodyTask("body", partial(build, BODY, 2), label_set, fallback=DEFAULT_WEIGHTS)
    muscles = SliceTask(
        "muscles",
        partial(build, made, len(label_set.names) + 1),
        label_set,
        spacing_mm=made.spacing_mm,
        hu_window=made.hu_window,
        dense_slope=made.dense_slope,
        context=made.context,
        multiple=32 if made.backbone else 2 ** (made.levels - 1),
        shape=_shape(made),
        card={"variant_name": name, "variant": made.as_dict()},
    )
    return body, muscles


def _shape(made: Variant) -> tuple[int, int, int]:
    """About 384 × 288 mm; the papers' 360 × 360 mm where the grid is theirs."""
    if made.spacing_mm[0] < 1:
        return (512, 512, 64)
    x, y, _ = made.spacing_mm
    return (round(384 / x / 16) * 16, round(288 / y / 16) * 16, 96)


@dataclass(frozen=True)
class BodyTask(SliceTask):
    """Whole slices with the body as target."""

    spacing_mm: tuple[float, float, float] = _BODY_FINE_MM
    hu_window: tuple[float, float] = BODY.hu_window
    multiple: int = 2 * 2 ** (BODY.levels - 1)

    @property
    def class_names(self) -> tuple[str, ...]:
        """One."""
        return ("body",)

    def known(self, case: TrainingCase) -> NDArray[np.bool_]:
        """Whoever has a case has its body."""
        return np.ones(2, bool)

    def truth(self, case: TrainingCase, k: int) -> NDArray[Any]:
        """What is inside the skin."""
        return case.body[:, :, k].astype(np.uint8)

    def finished(self, planes: NDArray[np.float32], target: NDArray[Any]) -> Sample:
        """Two by two pixels become one."""
        image, inside = super().finished(planes, target)
        coarse = functional.avg_pool2d(torch.from_numpy(image), 2)
        part = functional.avg_pool2d(torch.from_numpy(inside)[None].float(), 2)[0]
        return coarse.numpy(), (part > 0.5).long().numpy()

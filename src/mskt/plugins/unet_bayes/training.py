"""How ``unet_bayes`` is trained: the body network and the Bayesian one behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from mskt.core.anatomy import LabelSet
from mskt.networks import body
from mskt.plugins.unet_bayes.variants import FAMILY
from mskt.training.cases import TrainingCase
from mskt.training.slice_networks import family_tasks
from mskt.training.slices import SliceTask
from mskt.training.task import Sample, TrainingTask

_BODY_FINE_MM = (2.0, 2.0, 3.0)
"""Slices of the body network are made at this spacing and averaged to its own, as inference does."""


def training(label_set: LabelSet, options: Mapping[str, Any]) -> Sequence[TrainingTask]:
    """The two parts, ``body`` and ``muscles``.

    Args:
        label_set: classes of the Bayesian network.
        options: ``variant`` (``compact`` if not given) and ``backbone``.
    """
    skin = BodyTask("body", body.body_network, label_set, fallback=FAMILY.default_weights)
    return skin, *family_tasks(FAMILY, label_set, options)


@dataclass(frozen=True)
class BodyTask(SliceTask):
    """Whole slices with the body as target."""

    spacing_mm: tuple[float, float, float] = _BODY_FINE_MM
    hu_window: tuple[float, float] = body.HU_WINDOW
    multiple: int = 2 * 2 ** (body.LEVELS - 1)

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

"""How ``unetr`` is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mskt.core.anatomy import LabelSet
from mskt.plugins.unetr.variants import FAMILY
from mskt.training.patch_networks import patch_task
from mskt.training.task import TrainingTask


def training(label_set: LabelSet, options: Mapping[str, Any]) -> Sequence[TrainingTask]:
    """The one part, ``muscles``; option: ``variant``."""
    return (patch_task(FAMILY, label_set, options),)

"""From trained parts to one file of weights with its model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from mskt.core import weights
from mskt.training import checkpoint
from mskt.training.loop import Outcome
from mskt.training.request import Request, Setting
from mskt.training.task import TrainingTask
from mskt.training.transfer import fill, part_of

WEIGHTS_NAME = "weights"


def export(
    request: Request,
    tasks: Sequence[TrainingTask],
    outcomes: Mapping[str, Outcome],
    facts: Mapping[str, Any],
    out: Path,
    setting: Setting,
) -> weights.WeightsInfo | None:
    """Write ``weights.safetensors`` and its card: what ``mskt run --weights`` takes.

    A part that was not trained comes from an earlier run into the same folder, from the weights
    that the training began with, or from those that come with the segmenter. Where there are none,
    no weights are written, and it is said what is missing.
    """
    tensors: dict[str, Tensor] = {}
    described: dict[str, Any] = {}
    sources = {}
    for task in tasks:
        if task.name in outcomes:
            part, sources[task.name] = outcomes[task.name].tensors, "this training"
        elif (out / task.name / "checkpoint.pt").exists():
            part, sources[task.name] = _finished(out / task.name), "this training"
        else:
            borrowed = _borrowed(request, task)
            if borrowed is None:
                setting.conditions.progress.say(
                    f"no weights are written yet: {task.name!r} is missing. Train it into the same "
                    f"folder (--part {task.name}), or name weights that have it (--start-from)."
                )
                return None
            part, sources[task.name] = borrowed
        described |= task.card
        tensors |= {
            f"{task.name}.{name}": value
            for name, value in part.items()
            if not name.endswith("num_batches_tracked")
        }
    parts = facts["parts"]
    full = {
        "segmenter": request.segmenter,
        **described,
        **weights.label_facts(request.label_set),
        "parts": sources,
        "data": {name: told["data"] for name, told in parts.items()},
        "recipe": request.recipe.name,
        "seed": request.seed,
        "steps": {name: told["steps"] for name, told in parts.items()},
        "validation_dice": {name: told["validation_dice"] for name, told in parts.items()},
        "mskt": facts["versions"]["mskt"],
        "hardware": facts["hardware"],
        "intended_use": "research; not a medical device",
        **setting.card,
    }
    return weights.save(out, WEIGHTS_NAME, tensors, checkpoint.plain(full))


def _finished(folder: Path) -> dict[str, Tensor]:
    """What an earlier training of a part has left: the best, or the last."""
    best = folder / "best.pt"
    if best.exists():
        tensors: dict[str, Tensor] = checkpoint.load(best)["tensors"]
        return tensors
    average: dict[str, Tensor] = checkpoint.load(folder / "checkpoint.pt")["average"]
    return average


def _borrowed(request: Request, task: TrainingTask) -> tuple[dict[str, Tensor], str] | None:
    """A part of other weights and where it is from; None if there is none that fits."""
    name = request.start_from or task.fallback
    if not name:
        return None
    info = weights.find(name, request.segmenter)
    tensors = part_of(weights.load(info), task.name)
    if fill(task.network(), tensors, info.name):
        return None
    return tensors, f"{info.name} (sha256 {info.sha256[:12]})"

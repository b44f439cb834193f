"""A training of boxes in a process of its own, which may be killed or be one of several.

    python box_run.py OUT STEPS [KILL_AT]

With RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT in the environment it is one process of several.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from box_cases import BOXES, SHAPE, SPACING, network, open_boxes
from torch import nn

import mskt.training.datasets
from mskt.training import distributed, run
from mskt.training.loop import Conditions
from mskt.training.recipes import from_dict
from mskt.training.slices import SliceTask
from mskt.training.splits import Fold


@dataclass(frozen=True)
class Deadly(SliceTask):
    """Kills its process while the batch of a step is made."""

    kill_at: int = -1

    def batch(self, step, *args, **kwargs):
        if step == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(step, *args, **kwargs)


def without_batch_norm():
    """Statistics of a batch are those of each process' share, so there must be none to compare."""
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))


RECIPE = from_dict(
    {
        "name": "boxes",
        "optimiser": {"name": "adamw", "lr": 0.02, "clip": 5.0},
        "schedule": {"kind": "polynomial", "warmup": 3},
        "loss": {"kind": "dice_ce"},
        "sampling": {"size": 4, "crop": [16, 16], "window": 3, "steps_per_case": 2},
        "augmentation": {"rotation_deg": 8.0, "flip": 0.5, "hu_shift_sd": 6.0},
        "weights": {"ema": 0.9},
        "checks": {"save_every": 5, "validate_every": 6},
    },
    "boxes",
)


def main(out: Path, steps: int, kill_at: int = -1) -> None:
    mskt.training.datasets.open_data = open_boxes
    torch.set_num_threads(1)
    alone = "WORLD_SIZE" not in os.environ
    task = Deadly(
        "net",
        network if alone and not os.environ.get("PLAIN") else without_batch_norm,
        BOXES,
        SPACING,
        shape=SHAPE,
        kill_at=kill_at,
    )
    recipe = RECIPE.with_changes({"schedule": {"steps": steps}})
    request = run.Request("boxes", recipe, ("boxes",), BOXES)
    device = torch.device("cpu")
    with distributed.world(device) as world:
        setting = run.Setting(Conditions(device, world=world), workers=0)
        run.train(request, (task,), Fold(("a", "b", "c"), ("d",)), out, setting)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))

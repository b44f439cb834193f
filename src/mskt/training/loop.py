"""The training loop: any network, any source of batches, resumable at any step."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mskt.core.errors import MsktError
from mskt.training.losses import dice_cross_entropy, mean_dice

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Attributes:
        steps: optimiser steps in all.
        lr: peak learning rate of AdamW; polynomial decay (power 0.9) after a linear warm-up.
        warmup: steps.
        ema: decay of the exponential moving average of the weights, which is what is kept.
        save_every: steps between checkpoints.
    """

    steps: int
    lr: float = 1e-3
    warmup: int = 100
    weight_decay: float = 1e-4
    ema: float = 0.998
    dice_weight: float = 1.0
    save_every: int = 200

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        return float(self.lr * max(0.0, 1 - step / self.steps) ** 0.9)


def train(
    network: nn.Module,
    batches: Callable[[int], Batch],
    schedule: Schedule,
    folder: Path,
    *,
    seed: int = 0,
    report: Callable[[str], None] = print,
) -> dict[str, Tensor]:
    """Train and return the averaged weights.

    Args:
        network: changed in place.
        schedule: how long and how fast.
        seed: of the dropout masks.
        report: is given a line of progress now and then.
        batches: gives the batch of a step; a function of the step alone, so that a resumed run
            sees what an uninterrupted one would have seen.
        folder: ``checkpoint.pt`` (replaced as a whole) and ``log.csv``; a run that finds a
            checkpoint there goes on from it.

    Raises:
        MsktError: the loss is no number; the batch is kept in ``bad_batch.pt``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(
        network.parameters(), schedule.lr, weight_decay=schedule.weight_decay
    )
    average = {key: value.detach().clone().float() for key, value in network.state_dict().items()}
    step = _restore(folder, network, optimiser, average)
    network.train()
    begin, first = time.perf_counter(), step
    while step < schedule.steps:
        torch.manual_seed(seed * 1_000_003 + step)  # dropout masks of this step
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate(step)
        loss, dice = _one_step(network, optimiser, batches(step), schedule, folder)
        _follow(average, network, min(schedule.ema, (1 + step) / (10 + step)))
        step += 1
        if step % 20 == 0:
            pace = (time.perf_counter() - begin) / (step - first)
            _log(folder, step, loss, dice, pace)
            report(
                f"step {step}/{schedule.steps} loss {loss:.3f} dice {dice:.3f} {pace:.2f} s/step, "
                f"{pace * (schedule.steps - step) / 60:.0f} min left"
            )
        if step % schedule.save_every == 0 or step == schedule.steps:
            _save(folder, network, optimiser, average, step)
    return average


def _one_step(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    schedule: Schedule,
    folder: Path,
) -> tuple[float, float]:
    image, target = batch
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(image.contiguous(memory_format=torch.channels_last))
    loss = dice_cross_entropy(logits, target, schedule.dice_weight)
    if not math.isfinite(loss.item()):
        torch.save({"image": image, "target": target}, folder / "bad_batch.pt")
        raise MsktError(
            "training",
            f"the loss became {loss.item()}",
            "The batch is in bad_batch.pt; the last checkpoint is intact. "
            "Lower the learning rate or look for impossible values in the batch.",
        )
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimiser.step()
    return loss.item(), mean_dice(logits, target)


def _follow(average: dict[str, Tensor], network: nn.Module, decay: float) -> None:
    for key, value in network.state_dict().items():
        average[key].lerp_(value.detach().float(), 1 - decay)


def _save(folder: Path, network: nn.Module, optimiser: Any, average: Any, step: int) -> None:
    part = folder / ".checkpoint.pt.part"
    torch.save(
        {
            "step": step,
            "network": network.state_dict(),
            "optimiser": optimiser.state_dict(),
            "average": average,
        },
        part,
    )
    part.replace(folder / "checkpoint.pt")


def _restore(folder: Path, network: nn.Module, optimiser: Any, average: dict[str, Tensor]) -> int:
    path = folder / "checkpoint.pt"
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    average.update(state["average"])
    return int(state["step"])


def _log(folder: Path, step: int, loss: float, dice: float, pace: float) -> None:
    path = folder / "log.csv"
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["step", "loss", "batch_dice", "seconds_per_step"])
        writer.writerow([step, f"{loss:.4f}", f"{dice:.4f}", f"{pace:.3f}"])

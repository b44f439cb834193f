"""Cross-entropy and soft Dice."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

IGNORED = 255
"""Pixels with this target count for nothing: structures that nobody annotated."""


def dice_cross_entropy(logits: Tensor, target: Tensor, dice_weight: float = 1.0) -> Tensor:
    """Mean cross-entropy plus one minus the mean soft Dice of the classes present.

    Args:
        logits: ``(N, C, H, W)``.
        target: int64 ``(N, H, W)``, classes or :data:`IGNORED`.
        dice_weight: of the Dice term; 0 gives the cross-entropy of Hiasa 2020.
    """
    logits = logits.float()
    loss = functional.cross_entropy(logits, target, ignore_index=IGNORED)
    if dice_weight == 0:
        return loss
    known = target != IGNORED
    truth = functional.one_hot(target.clamp(max=logits.shape[1] - 1), logits.shape[1])
    truth = truth.permute(0, 3, 1, 2) * known[:, None]
    probability = logits.softmax(1) * known[:, None]
    overlap = (probability * truth).sum((0, 2, 3))
    total = (probability + truth).sum((0, 2, 3))
    present = truth.sum((0, 2, 3)) > 0
    present[0] = False
    if not present.any():
        return loss
    return loss + dice_weight * (1 - (2 * overlap[present] / total[present]).mean())


def mean_dice(logits: Tensor, target: Tensor) -> float:
    """Mean hard Dice over the foreground classes present in a batch, for the log."""
    with torch.no_grad():
        guess = logits.argmax(1)
        scores = [
            2 * ((guess == c) & (target == c)).sum() / ((guess == c).sum() + (target == c).sum())
            for c in torch.unique(target).tolist()
            if c not in (0, IGNORED)
        ]
        return float(torch.stack(scores).mean()) if scores else float("nan")

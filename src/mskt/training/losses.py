"""Cross-entropy and soft Dice that leave out what nobody annotated.

A case may be annotated for some structures only. A voxel of its background may then be any of the
others, so their probabilities are merged with that of the background before the loss is taken
(marginal loss: Shi et al. 2021, Med Image Anal 70:101979; Fang & Yan 2020, IEEE TMI 39:3619). What
the network says among background and unknown classes is left free.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

IGNORED = 255
"""Pixels with this target count for nothing."""

Total = Callable[[Tensor], Tensor]
"""Adds a tensor up over the processes that share a batch; one process gives its argument back."""


def _alone(sums: Tensor) -> Tensor:
    return sums


def segmentation_loss(
    logits: Tensor,
    target: Tensor,
    known: Tensor | None = None,
    *,
    ce: float = 1.0,
    dice: float = 1.0,
    total: Total = _alone,
) -> Tensor:
    """Weighted sum of the mean cross-entropy and of one minus the mean soft Dice of the batch.

    Dice is taken over the whole batch (not image by image), for each foreground class that occurs in
    it where it is known, and averaged over these classes.

    Args:
        logits: ``(N, C, *space)``.
        target: int64 ``(N, *space)``, classes or :data:`IGNORED`; a class that is not known for its
            sample counts as background.
        known: bool ``(N, C)``: which classes were annotated; None: all of them everywhere.
        ce: weight of the cross-entropy.
        dice: weight of the Dice term; 0 leaves it out.
        total: with several processes: the sums over all of them, so that the loss is that of the
            whole batch.

    Returns:
        A scalar; 0 where no pixel counts.
    """
    classes = logits.shape[1]
    log_p = merged(logits, known)
    valid = target != IGNORED
    truth = _known_target(torch.where(valid, target, 0), known)
    own = log_p.gather(1, truth[:, None])[:, 0]
    sums = [-torch.where(valid, own, 0.0).sum()[None], valid.sum()[None].float()]
    if dice:
        p = log_p.exp()
        if not valid.all():
            p = p * valid[:, None]
        # A sample in which a class is unknown has neither probability nor truth of it: no share.
        agreed = torch.where(valid, own.exp(), 0.0).flatten()
        overlap = agreed.new_zeros(classes).index_add(0, truth.flatten(), agreed)
        there = torch.bincount(truth[valid], minlength=classes).to(p.dtype)
        sums += [overlap, p.sum((0, *range(2, p.ndim))), there]
    gathered = total(torch.cat(sums))
    loss: Tensor = ce * gathered[0] / gathered[1].clamp(min=1)
    if not dice:
        return loss
    overlap, guessed, there = gathered[2:].split(classes)
    present = there > 0
    present[0] = False
    if present.any():
        loss = loss + dice * (1 - (2 * overlap[present] / (guessed + there)[present]).mean())
    return loss


def merged(logits: Tensor, known: Tensor | None = None) -> Tensor:
    """Log-probabilities in float32 in which unknown classes have become part of the background.

    Args:
        logits: ``(N, C, *space)``.
        known: bool ``(N, C)``; channel 0 counts as known. None: all.

    Returns:
        ``(N, C, *space)``; −∞ for classes that are not known.
    """
    log_p: Tensor = logits.float().log_softmax(1)
    if known is None or bool(known[:, 1:].all()):
        return log_p
    unknown = ~known.view(*known.shape, *(1 for _ in log_p.shape[2:]))
    unknown[:, 0] = False
    joins = unknown.clone()
    joins[:, 0] = True
    background = log_p.masked_fill(~joins, -torch.inf).logsumexp(1, keepdim=True)
    return torch.cat([background, log_p.masked_fill(unknown, -torch.inf)[:, 1:]], dim=1)


def _known_target(target: Tensor, known: Tensor | None) -> Tensor:
    if known is None:
        return target
    annotated = known.gather(1, target.flatten(1)).view_as(target)
    return torch.where(annotated, target, 0)


@torch.no_grad()
def dice_counts(logits: Tensor, target: Tensor, known: Tensor | None = None) -> Tensor:
    """What the Dice of the hard labels is made of, for each class.

    Returns:
        int64 ``(3, C)``: pixels where guess and target agree, pixels of the guess, of the target.
    """
    classes = logits.shape[1]
    valid = target != IGNORED
    truth = _known_target(torch.where(valid, target, 0), known)[valid]
    guess = merged(logits, known).argmax(1)[valid]
    each = (truth[truth == guess], guess, truth)
    return torch.stack([torch.bincount(labels, minlength=classes) for labels in each])


def mean_dice(logits: Tensor, target: Tensor, known: Tensor | None = None) -> float:
    """Mean hard Dice over the foreground classes in the target of a batch; NaN without any."""
    overlap, guessed, there = dice_counts(logits, target, known)[:, 1:]
    present = there > 0
    return float((2 * overlap / (guessed + there).clamp(min=1))[present].mean())

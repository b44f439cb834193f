"""Before a segmenter looks: which structures can be in which slice.

The body network says where the body is; before the muscle network looks, the region check
(:mod:`mskt.core.regions`) settles at which level each slice lies. Slices where nothing of the label
set can be are not computed at all; in the others, what cannot be there is background.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mskt.core.anatomy import LabelSet
from mskt.core.errors import UsageError
from mskt.core.levelnet import LevelNet, shipped, slice_levels
from mskt.core.regions import expected, in_view, permitted, summary
from mskt.core.volume import Volume

NOT_IN_VIEW = "no hip or thigh in view"


@dataclass(frozen=True)
class Stack(Volume):
    """A working grid that knows what may occur in its slices.

    Attributes:
        permitted: ``(slices, classes)``, background included; None permits everything.
        expected: ``(classes,)``, those that the scan should show; None expects everything.
    """

    permitted: NDArray[np.bool_] | None = None
    expected: NDArray[np.bool_] | None = None


def level_network(region_check: str | bool, *, random: bool) -> LevelNet | None:
    """The network of the region check, or None where it is switched off.

    Args:
        region_check: ``on`` or ``off``, as the user wrote it.
        random: the networks are untrained: what they give is no anatomy anyway.
    """
    if region_check not in ("on", "off", True, False):
        raise UsageError(
            "--option region_check",
            f"{region_check!r} is neither on nor off",
            "Leave it out, or give --option region_check=off.",
        )
    return shipped() if region_check in ("on", True) and not random else None


def checked(work: Stack, network: LevelNet, labels: LabelSet) -> Stack:
    """Take away the slices where nothing of the label set can be.

    Args:
        work: working grid with the body as mask; what lies around the body is still in the image.
        network: says at which level a slice lies.
        labels: classes of the muscle network.
    """
    levels = slice_levels(work.data, work.grid, work.mask, network)
    allowed = permitted(levels, labels)
    shown = expected(levels, labels)
    seen = in_view(levels)
    if not seen:
        allowed[:, 1:] = shown[1:] = False
    useful: NDArray[np.bool_] = np.asarray(allowed[:, 1:].any(axis=1))
    notes = work.notes
    if not useful[levels.body].all():
        where = f"region check: the scan shows {summary(levels.regions())}"
        left = int((levels.body & ~useful).sum())
        rest = (
            f"{left} of {len(useful)} slices left out" if seen else f"{NOT_IN_VIEW}, nothing done"
        )
        notes = (*notes, f"{where}; {rest}")
    mask = np.ones(work.data.shape, bool) if work.mask is None else work.mask
    return replace(work, mask=mask & useful, permitted=allowed, expected=shown, notes=notes)


def refused(image: Volume, k: int) -> NDArray[np.int64] | None:
    """Classes that cannot be in slice ``k``; None where all may be."""
    allowed = getattr(image, "permitted", None)
    if allowed is None or allowed[k].all():
        return None
    return np.flatnonzero(~allowed[k])


def without(probabilities: Tensor, classes: NDArray[np.int64] | Tensor | None) -> Tensor:
    """Give the probability of some classes ``(C, …)`` to the background, in place."""
    if classes is not None:
        probabilities[0] += probabilities[classes].sum(0)
        probabilities[classes] = 0
    return probabilities

"""How the labels of several atlases become one: majority, or weighted by how alike they look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from mskt.core.volume import FloatArray
from mskt.plugins.baselines.multi_atlas.hierarchy import Laid, Target
from mskt.plugins.baselines.multi_atlas.registration import TISSUE_HU
from mskt.training.losses import IGNORED

FUSIONS = ("weighted", "majority")
WINDOW_MM = 20.0
"""Edge of the box in which patient and atlas are compared."""
POWER = 4
"""Weights are the local correlation to this power: locally weighted voting, Artaechevarria 2009."""
LEAST = 1e-3
_NOISE_HU2 = 100.0
"""Added to local variances: ten HU of noise correlate with nothing."""


def weights(target: Target, laid: Sequence[Laid], fusion: str) -> NDArray[np.float16]:
    """The weight of each atlas in each voxel, (atlases, x, y, z); 0 where it says nothing."""
    out = np.zeros((len(laid), *target.image.shape), np.float16)
    for n, one in enumerate(laid):
        said = one.labels != IGNORED
        weight = _alike(target, one) if fusion == "weighted" else 1.0
        out[n] = np.where(said, weight, 0)
    return out


def _alike(target: Target, one: Laid) -> FloatArray:
    """Local normalised cross-correlation, 0 … 1, to the power of :data:`POWER`; never quite 0."""
    size = [max(3, 2 * round(WINDOW_MM / 2 / step) + 1) for step in target.spacing_mm]
    a, b = (
        np.clip(image, *TISSUE_HU).astype(np.float32) / 100 for image in (target.image, one.image)
    )

    def mean(array: NDArray[Any]) -> NDArray[Any]:
        smooth: NDArray[Any] = ndimage.uniform_filter(array, size, mode="nearest")
        return smooth

    mean_a, mean_b, noise = mean(a), mean(b), _NOISE_HU2 / 1e4
    variance_a, variance_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    both = np.maximum(variance_a, 0) + noise, np.maximum(variance_b, 0) + noise
    alike = (mean(a * b) - mean_a * mean_b) / np.sqrt(both[0] * both[1])
    found: FloatArray = np.clip(alike, 0, 1) ** POWER + np.float32(LEAST)
    return found


def fused(labels: NDArray[np.uint8], weight: NDArray[np.float16], classes: int) -> Tensor:
    """Share of each class in the votes, ``(classes, x, y, z)``; background where nobody votes.

    Args:
        labels: (atlases, x, y, z).
        weight: the same shape.
        classes: background included.
    """
    votes = torch.zeros((classes, *labels.shape[1:]))
    for its_labels, its_weight in zip(labels, weight, strict=True):
        votes.scatter_add_(0, *_vote(its_labels, its_weight))
    total = votes.sum(dim=0)
    votes[0] += (total == 0).float()
    return votes / votes.sum(dim=0)


def single(
    labels: NDArray[np.uint8], weight: NDArray[np.float16], classes: int, member: int
) -> Tensor:
    """What one atlas says; where it says nothing, what the others do."""
    out = fused(labels, weight, classes)
    said = torch.from_numpy(np.ascontiguousarray(labels[member] != IGNORED))
    index, _ = _vote(labels[member], weight[member])
    own = torch.zeros_like(out).scatter_(0, index, 1.0)
    return torch.where(said, own, out)


def _vote(labels: NDArray[np.uint8], weight: NDArray[np.float16]) -> tuple[Tensor, Tensor]:
    index = torch.from_numpy(np.where(labels == IGNORED, 0, labels).astype(np.int64))
    return index[None], torch.from_numpy(weight.astype(np.float32))[None]

"""Where is the body (Hiasa 2020: the skin surface, learned): the first stage of every segmenter.

Learned because a calibration phantom touches the skin: a threshold and the largest component would
take it, the table and the hands for the body.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import cc3d
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from mskt.core import weights
from mskt.core.intensity import normalised
from mskt.core.resample import resample_image, working_grid
from mskt.core.threads import each
from mskt.core.volume import FloatArray, Grid
from mskt.networks.inference import filled, for_inference
from mskt.networks.unet import BayesianUNet

WEIGHTS: Final = "body-net"
MADE_FOR: Final = "body"
"""What the model card of its weights names as segmenter."""
SPACING_MM: Final = (4.0, 4.0, 3.0)
"""Coarse, since skin is a strong edge."""
HU_WINDOW: Final = (-500.0, 300.0)
LEVELS: Final = 5
SMALLEST_PART = 0.12
"""A second part (the other leg) must have this share of the largest to count as body: a hand with its
forearm has 2 to 8 % of a pelvis."""


def body_network() -> BayesianUNet:
    """The network, untrained: logits of background and body for single slices, deterministic."""
    return BayesianUNet(1, 2, levels=LEVELS, base=12, batch_norm=True, dropout=0.0)


@cache
def shipped(device: torch.device, dtype: torch.dtype) -> BayesianUNet:
    """The network with the weights of the package, ready for inference.

    Raises:
        WeightsError: they are missing or damaged, or are those of another network.
    """
    info = weights.find(WEIGHTS, MADE_FOR)
    network = filled(body_network(), weights.load(info), "body.", info.name)
    return for_inference(network, device, dtype)


def body_mask(
    data: FloatArray, grid: Grid, network: nn.Module, device: torch.device, dtype: torch.dtype
) -> NDArray[np.bool_]:
    """True inside the skin, for an image on a canonical grid.

    Args:
        data: HU, shape of ``grid``.
        grid: canonical.
        network: gives logits of background and body for single slices.
        device: where it runs.
        dtype: of its convolutions.
    """
    coarse = working_grid(grid, SPACING_MM)
    small = resample_image(data, grid, coarse)
    planes = each(
        lambda k: _slice(small[:, :, k], network, device, dtype), range(coarse.shape[2]), device
    )
    fine = resample_image(np.stack(planes).transpose(1, 2, 0), coarse, grid, fill=0.0)
    return _clean(fine > 0.5)


@torch.inference_mode()
def _slice(
    plane: FloatArray, network: nn.Module, device: torch.device, dtype: torch.dtype
) -> FloatArray:
    multiple = 2 ** (LEVELS - 1)
    pad = [(0, -size % multiple) for size in plane.shape]
    x = torch.from_numpy(np.pad(normalised(plane, HU_WINDOW), pad, constant_values=-1.0))
    x = x[None, None].to(device, dtype, memory_format=torch.channels_last)
    inside = network(x).float().softmax(1)[0, 1]
    out: FloatArray = inside[: plane.shape[0], : plane.shape[1]].cpu().numpy()
    return out


def _clean(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Large parts only, holes of each slice filled (bowel gas belongs to the body)."""
    parts = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=6)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    if len(sizes) < 2:
        return mask
    mask = (sizes >= SMALLEST_PART * sizes.max())[parts]
    for k in np.flatnonzero(mask.any(axis=(0, 1))):
        mask[:, :, k] = ndimage.binary_fill_holes(mask[:, :, k])
    return mask

"""From a CT to a working grid that knows where the patient is: the first steps of every segmenter.

Resample, find the body, ask at which level of the body each slice lies. All systems stand on this,
so that a comparison of segmenters compares their networks.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mskt.core.anatomy import LabelSet
from mskt.core.levelnet import LevelNet
from mskt.core.resample import AIR_HU, resample_image, working_grid
from mskt.core.viewcheck import Stack, checked
from mskt.core.volume import FloatArray, Grid, Volume
from mskt.networks.body import body_mask


def body_on_grid(
    image: Volume,
    spacing_mm: tuple[float, float, float],
    body: nn.Module | None,
    levels: LevelNet | None,
    labels: LabelSet,
    device: torch.device,
    dtype: torch.dtype,
) -> Stack:
    """The image on a working grid; air outside the body.

    Args:
        image: HU on any grid.
        spacing_mm: of the working grid, along right, anterior, superior.
        body: network that finds the body (:mod:`mskt.networks.body`); None takes the image's own
            mask, or everything.
        levels: network of the region check (:mod:`mskt.core.viewcheck`); None leaves it out.
        labels: classes of the segmenter.
        device: of the body network.
        dtype: of its convolutions.

    Returns:
        Its mask is False outside the body and in slices where no class can be.
    """
    grid = working_grid(image.grid, spacing_mm)
    data = resample_image(image.data, image.grid, grid)
    mask = _own_mask(image, grid) if body is None else body_mask(data, grid, body, device, dtype)
    work = Stack(data, grid.affine, mask=mask, subject=image.subject, notes=image.notes)
    if levels is not None:
        work = checked(work, levels, labels)
    np.copyto(data, np.float32(AIR_HU), where=~mask)
    return work


def _own_mask(image: Volume, grid: Grid) -> NDArray[np.bool_]:
    if image.mask is None:
        return np.ones(grid.shape, bool)
    there: FloatArray = image.mask.astype(np.float32)
    return resample_image(there, image.grid, grid, fill=0.0) > 0.5

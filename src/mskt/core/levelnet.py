"""The network that says at which level of the body an axial slice lies; it is tiny and coarse.

It sees the slice and a neighbour on either side at 6 mm, in two windows: lung against tissue, and
fat against muscle against bone. What it says is settled between slices by :mod:`mskt.core.regions`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mskt.core import weights
from mskt.core.errors import WeightsError
from mskt.core.regions import LEVELS_MM, SliceLevels, smooth
from mskt.core.resample import AIR_HU, resample_image, working_grid
from mskt.core.volume import FloatArray, Grid

WEIGHTS = "region-net"
MADE_FOR = "region_check"
"""What its model card names as segmenter; no segmenter has this name."""
SPACING_MM = (6.0, 6.0, 8.0)
SIZE = (80, 64)
"""Pixels of a slice, right to left and back to front."""
CONTEXT = 2
"""The neighbours are this many slices away."""
HU_WINDOWS = ((-1000.0, 600.0), (-160.0, 240.0))
DENSE_HU = -300.0
FEWEST = 12
"""Pixels denser than air that a slice needs to be looked at."""


class LevelNet(nn.Module):
    """Slices ``(N, 6, 80, 64)`` to logits of the levels ``(N, levels)``; about 90,000 parameters."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3 * len(HU_WINDOWS), 16, 32, 48, 64, 64)
        layers: list[nn.Module] = []
        for number, (a, b) in enumerate(pairwise(widths)):
            stride = 2 if number == 0 else 1
            layers += [
                nn.Conv2d(a, b, 3, stride, 1, bias=False),
                nn.BatchNorm2d(b),
                nn.ReLU(inplace=True),
            ]
            if number in (0, 1, 3):
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(2 * widths[-1], 64),
            nn.ReLU(inplace=True),
            nn.Dropout(0.2),
            nn.Linear(64, len(LEVELS_MM)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the batch."""
        maps = self.features(x)
        pooled = torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1)
        logits: Tensor = self.head(pooled)
        return logits


@cache
def shipped() -> LevelNet:
    """The network with the weights of the package, ready for inference.

    Raises:
        WeightsError: they are missing or damaged, or are those of another network.
    """
    info = weights.find(WEIGHTS, MADE_FOR)
    network = LevelNet()
    try:
        network.load_state_dict(weights.load(info), strict=False)
    except RuntimeError as error:
        raise WeightsError(
            info.name,
            f"do not fit the network of this version ({error})",
            "Restore the file that came with this version of mskt.",
        ) from error
    return network.eval()


def slice_levels(
    data: FloatArray, grid: Grid, mask: NDArray[np.bool_] | None, network: LevelNet
) -> SliceLevels:
    """The level of each axial slice of an image.

    Args:
        data: HU on a canonical grid (axes right, anterior, superior).
        grid: of the image.
        mask: where the body is; slices without it have no level. The network then looks at the
            body alone and at the whole slice, and both count the same: arms and table mislead the
            one, a body mask that is wrong in the chest or the head the other. None: the whole
            slice, if there is something denser than air.
        network: from :func:`shipped`.
    """
    coarse = working_grid(grid, SPACING_MM)
    small = resample_image(data, grid, coarse)
    views, body = [small], small > DENSE_HU
    if mask is not None:
        body = resample_image(mask.astype(np.float32), grid, coarse, fill=0.0) > 0.5
        views.append(np.where(body, small, np.float32(AIR_HU)))
    there = np.flatnonzero((body & (small > DENSE_HU)).sum(axis=(0, 1)) >= FEWEST)
    probability = np.zeros((coarse.shape[2], len(LEVELS_MM)))

    def look(k: int) -> NDArray[np.float64]:
        seen = [_softmax(network, view, k) for view in views]
        return np.asarray(np.mean(seen, axis=0), np.float64)

    # One thread: the order of additions, and with it the result, then depends on nothing.
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for k, row in zip(there, pool.map(look, there.tolist()), strict=True):
            probability[k] = row
    settled = smooth(probability, coarse.spacing_mm[2]).probability
    z = (np.arange(grid.shape[2]) + 0.5) * grid.spacing_mm[2] / coarse.spacing_mm[2] - 0.5
    nearest = np.clip(np.rint(z).astype(int), 0, coarse.shape[2] - 1)
    return SliceLevels(settled[nearest])


@torch.inference_mode()
def _softmax(network: LevelNet, small: FloatArray, k: int) -> NDArray[np.float32]:
    x = torch.from_numpy(network_input(small, k))[None]
    out: NDArray[np.float32] = network(x).softmax(1)[0].numpy()
    return out


def network_input(small: FloatArray, k: int) -> FloatArray:
    """Slice ``k`` and its neighbours, centred on the tissue, as channels ``(6, 80, 64)``.

    Args:
        small: HU at :data:`SPACING_MM`, (x, y, z).
        k: number of the slice.
    """
    numbers = np.clip((k - CONTEXT, k, k + CONTEXT), 0, small.shape[2] - 1)
    dense = np.argwhere(small[:, :, k] > DENSE_HU)
    middle = np.median(dense, axis=0) if len(dense) else np.array(small.shape[:2]) / 2
    planes = [_centred(small[:, :, n], middle) for n in numbers]
    return as_channels(np.stack(planes))


def as_channels(planes: FloatArray) -> FloatArray:
    """Both windows of three planes, mapped linearly to [-1, 1]: ``(3, x, y)`` to ``(6, x, y)``."""
    windows = [
        (np.clip(planes, low, high) - low) * (2 / (high - low)) - 1 for low, high in HU_WINDOWS
    ]
    return np.concatenate(windows, axis=-3).astype(np.float32)


def _centred(plane: FloatArray, middle: NDArray[np.float64]) -> FloatArray:
    """A window of :data:`SIZE` around ``middle``, air beyond the image."""
    out = np.full(SIZE, np.float32(AIR_HU))
    start = [round(float(m) - s / 2) for m, s in zip(middle, SIZE, strict=True)]
    inner = [
        slice(max(0, a), max(0, min(n, a + s)))
        for a, n, s in zip(start, plane.shape, SIZE, strict=True)
    ]
    part = plane[inner[0], inner[1]]
    x, y = (i.start - a for i, a in zip(inner, start, strict=True))
    out[x : x + part.shape[0], y : y + part.shape[1]] = part
    return out

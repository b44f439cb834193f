"""Two structures of msk22 by threshold, noisy from draw to draw: the whole of a run in a second."""

import time

import numpy as np
import torch

from mskt.core.anatomy import label_set
from mskt.core.interfaces import Segmenter, Tags
from mskt.core.seeding import generator

MUSCLE, BONE = 10, 21  # adductors, femur


class Fake(Segmenter):
    """Options by which tests make it slow (``pause``) or fail (``refuse_below``: slices; ``fault``)."""

    def __init__(
        self,
        device: str = "cpu",
        weights: str = "",
        pause: float = 0.0,
        refuse_below: int = 0,
        fault: str = "too few slices for me",
    ) -> None:
        self.label_set = label_set("msk22")
        self.tags = Tags(stochastic=True)
        self._pause = pause
        self._refuse_below = refuse_below
        self._weights = weights
        self._fault = fault

    def describe(self):
        return {
            "sha256": f"{self._weights or 'none'}",
            "weights_sha256": self._weights,
            "device": "cpu",
        }

    def draw(self, image, region, *, index, seed):
        if image.data.shape[2] < self._refuse_below:
            raise RuntimeError(self._fault)
        time.sleep(self._pause)
        hu = image.data[region.slices]
        noise = generator(seed, "fake", index).normal(0, 10 * (index >= 0), hu.shape)
        out = torch.zeros((len(self.labels), *hu.shape))
        muscle = (hu + noise.astype(np.float32) > -20) & (hu < 150)
        out[MUSCLE] = torch.from_numpy(muscle.astype(np.float32)) * 0.9
        out[BONE] = torch.from_numpy((hu >= 150).astype(np.float32)) * 0.9
        out[0] = 1 - out[MUSCLE] - out[BONE]
        return out

"""Bone by one 3D convolution: the mean of 3×3×3 voxels and a soft threshold at 200 HU."""

import numpy as np
import torch

from mskt import LabelSet, Segmenter
from mskt.core.anatomy import Structure


class TinyNet(Segmenter):
    label_set = LabelSet("bones", (Structure(1, "bone"),))
    kernel = torch.full((1, 1, 3, 3, 3), 1 / 27)

    def draw(self, image, region, *, index, seed):
        around = np.pad(image.data, 1, mode="edge")  # voxel n of the image is n + 1 here
        i, j, k = (slice(part.start, part.stop + 2) for part in region.slices)
        mean = torch.conv3d(torch.from_numpy(around[i, j, k])[None, None], self.kernel)[0]
        bone = ((mean - 200) / 50).sigmoid()
        return torch.cat([1 - bone, bone])

"""The segmenter ``precomputed``: the mask of another tool is the only draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mskt.core import checksum
from mskt.core.errors import UsageError
from mskt.core.interfaces import Region, Segmenter
from mskt.core.sweeps import axial_slabs
from mskt.core.volume import Volume, to_canonical
from mskt.plugins.baselines.precomputed.finding import Mask, find_masks
from mskt.plugins.baselines.precomputed.meaning import meaning_of
from mskt.plugins.baselines.precomputed.reading import on_grid

SLAB_BYTES = 96e6


@dataclass(frozen=True)
class _Labelled(Volume):
    """An image with its mask: uint8 indices of the label set, shape of ``data``."""

    labels: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, 0, 0), np.uint8))


class Precomputed(Segmenter):
    """Masks of another tool (TotalSegmentator, MuscleMap, nnU-Net, mskt itself) as a segmenter.

    Which mask belongs to an image is known by the ``case_id`` in ``Volume.source``, which the
    command line sets; a single mask is taken for any image.

    Args:
        masks: a label map; a folder with one mask a structure; or a folder with one of either for
            each case, named after the case.
        format: ``auto``, ``totalsegmentator``, ``musclemap``, ``nnunet`` or ``mskt``.
        label_set: what the values mean: a built-in set, or a table (``.tsv``, nnU-Net's
            ``dataset.json``, the JSON file of a MuscleMap model); empty: the table beside the masks.
    """

    def __init__(self, masks: str = "", format: str = "auto", label_set: str = "") -> None:
        if not masks:
            raise UsageError(
                "precomputed",
                "needs the masks that it should take.",
                "Give --option masks=PATH: a label map, or a folder with one for each case.",
            )
        self._masks = find_masks(Path(masks))
        self._meaning = meaning_of(self._masks, format, label_set)
        self.label_set = self._meaning.label_set

    def describe(self) -> Mapping[str, Any]:
        """Name and number of the masks, format and label set; no path."""
        return {
            "masks": self._masks.name,
            "cases": len(self._masks.by_case),
            "format": self._meaning.format,
            "label_set": self.label_set.name,
            "one_mask_per_structure": self._masks.per_class,
        }

    def prepare(self, image: Volume) -> Sequence[Volume]:
        """The image on its own grid, axes right, anterior and superior, with its mask.

        Raises:
            InputError: there is no mask of this case, or it cannot be used.
        """
        case_id = str(image.source.get("case_id", ""))
        mask = self._masks.of(case_id)
        grid = image.grid.canonical()
        labels, said = on_grid(mask, self._meaning, grid)
        inside = None if image.mask is None else to_canonical(image.mask, image.grid)
        notes = (*image.notes, self._identity(mask, case_id), *said)
        data = to_canonical(image.data, image.grid)
        return (_Labelled(data, grid.affine, inside, image.subject, notes, image.source, labels),)

    def regions(self, image: Volume) -> Sequence[Region]:
        """Groups of whole slices."""
        i, j, k = image.data.shape
        depth = int(np.clip(SLAB_BYTES / (4 * len(self.labels) * i * j), 1, 8))
        return axial_slabs((i, j, k), depth)

    def draw(self, image: Volume, region: Region, *, index: int, seed: int) -> Tensor:
        """1 for the label of the mask and 0 for the others, whatever index and seed."""
        assert isinstance(image, _Labelled)
        labels = torch.from_numpy(np.ascontiguousarray(image.labels[region.slices])).long()
        out = torch.zeros((len(self.labels), *region.shape))
        return out.scatter_(0, labels[None], 1.0)

    def _identity(self, mask: Mask, case_id: str) -> str:
        """Which file it was, for the record of the run."""
        name = mask.path.name
        if mask.path.is_dir():
            return f"masks: {name}"
        others = self._masks.single and case_id and case_id not in self._masks.by_case
        taken = f", taken for case {case_id}" if others else ""
        return f"mask: {name} (sha256 {checksum.of_input(mask.path)['sha256'][:16]}){taken}"

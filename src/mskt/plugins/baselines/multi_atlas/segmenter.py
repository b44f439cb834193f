"""The segmenter ``multi_atlas``: all is done once for a case, in ``prepare``; draws are looked up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mskt.core.errors import UsageError
from mskt.core.foreground import foreground_box
from mskt.core.interfaces import Region, Segmenter, Tags
from mskt.core.levelnet import LevelNet, shipped
from mskt.core.sweeps import axial_slabs
from mskt.core.viewcheck import Stack, level_network, refused, without
from mskt.core.volume import Volume
from mskt.networks import body
from mskt.networks.foreground import body_on_grid
from mskt.plugins.baselines.multi_atlas import fusion as voting
from mskt.plugins.baselines.multi_atlas.atlases import HOW, Atlas, load
from mskt.plugins.baselines.multi_atlas.hierarchy import Laid, Target, lay
from mskt.plugins.baselines.multi_atlas.placing import Place, place
from mskt.training.losses import IGNORED

SLAB_BYTES = 96e6
MARGIN = 3
"""Voxels around the body that registration sees."""
LEAST_UNSEEN = 0.02
"""A smaller share of the body that no atlas shows is not worth a note."""
_CPU: Final = torch.device("cpu")
_NOTHING: Final = np.zeros((0, 0, 0, 0), np.uint8)


@dataclass(frozen=True)
class _Voted(Stack):
    """A working grid with what each atlas says, (atlases, x, y, z), and how much that counts."""

    labels: NDArray[np.uint8] = field(default_factory=lambda: _NOTHING)
    weights: NDArray[np.float16] = field(default_factory=lambda: _NOTHING.astype(np.float16))


class MultiAtlas(Segmenter):
    """Hierarchical multi-atlas segmentation (Yokota 2018, as in the comparison of Hiasa 2020).

    Args:
        atlases: labelled cases, as for ``mskt train --data`` (docs/training-data.md).
        count: how many atlases take part at most.
        select: ``ncc``: those that look most like the patient after the first level; ``first``.
        fusion: ``weighted`` by local likeness, or ``majority``.
        spacing_mm: edge of the voxels that registration works on.
        label_set: name or table; empty: the structures of ``msk22`` that all atlases tell.
        members: draw ``i`` is what atlas ``i`` says, so that an ensemble's estimator sees how they
            disagree; without, every draw is the vote.
        region_check: ``on`` or ``off``, as for every segmenter (docs/regions.md).
        body_check: ``on`` finds the body by the body network; ``off`` takes the image's own mask.
        cache: folder for prepared atlases.
    """

    def __init__(
        self,
        atlases: str = "",
        count: int = 5,
        select: str = "ncc",
        fusion: str = "weighted",
        spacing_mm: float = 3.0,
        label_set: str = "",
        members: bool = False,
        region_check: str | bool = "on",
        body_check: str | bool = "on",
        cache: str = "",
    ) -> None:
        _check(count, select, fusion, spacing_mm, members, body_check)
        self._levels = level_network(region_check, random=False)
        self._spacing = (float(spacing_mm),) * 3
        self._body = None if body_check in ("off", False) else body.shipped(_CPU, torch.float32)
        found = load(atlases, label_set, self._spacing, cache, self._body)
        self.label_set = found.label_set
        self._count = min(count, len(found.atlases))
        self._select, self._fusion = select, fusion
        self._atlases = _placed(found.atlases, self._spacing, shipped())
        if members and self._count < 2:
            raise UsageError(
                "multi_atlas", f"members=true needs two atlases, there is {self._count}.", HOW
            )
        self.tags = Tags(members=self._count if members else 1)

    def describe(self) -> Mapping[str, Any]:
        """Number and names of the atlases and all settings."""
        return {
            "atlases": [atlas.name for atlas, _ in self._atlases],
            "count": self._count,
            "select": self._select,
            "fusion": self._fusion,
            "spacing_mm": self._spacing[0],
            "label_set": self.label_set.name,
            "structures": list(self.label_set.names),
            "members": self.tags.members > 1,
            "region_check": self._levels is not None,
        }

    def prepare(self, image: Volume) -> Sequence[Volume]:
        """One volume at the working spacing, with the labels of each atlas on it: takes minutes."""
        return self.prepare_reporting(image, lambda part: None)

    def prepare_reporting(self, image: Volume, tell: Callable[[float], None]) -> Sequence[Volume]:
        """The same, telling how far it is (0 … 1)."""
        work = self._working(image)
        shape = (self._count, *work.data.shape)
        labels, weights = np.zeros(shape, np.uint8), np.zeros(shape, np.float16)
        inside = np.ones(work.data.shape, bool) if work.mask is None else work.mask
        box = foreground_box(inside)
        notes = work.notes
        if box is not None:
            near = tuple(slice(max(0, part.start - MARGIN), part.stop + MARGIN) for part in box)
            target = self._target(work, inside, (near[0], near[1], near[2]))
            laid = lay(
                target,
                self._atlases,
                self._count,
                select=self._select == "ncc",
                workers=torch.get_num_threads(),
                tell=tell,
            )
            where = (slice(None), *near)
            labels[where] = [np.where(target.body, one.labels, 0) for one in laid]
            weights[where] = voting.weights(target, laid, self._fusion)
            notes = (*notes, *_unseen(target, laid))
        stack = {part.name: getattr(work, part.name) for part in fields(work)}
        return (_Voted(**stack | {"notes": notes, "labels": labels, "weights": weights}),)

    def regions(self, image: Volume) -> Sequence[Region]:
        """Groups of whole slices."""
        i, j, k = image.data.shape
        depth = int(np.clip(SLAB_BYTES / (12 * len(self.labels) * i * j), 1, 8))
        return axial_slabs((i, j, k), depth)

    def draw(self, image: Volume, region: Region, *, index: int, seed: int) -> Tensor:
        """The vote of the atlases, or what atlas ``index`` says; the seed does not matter."""
        assert isinstance(image, _Voted)
        box = (slice(None), *region.slices)
        labels, weights = image.labels[box], image.weights[box]
        classes = len(self.labels)
        if self.tags.members > 1:
            out = voting.single(labels, weights, classes, index % self.tags.members)
        else:
            out = voting.fused(labels, weights, classes)
        for k in range(region.shape[2]):
            without(out[..., k], refused(image, region.start[2] + k))
        return out

    def _working(self, image: Volume) -> Stack:
        """The image on the working grid; by one thread, so that nothing depends on their number."""
        with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return pool.submit(
                body_on_grid, image, self._spacing, self._body, self._levels, self.label_set, _CPU,
                torch.float32,
            ).result()  # fmt: skip

    def _target(
        self, work: Stack, inside: NDArray[np.bool_], box: tuple[slice, slice, slice]
    ) -> Target:
        data, mask = np.rint(work.data[box]), np.ascontiguousarray(inside[box])
        return Target(data, mask, self._spacing, place(data, mask, self._spacing, shipped()))


def _placed(
    atlases: Sequence[Atlas], spacing_mm: tuple[float, float, float], network: LevelNet
) -> tuple[tuple[Atlas, Place], ...]:
    return tuple((one, place(one.image, one.body, spacing_mm, network)) for one in atlases)


def _unseen(target: Target, laid: Sequence[Laid]) -> tuple[str, ...]:
    """Says what part of the patient no atlas shows: nothing can be found there."""
    alone = np.all([one.labels == IGNORED for one in laid], axis=0) & target.body
    share = float(alone.sum()) / max(1, int(target.body.sum()))
    if share < LEAST_UNSEEN:
        return ()
    slices = int(np.count_nonzero(alone.any(axis=(0, 1))))
    return (
        f"multi_atlas: none of the {len(laid)} atlases shows {100 * share:.0f} % of the body in "
        f"view ({slices * target.spacing_mm[2]:.0f} mm along it); nothing is labelled there",
    )


def _check(
    count: int, select: str, fusion: str, spacing_mm: float, members: bool, body_check: str | bool
) -> None:
    """Refuse what no option can be, by name."""
    for name, value, known in (
        ("select", select, ("ncc", "first")),
        ("fusion", fusion, voting.FUSIONS),
        ("members", members, (True, False)),
        ("body_check", body_check, ("on", "off", True, False)),
    ):
        if value not in known:
            raise UsageError(
                f"--option {name}",
                f"{value!r} is no choice.",
                f"Give one of {', '.join(map(str, known))}.",
            )
    whole = isinstance(count, int) and not isinstance(count, bool)
    if not whole or count < 1:
        raise UsageError("--option count", f"{count!r} is no number of atlases.", "Give 1, 2, …")
    number = isinstance(spacing_mm, int | float) and not isinstance(spacing_mm, bool)
    if not number or not 1.5 <= spacing_mm <= 12:
        raise UsageError(
            "--option spacing_mm", f"{spacing_mm!r} is no length from 1.5 to 12 mm.", "Give 3."
        )

"""The segmenter ``unet25d``: each leg on its own grid, three planes, one vote."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from torch import Tensor

from mskt.core.anatomy import suggestion
from mskt.core.device import resolve_device, resolve_precision
from mskt.core.errors import UsageError
from mskt.core.interfaces import Region, Segmenter, Tags, member_of
from mskt.core.levelnet import shipped as shipped_levels
from mskt.core.sweeps import axial_slabs
from mskt.core.volume import Volume
from mskt.networks.body import shipped as shipped_body
from mskt.networks.inference import slice_network
from mskt.plugins.unet25d.alignment import FieldOfView
from mskt.plugins.unet25d.fusion import FUSIONS
from mskt.plugins.unet25d.planes import PlaneSweep, draws
from mskt.plugins.unet25d.thigh import Finder
from mskt.plugins.unet25d.variants import FAMILY, PLANES, PlaneVariant, variant_sizes

MEMBERS: Final = ("fused", "planes")
REGION_BYTES: Final = 400e6
"""Of one draw; a leg with 30 classes at 2 mm takes 354 MB."""


class UNet25D(Segmenter):
    """2.5-D ensemble of axial, coronal and sagittal U-Nets, each leg alone (Haque 2019).

    Args:
        weights: name of a set of weights or path; empty takes the shipped ones, ``random`` builds
            untrained networks (checks and benchmarks only).
        variant: ``compact``, ``haque`` or ``haque-bayes``; empty takes that of the weights.
        backbone: encoder of segmentation-models-pytorch or ``tu-NAME`` of timm; needs weights for it.
        label_set: with random weights: which classes.
        fusion: ``wta`` (winner takes all, the default), ``mean``, ``max`` or ``majority``.
        members: ``fused``: a draw is the vote of the three planes; ``planes``: the planes are the
            members of an ensemble that take turns, and the mean is their fusion.
        device: ``auto``, ``cpu``, ``cuda``, …
        precision: ``auto``, ``float32`` or ``bfloat16`` for the convolutions.
    """

    def __init__(
        self,
        weights: str = "",
        variant: str = "",
        backbone: str = "",
        label_set: str = "",
        fusion: str = "",
        members: str = "fused",
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        self._members = _chosen("members", members, MEMBERS)
        self._fusion = _fusion(fusion, members)
        model = FAMILY.load(weights, variant, backbone, label_set)
        made: PlaneVariant = model.variant
        self.label_set = model.label_set
        self.tags = Tags(
            stochastic=made.dropout > 0,
            members=len(PLANES) if members == "planes" else 1,
            fast_draws=True,
        )
        where = resolve_device(device)
        dtype = resolve_precision(precision, where)
        self._finder = Finder(
            FieldOfView(made.grid_shape, made.grid_mm),
            None if model.random else shipped_body(where, dtype),
            None if model.random else shipped_levels(),
            where,
            dtype,
        )
        self._sweeps = [
            PlaneSweep(
                slice_network(model.networks[plane], where, dtype),
                axis,
                len(self.labels),
                made,
                where,
                dtype,
            )
            for plane, axis in PLANES.items()
        ]
        self._facts = {
            **model.facts,
            "fusion": self._fusion,
            "members": members,
            "device": str(where),
            "precision": str(dtype).removeprefix("torch."),
        }

    def describe(self) -> Mapping[str, Any]:
        """Weights, variant, parameter counts (also of the other variants), fusion, device."""
        return {**self._facts, "variants": variant_sizes()}

    def prepare(self, image: Volume) -> Sequence[Volume]:
        """Each thigh along its femur at 2 mm, the left one mirrored; air outside the leg."""
        return self._finder.thighs(image)

    def regions(self, image: Volume) -> Sequence[Region]:
        """The whole grid of a leg; slabs of it where a draw would be too large."""
        i, j, k = image.data.shape
        depth = int(np.clip(REGION_BYTES / (4 * len(self.labels) * i * j), 1, k))
        return axial_slabs((i, j, k), depth)

    def draw(self, image: Volume, region: Region, *, index: int, seed: int) -> Tensor:
        """The vote of three random passes, or one pass of the plane that is this draw's member."""
        return next(self._draws(image, region, [index], seed))

    def draw_many(
        self, image: Volume, region: Region, *, count: int, seed: int
    ) -> Iterator[Tensor]:
        """The same draws; what lies before the first dropout is computed once."""
        return self._draws(image, region, range(count), seed)

    def _draws(
        self, image: Volume, region: Region, indices: Iterable[int], seed: int
    ) -> Iterator[Tensor]:
        number = len(self._sweeps)
        if self._members == "planes":
            wanted = list(indices)
            passes = {
                plane: draws(
                    sweep,
                    image,
                    region,
                    [i // number for i in wanted if member_of(i, number) == plane],
                    seed,
                )
                for plane, sweep in enumerate(self._sweeps)
            }
            for index in wanted:
                yield next(passes[member_of(index, number)])
            return
        stems = [sweep.stems(image, region) for sweep in self._sweeps]
        for index in indices:
            yield FUSIONS[self._fusion](
                sweep.draw(held, region, index, seed)
                for sweep, held in zip(self._sweeps, stems, strict=True)
            )


def _fusion(asked: str, members: str) -> str:
    """The rule; that of separate planes is what the estimator does with members: their mean."""
    if members != "planes":
        return _chosen("fusion", asked or "wta", tuple(FUSIONS))
    if asked not in ("", "mean"):
        raise UsageError(
            "--option fusion",
            f"{asked!r} is a vote of the planes, but members=planes keeps them apart",
            "Leave one of the two options out.",
        )
    return "mean"


def _chosen(option: str, value: str, among: Sequence[str]) -> str:
    if value not in among:
        raise UsageError(
            f"--option {option}", f"{value!r} is no choice.", suggestion(value, tuple(among))
        )
    return value

"""What 3-D segmenters have in common: everything but the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor, nn

from mskt.core.device import resolve_device, resolve_precision
from mskt.core.dropout import number_sites
from mskt.core.foreground import foreground_box
from mskt.core.interfaces import Region, Segmenter, Tags
from mskt.core.patchwise import Blend, PatchSweep
from mskt.core.viewcheck import Stack, level_network
from mskt.core.volume import Volume
from mskt.networks import body
from mskt.networks.family import Model
from mskt.networks.foreground import body_on_grid
from mskt.networks.patch_variant import PatchVariant

MARGIN: Final = 8
"""Of a window, the part that a crop leaves around the body: one eighth on each side."""


class PatchSegmenter(Segmenter):
    """A 3-D network in windows over a working grid, behind body network and region check.

    Args:
        model: the network; maps ``(N, 1, *window)`` to logits.
        device: ``auto``, ``cpu``, ``cuda``, …
        precision: ``auto``, ``float32`` or ``bfloat16`` for the network.
        region_check: ``on`` or ``off`` (docs/regions.md); never with an untrained network.
        overlap: of neighbouring windows, part of their length.
        blend: ``gaussian`` or ``hann``.
    """

    def __init__(
        self,
        model: Model,
        device: str,
        precision: str,
        region_check: str | bool,
        overlap: float,
        blend: Blend,
    ) -> None:
        self._variant: PatchVariant = model.variant
        given = self._variant.given(float(overlap), blend)
        self._levels = level_network(region_check, random=model.random)
        self._device = resolve_device(device)
        self._dtype = resolve_precision(precision, self._device)
        self._body = None if model.random else body.shipped(self._device, self._dtype)
        self.label_set = model.label_set
        self.tags = Tags(stochastic=model.variant.dropout > 0, mirror=True)
        network = for_patches(model.network, self._device, self._dtype)
        self._sweep = PatchSweep(network, len(self.labels), given, self._device, self._dtype)
        self._facts = {
            **model.facts,
            "overlap": given.overlap,
            "blend": given.blend,
            "device": str(self._device),
            "precision": str(self._dtype).removeprefix("torch."),
            "region_check": self._levels is not None,
        }

    def describe(self) -> Mapping[str, Any]:
        """Weights, variant, number of parameters, windows, device and precision."""
        return self._facts

    def prepare(self, image: Volume) -> Sequence[Volume]:
        """One volume at the variant's spacing, cropped to the body; outside of it there is air."""
        work = body_on_grid(
            image,
            self._variant.spacing_mm,
            self._body,
            self._levels,
            self.label_set,
            self._device,
            self._dtype,
        )
        return (cropped(work, tuple(side // MARGIN for side in self._variant.window)),)

    def regions(self, image: Volume) -> Sequence[Region]:
        """Slabs as high as the step from one layer of windows to the next."""
        return self._sweep.regions(image)

    def regions_for(self, image: Volume, draws: int) -> Sequence[Region]:
        """Thin slabs where so many draws can be remembered."""
        return self._sweep.regions(image, draws)

    def draw(self, image: Volume, region: Region, *, index: int, seed: int) -> Tensor:
        """Blended softmax of one pass over the windows that reach into the region."""
        return self._sweep.draw(image, region, index=index, seed=seed)


def cropped(work: Stack, margin: tuple[int, ...]) -> Stack:
    """The part of a working grid around its mask (Kim 2024's foreground crop), read-only.

    Read-only, so that the sweep may remember what it has computed of it. A grid is an affine: the
    way back from a crop is that of any other grid.

    Args:
        work: a working grid; with an empty mask it stays whole.
        margin: voxels to leave around the mask along each axis, where there are any.
    """
    box = None if work.mask is None else foreground_box(work.mask)
    if box is not None:
        wide = tuple(
            slice(max(0, part.start - more), min(length, part.stop + more))
            for part, more, length in zip(box, margin, work.data.shape, strict=True)
        )
        affine = work.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ [part.start for part in wide]
        assert work.mask is not None
        work = replace(
            work,
            data=work.data[wide].copy(order="K"),
            affine=affine,
            mask=work.mask[wide].copy(order="K"),
            permitted=None if work.permitted is None else work.permitted[wide[2]],
        )
    for array in (work.data, work.mask):
        if array is not None:
            array.flags.writeable = False
    return work


def for_patches(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A 3-D network in evaluation mode, its dropout sites numbered, on a device.

    Channels last only in 16 bits: in float32 it is no faster on a CPU, and its group normalisation
    sums less exactly.
    """
    number_sites(network.eval())
    layout = torch.contiguous_format if dtype == torch.float32 else torch.channels_last_3d
    return network.to(device, dtype, memory_format=layout)  # type: ignore[call-overload, no-any-return]

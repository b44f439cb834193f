"""From a variant of a 2-D network to its task: the same for every 2-D segmenter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from mskt.core.anatomy import LabelSet, suggestion
from mskt.core.errors import UsageError
from mskt.networks.slice_variant import SliceVariant, UNetVariant, named
from mskt.training.slices import SliceTask

DEFAULT_VARIANT = "compact"


def check_options(segmenter: str, options: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Refuse options that the training of a segmenter does not have.

    Raises:
        UsageError: names the first of them.
    """
    for name in options:
        if name not in known:
            raise UsageError(
                f"training of {segmenter!r}",
                f"has no option {name!r}.",
                suggestion(name, known),
            )


def chosen_unet(
    segmenter: str, options: Mapping[str, Any], variants: Mapping[str, UNetVariant]
) -> UNetVariant:
    """The U-Net that ``variant`` and ``backbone`` of the user's options name."""
    check_options(segmenter, options, ("variant", "backbone"))
    made: UNetVariant = named(str(options.get("variant", DEFAULT_VARIANT)), variants, segmenter)
    return replace(made, backbone=str(options.get("backbone", "")))


def slice_task(
    part: str,
    network: Callable[[], nn.Module],
    label_set: LabelSet,
    variant_name: str,
    variant: SliceVariant,
    multiple: int,
) -> SliceTask:
    """The task of a 2-D network.

    Args:
        part: name of it.
        network: builds it, untrained.
        label_set: its classes.
        variant_name: for the model card.
        variant: its input.
        multiple: height and width that it takes are multiples of this.
    """
    return SliceTask(
        part,
        network,
        label_set,
        spacing_mm=variant.spacing_mm,
        hu_window=variant.hu_window,
        dense_slope=variant.dense_slope,
        context=variant.context,
        multiple=multiple,
        shape=variant.case_shape,
        card={"variant_name": variant_name, "variant": variant.as_dict()},
    )

"""From a variant of a 2-D network to its task: the same for every 2-D segmenter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from mskt.core.anatomy import LabelSet, suggestion
from mskt.core.errors import UsageError
from mskt.networks.family import PART, Family
from mskt.networks.slice_variant import SliceVariant
from mskt.networks.variant import DEFAULT_VARIANT
from mskt.training.slices import SliceTask


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


def family_tasks(
    family: Family, label_set: LabelSet, options: Mapping[str, Any]
) -> Sequence[SliceTask]:
    """The one part of a segmenter that is a :class:`~mskt.networks.family.Family` of 2-D networks.

    Args:
        family: its networks.
        label_set: its classes.
        options: of the user: ``variant`` and ``backbone``.
    """
    check_options(family.segmenter, options, ("variant", "backbone"))
    name = str(options.get("variant") or DEFAULT_VARIANT)
    made = family.variant(name, str(options.get("backbone", "")))
    network = partial(family.build, made, len(label_set.names) + 1)
    return (slice_task(PART, network, label_set, name, made),)


def slice_task(
    part: str,
    network: Callable[[], nn.Module],
    label_set: LabelSet,
    variant_name: str,
    variant: SliceVariant,
) -> SliceTask:
    """The task of a 2-D network.

    Args:
        part: name of it.
        network: builds it, untrained.
        label_set: its classes.
        variant_name: for the model card.
        variant: its input.
    """
    return SliceTask(
        part,
        network,
        label_set,
        spacing_mm=variant.spacing_mm,
        hu_window=variant.hu_window,
        dense_slope=variant.dense_slope,
        context=variant.context,
        multiple=variant.multiple,
        shape=variant.case_shape,
        card={"variant_name": variant_name, "variant": variant.as_dict()},
    )

"""From the variants of a 3-D network to its task: the same for every 3-D segmenter."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from mskt.core.anatomy import LabelSet
from mskt.networks.family import PART, Family
from mskt.networks.patch_variant import PatchVariant
from mskt.networks.variant import DEFAULT_VARIANT
from mskt.training.patches import PatchTask
from mskt.training.slice_networks import check_options


def patch_task(family: Family, label_set: LabelSet, options: Mapping[str, Any]) -> PatchTask:
    """The task of a 3-D network.

    Args:
        family: the network in its sizes.
        label_set: classes to learn.
        options: of the user; ``variant``, ``compact`` if not given.
    """
    check_options(family.segmenter, options, ("variant",))
    name = str(options.get("variant", DEFAULT_VARIANT))
    variant: PatchVariant = family.variant(name)
    return PatchTask(
        PART,
        partial(family.build, variant, len(label_set.names) + 1),
        label_set,
        spacing_mm=variant.spacing_mm,
        hu_window=variant.hu_window,
        gamma=variant.gamma,
        patch=variant.window,
        shape=variant.case_shape,
        card={"variant_name": name, "variant": variant.as_dict()},
    )

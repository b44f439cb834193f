"""Which weights a user means, and whether they fit what else was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mskt.core import weights
from mskt.core.anatomy import LabelSet
from mskt.core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

RANDOM: Final = "random"
"""Name of weights that asks for an untrained network: for checks and benchmarks, not for patients."""


@dataclass(frozen=True)
class Loaded:
    """A set of weights, read.

    Attributes:
        info: name, path and card.
        label_set: classes that it was trained for.
        tensors: by name, with the prefix of their part.
    """

    info: weights.WeightsInfo
    label_set: LabelSet
    tensors: Mapping[str, Tensor]

    @property
    def card(self) -> Mapping[str, Any]:
        """The model card."""
        return self.info.card

    @property
    def facts(self) -> dict[str, Any]:
        """For ``run.json``."""
        return {
            "weights": self.info.name,
            "weights_sha256": self.info.sha256,
            "variant_name": self.card["variant_name"],
            "label_set": self.label_set.name,
        }


def load(name: str, segmenter: str, asked: Mapping[str, tuple[str, str]]) -> Loaded:
    """Read weights and compare their card with what the user asked for.

    Args:
        name: of a set of weights, or a path; empty where the segmenter has no default.
        segmenter: that they must be made for.
        asked: by option: what the user gave (empty: nothing) and what the card must say for it;
            ``{"--label-set": ("msk22", "label_set")}`` names the entry of the card.

    Raises:
        WeightsError: no such weights, damaged, or made for another segmenter.
        UsageError: no name, or the card says something else.
    """
    if not name:
        raise UsageError(
            "--weights",
            f"is needed: none come with {segmenter!r}",
            f"Train some (mskt train --segmenter {segmenter} …) and give the path of the file.",
        )
    info = weights.find(name, segmenter)
    for option, (wanted, key) in asked.items():
        there = str(_entry(info.card, key) or "")
        if wanted and wanted != there:
            raise UsageError(
                option,
                f"{wanted!r} was asked for, but the weights {info.name!r} are for "
                f"{there or 'a network without it'!r}",
                "Give --weights FILE with weights trained for it, or leave the option out.",
            )
    return Loaded(info, weights.labels_of(info), weights.load(info))


def _entry(card: Mapping[str, Any], key: str) -> Any:
    """``variant.backbone`` is ``card["variant"]["backbone"]``."""
    found: Any = card
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def random_facts(variant_name: str, label_set: LabelSet) -> dict[str, Any]:
    """What :attr:`Loaded.facts` says of an untrained network."""
    return {
        "weights": RANDOM,
        "weights_sha256": "",
        "variant_name": variant_name,
        "label_set": label_set.name,
    }

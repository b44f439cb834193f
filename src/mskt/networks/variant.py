"""The sizes in which a network comes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

DEFAULT_VARIANT = "compact"
"""What is trained where the user names no size: the one for a computer without a GPU."""
CHECKED_VARIANT = "tiny"
"""A size for checks of the machinery alone, where a family has one."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One size of a network; derived classes add what fixes its input and its layers.

    Attributes:
        dropout: probability of the network's dropout; above 0 its draws differ.
    """

    dropout: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """For model cards and ``run.json``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`as_dict` after a journey through JSON."""
        plain: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**plain)

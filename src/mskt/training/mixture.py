"""Several streams as one, each with its share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mskt.core.anatomy import LabelSet
from mskt.core.seeding import generator
from mskt.training.cases import CaseStream, TrainingCase


@dataclass(frozen=True)
class Mixture(CaseStream):
    """Draws for each case which member gives it; each member's cases come in their own order.

    Attributes:
        members: streams with one label set and spacing.
        shares: of the cases that each gives in the long run; positive, with sum 1.
        label_set, spacing_mm: of all members.
        seed: of the draw.
    """

    members: tuple[CaseStream, ...]
    shares: tuple[float, ...]
    label_set: LabelSet
    spacing_mm: tuple[float, float, float]
    seed: int = 0

    @classmethod
    def of(cls, members: Sequence[CaseStream], shares: Sequence[float], seed: int = 0) -> Mixture:
        """Mix streams; the shares are brought to the sum 1.

        Raises:
            ValueError: members do not match, or shares are not positive numbers, one each.
        """
        if not members or len(members) != len(shares) or not all(s > 0 for s in shares):
            raise ValueError(f"{len(members)} streams need as many positive shares, not {shares}")
        first = members[0]
        if any((m.label_set, m.spacing_mm) != (first.label_set, first.spacing_mm) for m in members):
            raise ValueError("the streams of a mixture need one label set and one spacing")
        total = float(sum(shares))
        parts = tuple(float(share) / total for share in shares)
        return cls(tuple(members), parts, first.label_set, first.spacing_mm, seed)

    def place(self, number: int) -> tuple[int, int]:
        """Which member gives case ``number``, and which of its own cases that is.

        All draws up to the number are made again: thousandths of a second for a whole training,
        and nothing to carry along.
        """
        draws = generator(self.seed, "mixture").random(number + 1)
        members = np.searchsorted(np.cumsum(self.shares)[:-1], draws, side="right")
        return int(members[-1]), int(np.count_nonzero(members[:-1] == members[-1]))

    def case(self, number: int) -> TrainingCase:
        """Case ``number``, from the member that has drawn it."""
        member, own = self.place(number)
        return self.members[member].case(own)

    def describe(self) -> Mapping[str, Any]:
        """The members and their shares."""
        return {
            "kind": "mixture",
            "seed": self.seed,
            "members": [
                {"share": share, **member.describe()}
                for share, member in zip(self.shares, self.members, strict=True)
            ],
        }

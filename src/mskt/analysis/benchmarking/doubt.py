"""How much an uncertainty is worth, as far as cases with reference labels can tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mskt.analysis import failure
from mskt.analysis.failure import INACCURATE, Score
from mskt.analysis.pairs import DICE, DOUBT, Pairs, pairs_of
from mskt.core.errors import MsktError
from mskt.core.records import Record


@dataclass(frozen=True, slots=True)
class DoubtFigures:
    """Of all structures pooled.

    Attributes:
        pairs: of Dice and doubt; missed structures have no doubt and are not among them.
        missed: structures that were not found.
        inaccurate: pairs whose Dice lies below median − 2 · 1.4826 · MAD of all of them (Soufi 2024).
        auroc: how often an inaccurate structure has more doubt than another one.
        aurc: area under the risk–coverage curve, risk = 1 − Dice (Geifman 2018); smaller is better.
        spearman: of doubt and Dice; −1 is best.
    """

    pairs: int
    missed: int
    inaccurate: int
    auroc: Score
    aurc: Score
    spearman: Score


def doubt_figures(records: Sequence[Record], *, truncated: bool = False) -> DoubtFigures:
    """Figures of the doubt in the rows of one method; a reason where one is undefined.

    Args:
        records: of cases with references.
        truncated: count structures cut by the field of view too.
    """
    kept = [
        row
        for row in records
        if row.metric in (DICE, DOUBT) and (truncated or row.status != "truncated")
    ]
    try:
        pairs = pairs_of(kept)
    except MsktError as error:
        none = Score(None, error.fault)
        return DoubtFigures(0, 0, 0, none, none, none)
    return _figures(pairs)


def _figures(pairs: Pairs) -> DoubtFigures:
    found = pairs.found
    dice, doubt = pairs.dice[found], pairs.doubt[found]
    missed = int((~found).sum())
    if not dice.size:
        none = Score(None, "no structure has both a Dice and a doubt")
        return DoubtFigures(0, missed, 0, none, none, none)
    bad = dice < failure.dice_threshold(dice, INACCURATE)
    if not failure.varies(doubt):
        none = Score(None, "the doubt is the same everywhere")
        return DoubtFigures(dice.size, missed, int(bad.sum()), none, none, none)
    return DoubtFigures(
        dice.size,
        missed,
        int(bad.sum()),
        failure.auroc(doubt, bad),
        Score(failure.aurc(doubt, 1.0 - dice)),
        failure.spearman(doubt, dice),
    )

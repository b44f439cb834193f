"""Flags in a few words: for the picture of a case and for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from mskt.analysis.flags import OUTSIDE, FlagRow, scan_in_question

WORST_FIRST: Final = ("failed", "inaccurate", "unknown")
"""``ok`` is not told."""
NOT_IN_VIEW: Final = "not in view"
"""In these few words a kind of its own; in ``flags.tsv`` *unknown*, with this as the reason."""
NAMES, CHARACTERS = 8, 190
"""Of one line of the picture: no more names, and no longer line."""

Tone = Literal["failed", "inaccurate", "unknown", "plain", "warning", "quiet"]


@dataclass(frozen=True, slots=True)
class Remark:
    """One line for the picture; the tone decides its colour."""

    text: str
    tone: Tone


def remarks(
    flags: Sequence[FlagRow], origin: str, warnings: Sequence[str] = ()
) -> tuple[Remark, ...]:
    """Name what is flagged, the worst first, then what to know of the calibration.

    Args:
        flags: of one case.
        origin: what they rest on.
        warnings: why they may not be believed.
    """
    told = [
        Remark(_line(flag, named), flag) for flag in WORST_FIRST if (named := _names(flags, flag))
    ]
    gone = _names(flags, NOT_IN_VIEW)
    absent = [Remark(_line(NOT_IN_VIEW, gone), "quiet")] if gone else []
    if not told:
        told = [Remark("no structure flagged", "plain")]
    elif told[0].tone == "unknown":  # else nobody could tell that the others are thought right
        told = [Remark("no structure flagged as failed or inaccurate", "plain"), *told]
    whole = scan_in_question(flags)
    return (
        *told,
        *absent,
        *([Remark(_cut(whole), "warning")] if whole else []),
        *(Remark(_cut(warning), "warning") for warning in warnings),
        Remark(_cut(f"flags by {origin}; reasons in flags.tsv"), "quiet"),
    )


def _cut(text: str) -> str:
    return text if len(text) <= CHARACTERS else f"{text[: CHARACTERS - 1]}…"


def counted(flags: Iterable[FlagRow]) -> str:
    """``2 failed, 1 inaccurate, 3 unknown, 38 ok``, and what is not in view: sides count each."""
    found = Counter(_kind(row) for row in flags)
    gone = (NOT_IN_VIEW,) if found[NOT_IN_VIEW] else ()
    return ", ".join(f"{found[kind]} {kind}" for kind in (*WORST_FIRST, "ok", *gone))


def _kind(row: FlagRow) -> str:
    """The flag; of what was not found where the scan ends, or lies outside, :data:`NOT_IN_VIEW`."""
    return NOT_IN_VIEW if row.reason == OUTSIDE else row.flag


def _names(flags: Iterable[FlagRow], flag: str) -> list[str]:
    """Structures with that flag, both sides of one in one word."""
    sides: dict[str, list[str]] = {}
    for row in flags:
        if _kind(row) == flag:
            sides.setdefault(row.structure, []).append(row.side)
    return [_name(structure, there) for structure, there in sides.items()]


def _name(structure: str, sides: Sequence[str]) -> str:
    words = structure.replace("_", " ")
    if len(sides) > 1:
        return f"{words} (both)"
    # "hip left" says its side already.
    return words if sides[0] == "both" or words.endswith(sides[0]) else f"{words} ({sides[0]})"


def _line(flag: str, names: Sequence[str]) -> str:
    """As many names as a line holds, at least one; how many are left out stands at its end."""
    for count in range(min(NAMES, len(names)), 0, -1):
        rest = len(names) - count
        line = f"{flag}: {', '.join(names[:count])}{f' and {rest} more' if rest else ''}"
        if len(line) <= CHARACTERS or count == 1:
            break
    return line

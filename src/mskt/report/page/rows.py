"""Rows of the table of a case: everything that the results say of one structure and side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mskt.analysis.flags import FlagRow
from mskt.core.records import Record
from mskt.report.outputs import own_sides
from mskt.report.page.places import Place
from mskt.report.summary import Line, lines

FLAG_WORDS = {
    "failed": "✖ failed",
    "inaccurate": "▲ inaccurate",
    "unknown": "? unknown",
    "ok": "✓ ok",
}
"""A sign and a word: no flag is told by its colour alone."""
_STATUS_WORDS = {
    "truncated": "cut by the field of view",
    "absent_prediction": "not found",
    "undefined": "not defined",
}


@dataclass(frozen=True)
class Row:
    """One structure and side.

    Attributes:
        line: what the terminal shows of it, too.
        tissue_kind: ``muscle``, ``bone`` or nothing.
        values: further numbers of the results by metric; only those that exist.
        intervals: lower and upper end over the draws, of ``volume`` and ``mean_hu``.
        reason: of the flag.
        place: None where it has no voxel in the pictures.
    """

    line: Line
    tissue_kind: str
    values: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    reason: str
    place: Place | None

    @property
    def title(self) -> str:
        """Name in words."""
        return self.line.structure.replace("_", " ")

    @property
    def side(self) -> str:
        """Empty where it has none, or where the name says it."""
        side = self.line.side
        return "" if side == "both" or self.title.endswith(side) else side

    @property
    def status(self) -> str:
        """In words; empty where all is well."""
        return _STATUS_WORDS.get(self.line.status, "")

    @property
    def flag(self) -> str:
        """Sign and word; empty without a calibration."""
        return FLAG_WORDS.get(self.line.judged, "")

    @property
    def empty(self) -> bool:
        """Nothing to show but a status: outside the scan, or nothing found and nothing expected."""
        return not self.values and self.line.judged in ("", "unknown")

    @property
    def tissue(self) -> tuple[float, float, float] | None:
        """Percentages of fat, mixed and lean tissue of what is not bone."""
        if self.tissue_kind == "bone":
            return None
        parts = [self.values.get(f"{name}_fraction") for name in ("fat", "mixed", "lean")]
        if any(part is None for part in parts):
            return None
        fat, mixed, lean = (round(100 * part, 1) for part in parts if part is not None)
        return (fat, mixed, lean)


def rows(
    records: Sequence[Record],
    judged: Sequence[FlagRow],
    places: Mapping[tuple[str, str], Place],
    tissues: Mapping[str, str],
) -> list[Row]:
    """All structures of a case in the order of :func:`mskt.report.summary.lines`.

    Args:
        records: of the case.
        judged: rows of ``flags.tsv``.
        places: where each structure and side is.
        tissues: ``muscle`` or ``bone`` by structure.
    """
    table: dict[tuple[str, str], dict[str, float]] = {}
    for record in own_sides(records):
        if record.value is not None:
            table.setdefault((record.structure, record.side), {})[record.metric] = record.value
    reasons = {(row.structure, row.side): row.reason for row in judged}
    found = []
    for line in lines(records, judged):
        key = (line.structure, line.side)
        values = table.get(key, {})
        intervals = {
            name: (values[f"{name}_lower"], values[f"{name}_upper"])
            for name in ("volume", "mean_hu")
            if f"{name}_lower" in values and f"{name}_upper" in values
        }
        place = places.get(key) or places.get((line.structure, "both"))
        kind = tissues.get(line.structure, "")
        found.append(Row(line, kind, values, intervals, reasons.get(key, ""), place))
    return found

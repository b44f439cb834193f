"""The end of a run on the terminal: what was found, how sure it is, and where to look."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mskt.cli.console import stdout
from mskt.cli.sources import SYNTHETIC_MARK
from mskt.report.flagged import counted
from mskt.report.summary import Line, lines

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from mskt.analysis.flags import FlagRow
    from mskt.cli.judging import Judge
    from mskt.cli.runner import Outcome
    from mskt.core.records import Record

MOST_TABLES = 3
"""More cases than this get one line each; their tables are in the files."""
NOTE = (
    "cm³, mean HU and share of fat (below −30 HU) of each structure. uncert.: mean uncertainty of its "
    "voxels, not calibrated; × med.: that over the median of this case's structures."
)


def print_summary(out: Path, outcome: Outcome, *, everything: bool, report: bool = False) -> None:
    """Tables of the cases, what failed, and where the files are."""
    console = stdout()
    shown = list(outcome.done.items())
    if not everything and len(shown) > MOST_TABLES:
        console.print(
            f"{len(shown)} cases done; their tables: {out}/CASE/results.csv, all in one: "
            f"{out}/results.csv (-v prints them).",
            highlight=False,
            soft_wrap=True,
        )
        shown = []
    for case_id, records in shown:
        flags = outcome.flags[case_id] if outcome.judge else None
        console.print(case_table(case_id, records, flags))
    if shown:
        console.print(NOTE, style="dim", highlight=False)
    if outcome.judge and outcome.done:
        _tell_judgement(console, out, outcome, outcome.judge, stars=bool(shown))
    for case_id in outcome.skipped:
        console.print(f"{case_id}: was done already", style="dim", highlight=False, markup=False)
    for case_id, reason in outcome.failed.items():
        console.print(
            f"{case_id}: FAILED: {reason}",
            style="bold red",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    _where(console, out, outcome, report=report)


def _tell_judgement(
    console: Console, out: Path, outcome: Outcome, judge: Judge, *, stars: bool
) -> None:
    """What the predicted columns mean, what they rest on, and how many structures are flagged."""
    made = judge.chosen.calibration
    if stars:
        console.print(
            f"Dice*: predicted from the uncertainty, not measured ({judge.origin}). ≥: lower bound "
            f"that {100 * made.coverage:g} % of structures of such patients reach.",
            style="dim",
            highlight=False,
            markup=False,
        )
    for warning in judge.warnings:
        console.print(warning, style="bold yellow", highlight=False, markup=False, soft_wrap=True)
    flags = [row for case_id in outcome.done for row in outcome.flags[case_id]]
    console.print(
        f"Flags: {counted(flags)}. Reasons: {out}/flags.tsv",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _where(console: Any, out: Path, outcome: Outcome, *, report: bool) -> None:
    first = next(iter(outcome.done), None)
    if first is not None:
        name = first if len(outcome.done) == 1 else "CASE"
        page = f"{name}/preview.png"
        if report:
            page = "report.html" if len(outcome.done) > 1 else f"{name}/report.html"
        console.print(
            f"Look at the result before you use a number: open {out}/{page}",
            style="bold",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    if outcome.failed:
        console.print(
            f"What failed and why: {out}/cases.tsv", highlight=False, markup=False, soft_wrap=True
        )
    console.print("Research use, not a diagnosis.", highlight=False)


def case_table(
    case_id: str, records: Sequence[Record], flags: Sequence[FlagRow] | None = None
) -> Table:
    """One case: structures by relative uncertainty, the most doubtful first.

    Args:
        case_id: its name.
        records: its rows.
        flags: of a calibration, which decide the order first; None without one.
    """
    from rich.table import Table
    from rich.text import Text

    rows = lines(records, flags or ())
    found = [row for row in rows if row.status != "absent_prediction"]
    with_dice = any(row.dice is not None for row in rows)
    synthetic = any(record.dataset == SYNTHETIC_MARK for record in records)
    table = Table(
        title=Text(f"{case_id} (synthetic phantom, no patient)" if synthetic else case_id),
        title_justify="left",
        title_style="bold",
        caption=Text(_not_found(rows)),
        caption_justify="left",
        caption_style="yellow",
    )
    table.add_column("structure", no_wrap=True)
    table.add_column("side", no_wrap=True)
    dice = ("Dice",) if with_dice else ()
    predicted = () if flags is None else ("Dice*", "≥")
    for name in ("cm³", "HU", "fat %", "uncert.", "× med.", *dice, *predicted):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("remarks")
    for row in found:
        style = "red" if row.judged == "failed" else "yellow" if row.flags else None
        table.add_row(*_cells(row, with_dice, flags is not None), style=style)
    return table


def _not_found(rows: Sequence[Line]) -> str:
    """One line for what has no voxel, instead of a row of empty cells each."""
    missing: dict[str, list[str]] = {}
    for row in rows:
        if row.status == "absent_prediction":
            missing.setdefault(row.structure, []).append(row.side)
    words = [
        name if len(sides) > 1 or sides == ["both"] else f"{name} ({sides[0]})"
        for name, sides in missing.items()
    ]
    return f"not found: {', '.join(words)}" if words else ""


def _cells(row: Line, with_dice: bool, with_prediction: bool) -> list[str]:
    cells = [
        row.structure,
        "" if row.side == "both" else row.side,
        _number(row.volume_cm3, ".1f"),
        _number(row.mean_hu, ".1f"),
        _number(row.fat_percent, ".1f"),
        _number(row.uncertainty, ".1e"),
        _number(row.ratio, ".1f"),
    ]
    if with_dice:
        cells.append(_number(row.dice, ".3f"))
    if with_prediction:
        cells += [_number(row.predicted, ".2f"), _number(row.lower, ".2f")]
    return [*cells, ", ".join(row.flags)]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)

"""What ``mskt stats`` shows: tables for people, rows for programs, and what must be said beside."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from mskt.analysis.failure import Score
    from mskt.analysis.pairs import Pairs
    from mskt.analysis.statistics.bins import Bins, Set, Step
    from mskt.analysis.statistics.comparison import Comparison
    from mskt.analysis.statistics.comparison import Line as Compared
    from mskt.analysis.statistics.concordance import Concordance
    from mskt.analysis.statistics.concordance import Line as Agreed
    from mskt.analysis.statistics.figure import Figure
    from mskt.analysis.statistics.methods import Pairing
    from mskt.core.records import Record

Row = dict[str, object]
_MOST_NAMED = 5
_SHORT = {"paired t": "t", "Wilcoxon signed-rank": "Wilcoxon"}


def to_csv(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as text: header, 9 significant digits, empty where there is no number, Unix line ends."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if rows:
        writer.writerow(rows[0])
    for row in rows:
        writer.writerow(_cell(value) for value in row.values())
    return out.getvalue()


def _cell(value: object) -> object:
    if value is None:
        return ""
    return format(value, ".9g") if isinstance(value, float) else value


# --- compare -----------------------------------------------------------------------------------


def comparison_rows(found: Comparison) -> list[Row]:
    """One row a comparison."""
    return [
        {
            "metric": found.metric,
            "unit": found.unit,
            "first": line.first,
            "second": line.second,
            "structure": line.structure,
            "patients": line.result.n,
            "rows": line.rows,
            "mean_first": line.result.mean_first,
            "mean_second": line.result.mean_second,
            **_figure("difference", line.result.difference),
            "test": line.result.test,
            "why": line.result.why,
            "statistic": line.result.statistic,
            "p": line.result.p,
            "p_adjusted": line.p_adjusted,
            "correction": found.correction,
            "effect": line.result.effect,
            "effect_name": line.result.effect_name,
            "reason": line.result.reason,
        }
        for line in found.lines
    ]


def comparison_tables(found: Comparison) -> list[Table]:
    """One table for each pair of methods."""
    from rich.table import Table
    from rich.text import Text

    tables = []
    for pairing in found.pairings:
        own = [
            line
            for line in found.lines
            if (line.first, line.second) == (pairing.first, pairing.second)
        ]
        title = f"{found.metric}: {pairing.first} (A) against {pairing.second} (B)"
        table = Table(title=Text(title), title_justify="left", title_style="bold")
        table.add_column("structure", no_wrap=True)
        for name in ("patients", "A", "B", "A − B [95 % interval]"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("test")
        for name in ("p", "p adjusted", "effect"):
            table.add_column(name, justify="right", no_wrap=True)
        for line in own:
            table.add_row(*_compared(line, 4 if found.unit == "1" else 2))
        table.caption, table.caption_justify = Text(_untested(own)), "left"
        tables.append(table)
    return tables


def _untested(lines: Sequence[Compared]) -> str:
    """One line for each reason why there is no test, and what it holds for."""
    reasons: dict[str, list[str]] = {}
    for line in lines:
        if line.result.reason:
            reasons.setdefault(line.result.reason, []).append(line.structure)
    return "\n".join(f"no test: {_some(names)}: {why}" for why, names in reasons.items())


def _compared(line: Compared, digits: int) -> list[str]:
    result = line.result
    head = [
        line.structure,
        str(result.n),
        _number(result.mean_first, digits),
        _number(result.mean_second, digits),
    ]
    if result.reason:
        return [*head, "–", "none", "–", "–", "–"]
    return [
        *head,
        _with_interval(result.difference, digits),
        _SHORT[result.test],
        p_value(result.p),
        p_value(line.p_adjusted),
        f"{result.effect_name} {_number(result.effect, 2)}",
    ]


def below_comparison(found: Comparison) -> list[str]:
    """What the columns mean."""
    corrected = {
        "none": f"p adjusted: not corrected, though {_tests(found.tests)} done.",
    }.get(found.correction, f"p adjusted: {found.correction.capitalize()}, {_tests(found.tests)}.")
    return [
        "One value a patient: the mean over sides, of all structures the mean over structures. "
        f"{corrected}",
        "effect: d_z = mean/sd of the differences (paired t); r_rb = rank-biserial, −1 … 1 "
        "(Wilcoxon). Interval: of t, or of a bootstrap over patients beside Wilcoxon.",
    ]


def pairing_notes(pairing: Pairing, metric: str) -> list[str]:
    """What did not go into the comparison of two methods, and what else a reader must know."""
    pair = f"{pairing.first} against {pairing.second}"
    notes = []
    for name, cases in ((pairing.first, pairing.only_first), (pairing.second, pairing.only_second)):
        if cases:
            notes.append(f"{pair}: {len(cases)} cases only in {name}, left out: {_some(cases)}.")
    if pairing.lone_rows:
        notes.append(f"{pair}: {pairing.lone_rows} structures of common cases only in one of them.")
    if left_out := pairing.left_out():
        words = ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in left_out.items())
        notes.append(f"{pair}: {sum(left_out.values())} rows left out: {words}.")
    missed = left_out.get("absent_prediction", 0)
    if missed:
        notes.append(
            f"{pair}: structures that were not found have no {metric}; what remains flatters the "
            f"method that misses more ({pairing.first} missed {pairing.missed_first}, "
            f"{pairing.second} {pairing.missed_second}). Dice counts them as 0."
        )
    elif pairing.missed_first or pairing.missed_second:
        notes.append(
            f"{pair}: not found: {pairing.missed_first} structures by {pairing.first}, "
            f"{pairing.missed_second} by {pairing.second}; they count, {metric} 0 of an overlap."
        )
    if pairing.cases > len(set(pairing.patient)):
        notes.append(
            f"{pair}: {pairing.cases} cases of {len(set(pairing.patient))} patients; the cases of "
            "a patient are averaged."
        )
    if pairing.synthetic:
        part = "All" if pairing.synthetic == pairing.cases else str(pairing.synthetic)
        notes.append(
            f"{pair}: {part} of {pairing.cases} cases are synthetic phantoms, no patients."
        )
    return notes


def plain_pairing(pairing: Pairing) -> dict[str, Any]:
    """The same for programs."""
    return {
        "first": pairing.first,
        "second": pairing.second,
        "cases": pairing.cases,
        "patients": len(set(pairing.patient)),
        "only_first": list(pairing.only_first),
        "only_second": list(pairing.only_second),
        "left_out": pairing.left_out(),
        "missed_first": pairing.missed_first,
        "missed_second": pairing.missed_second,
        "synthetic_cases": pairing.synthetic,
    }


# --- agreement ---------------------------------------------------------------------------------

_FIGURES = (
    "ccc",
    "icc_agreement",
    "icc_consistency",
    "pearson",
    "bias",
    "loa_lower",
    "loa_upper",
    "mae",
)


def agreement_rows(found: Concordance) -> list[Row]:
    """One row a structure."""
    rows: list[Row] = []
    for line in found.lines:
        row: Row = {
            "metric": found.metric,
            "unit": found.unit,
            "measured": line.measured,
            "reference": line.reference,
            "structure": line.structure,
            "patients": line.result.n,
            "rows": line.rows,
        }
        for name in _FIGURES:
            row |= _figure(name, getattr(line.result, name))
        row |= {"spearman": line.result.spearman.value, "reason": _reasons(line)}
        rows.append(row)
    return rows


def _reasons(line: Agreed) -> str:
    """Why figures are missing, each reason once."""
    if line.result.reason:
        return line.result.reason
    found: dict[str, list[str]] = {}
    for name in (*_FIGURES, "spearman"):
        if reason := getattr(line.result, name).reason:
            found.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in found.items())


def agreement_tables(found: Concordance) -> list[Table]:
    """One table for each method."""
    from rich.table import Table
    from rich.text import Text

    tables = []
    for pairing in found.pairings:
        title = f"{found.metric} ({found.unit}): {pairing.first} against {pairing.second}"
        table = Table(title=Text(title), title_justify="left", title_style="bold")
        table.add_column("structure", no_wrap=True)
        names = ("n", "CCC", "ICC(2,1)", "ICC(3,1)", "r", "bias", "limits", "MAE")
        for name in names:
            table.add_column(name, justify="right")
        for line in found.lines:
            if line.measured == pairing.first:
                table.add_row(*_agreed(line))
        tables.append(table)
    return tables


def _agreed(line: Agreed) -> list[str]:
    result = line.result
    if result.reason:
        return [line.structure, str(result.n), f"none: {result.reason}"]
    lower, upper = result.loa_lower.value, result.loa_upper.value
    return [
        line.structure,
        str(result.n),
        *(
            _with_interval(figure, 3, "\n")
            for figure in (
                result.ccc,
                result.icc_agreement,
                result.icc_consistency,
                result.pearson,
            )
        ),
        _with_interval(result.bias, 2, "\n"),
        "–" if lower is None or upper is None else f"{lower:.2f} …\n{upper:.2f}",
        _with_interval(result.mae, 2, "\n"),
    ]


def below_agreement(found: Concordance) -> list[str]:
    """What the columns mean."""
    return [
        "One value a patient: the mean over sides, of all structures the mean over structures. In "
        "brackets 95 % intervals. bias and limits: of measured − reference (Bland–Altman); their "
        "intervals and Spearman's correlation: --out or --json.",
    ]


# --- bins --------------------------------------------------------------------------------------


def bin_rows(found: Bins) -> list[Row]:
    """One row a bin."""
    return [
        {
            "structure": one.structure,
            "bin": number,
            "low": step.low,
            "high": step.high,
            "n": step.n,
            "patients": step.patients,
            "mean_dice": step.mean,
            "median_dice": step.median,
            "u": step.u,
            "p": step.p,
            "p_adjusted": step.p_adjusted,
            "correction": found.correction,
            **_figure("larger_than_next", step.larger),
            "reason": step.reason,
        }
        for one in found.sets
        for number, step in enumerate(one.steps, 1)
    ]


def bin_tables(found: Bins) -> list[Table]:
    """One table for each structure, and those of all."""
    return [_bin_table(one) for one in found.sets]


def _bin_table(one: Set) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(one.structure),
        title_justify="left",
        title_style="bold",
        caption=Text(one.reason),
        caption_justify="left",
    )
    for name in ("uncertainty", "n", "patients", "mean Dice", "median Dice"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("larger than next", "p", "p adjusted"):
        table.add_column(name, justify="right")
    for step in one.steps:
        table.add_row(*_step(step))
    return table


def _step(step: Step) -> list[str]:
    cells = [
        f"{step.low:.3g} … {step.high:.3g}",
        str(step.n),
        str(step.patients),
        _number(step.mean, 3),
        _number(step.median, 3),
    ]
    if step.p is not None:
        return [*cells, _with_interval(step.larger, 2), p_value(step.p), p_value(step.p_adjusted)]
    reason = f" ({step.larger.reason})" if step.larger.reason else ""
    return [*cells, _with_interval(step.larger, 2) + reason, "–", "–"]


def below_bins(found: Bins) -> list[str]:
    """What the columns mean."""
    return [
        "larger than next: how often the Dice is larger than in the next bin (0.5: no difference). p: "
        f"Mann–Whitney U, {_tests(found.tests)}, correction: {found.correction}.",
        "all structures: one value a patient, its mean. Pooled, a patient has many values, so there "
        "is no test; brackets: 95 % interval of a bootstrap over patients.",
    ]


def bin_notes(pairs: Pairs, cut: int, metric: str, records: Sequence[Record]) -> list[str]:
    """What is not in the bins."""
    from mskt.cli.sources import SYNTHETIC_MARK

    notes = []
    if cut:
        notes.append(f"{cut} structures cut by the field of view are left out.")
    if missed := int((~pairs.found).sum()):
        notes.append(f"{missed} structures were not found: no uncertainty, in no bin.")
    if pairs.without_doubt:
        notes.append(f"{pairs.without_doubt} Dice without {metric}: left out.")
    if any(row.dataset == SYNTHETIC_MARK for row in records):
        notes.append("Cases are synthetic phantoms, no patients.")
    return notes


# --- cells -------------------------------------------------------------------------------------


def _figure(name: str, figure: Figure) -> Row:
    return {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high}


def p_value(p: float | None) -> str:
    """Three digits after the point; small ones as a bound."""
    if p is None:
        return "–"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _with_interval(figure: Figure | Score, digits: int, between: str = " ") -> str:
    low, high = getattr(figure, "low", None), getattr(figure, "high", None)
    text = _number(figure.value, digits)
    if low is None or high is None:
        return text
    return f"{text}{between}[{low:.{digits}f}, {high:.{digits}f}]"


def _tests(n: int) -> str:
    return f"{n} test{'s' * (n != 1)}"


def _some(names: Sequence[str]) -> str:
    listed = ", ".join(names[:_MOST_NAMED])
    return listed + (" …" if len(names) > _MOST_NAMED else "")

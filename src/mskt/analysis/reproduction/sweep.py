"""Accuracy against a number that was varied: training cases, or samples a voxel."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mskt.analysis.reproduction import published
from mskt.analysis.reproduction.accuracy import BEST, METRICS
from mskt.analysis.reproduction.findings import (
    Boxes,
    Column,
    Findings,
    Row,
    Table,
    count,
    interval,
    probability,
    spread,
    star,
)
from mskt.analysis.reproduction.inputs import Inputs, Model, Source, models_of, synthetic_note
from mskt.analysis.reproduction.values import points, summary, values_of
from mskt.analysis.statistics.comparison import Comparison, compare
from mskt.analysis.statistics.methods import ALL
from mskt.core.errors import InputError, UsageError

Against = Literal["next", "reference"]


@dataclass(frozen=True)
class Sweep:
    """What was varied.

    Attributes:
        field: of a source.
        what: in words.
        published: table of the paper, and the column with the number.
        against: each step is tested against the next, or against the reference.
        reference: the number that the papers recommend.
        makes: commands that make such runs.
    """

    field: Literal["draws", "training_cases"]
    what: str
    published: tuple[str, str]
    against: Against
    reference: int
    makes: tuple[str, ...]


def run(inputs: Inputs, sweep: Sweep) -> Findings:
    """Mean accuracy at each step, and whether steps differ on the patients that both have."""
    steps = _steps(inputs.sources, sweep)
    models = {number: _one(str(number), sources, sweep) for number, sources in steps.items()}
    rows: list[Row] = []
    plots: list[Boxes] = []
    for metric in [m for m in METRICS if all(model.has(m) for model in models.values())]:
        own = {
            n: values_of(m.method(metric), truncated=inputs.truncated).group(ALL)
            for n, m in models.items()
        }
        compared = _compare(models, metric, inputs, sweep)
        rows += [
            {
                sweep.field: number,
                "metric": metric,
                **summary(values),
                **compared.get(number, _untested("nothing to compare with")),
                **_published(sweep, number, metric),
            }
            for number, values in own.items()
        ]
        marks = {str(n): star(_p(compared.get(n))) for n in own}
        plots.append(
            Boxes(
                metric,
                f"{METRICS[metric]} by {sweep.what}",
                METRICS[metric],
                [points(str(number), "yours", values) for number, values in own.items()],
                marks,
                best=BEST[metric],
                below=f"One value a patient, mean over structures; * p < 0.05 against {_other(sweep)}.",
            )
        )
    notes = [*_only_printed(sweep, list(models)), *synthetic_note(inputs.records)]
    empty = all(row["mean"] is None for row in rows)
    return Findings([_table(rows, sweep)], plots, ("Soufi 2024",), notes, empty=empty)


def _one(name: str, sources: Sequence[Source], sweep: Sweep) -> Model:
    """The tables of one step, such as folds, as one method.

    Raises:
        UsageError: they are of several methods.
    """
    found = models_of([replace(source, name=name) for source in sources], "dice", named=True)
    if len(found) > 1:
        raise UsageError(
            "--results",
            f"hold several methods with {name} {sweep.what}: {', '.join(m.name for m in found)}.",
            "Give one method, which differs in this number only.",
        )
    return found[0]


def _p(row: Row | None) -> float | None:
    p = None if row is None else row["p_adjusted"]
    return p if isinstance(p, float) else None


def _other(sweep: Sweep) -> str:
    return "the next step" if sweep.against == "next" else f"{sweep.reference} (or the largest)"


def _steps(sources: Sequence[Source], sweep: Sweep) -> dict[int, list[Source]]:
    """Tables by their number, rising.

    Raises:
        UsageError: a table's number cannot be told, or there is one number only.
        InputError: runs of different numbers in one table.
    """
    found: dict[int, list[Source]] = {}
    unknown = []
    for source in sources:
        told = getattr(source, sweep.field)
        named = re.fullmatch(r"\D*(\d+)\D*", source.name)
        if len(told) > 1:
            raise InputError(
                source.name,
                f"holds runs of different numbers of {sweep.what}: {', '.join(map(str, sorted(told)))}",
                "Give each number its own folder.",
            )
        if told and named and named.group() == named.group(1) and {int(named.group(1))} != told:
            raise UsageError(
                source.name,
                f"is called {source.name}, but its runs say {next(iter(told))} {sweep.what}.",
                "Leave the name out, or correct it.",
            )
        if told or named:
            number = next(iter(told)) if told else int(named.group(1))  # type: ignore[union-attr]
            found.setdefault(number, []).append(source)
        else:
            unknown.append(source.name)
    if unknown:
        raise UsageError(
            "--results",
            f"do not tell the number of {sweep.what}: {', '.join(unknown)}.",
            f"Name them by it: --results {sweep.reference}={unknown[0]}",
        )
    if len(found) < 2:
        raise UsageError(
            "--results",
            f"are all of {next(iter(found))} {sweep.what}; two numbers or more are needed.",
            "\n".join(["For example:", *(f"  {line}" for line in sweep.makes)]),
        )
    return dict(sorted(found.items()))


def _compare(models: dict[int, Model], metric: str, inputs: Inputs, sweep: Sweep) -> dict[int, Row]:
    """Each step against its partner, corrected for the tests done here."""
    numbers = list(models)
    fixed = sweep.reference if sweep.reference in models else numbers[-1]
    partners = {
        number: numbers[place + 1] if place + 1 < len(numbers) else None
        for place, number in enumerate(numbers)
    }
    if sweep.against == "reference":
        partners = {number: fixed if number != fixed else None for number in numbers}
    done: list[tuple[int, int, Comparison]] = [
        (
            number,
            other,
            compare(
                [models[number].method(metric), models[other].method(metric)],
                metric,
                correction="none",
                truncated=inputs.truncated,
                draws=inputs.draws,
                seed=inputs.seed,
            ),
        )
        for number, other in partners.items()
        if other is not None
    ]
    return _corrected(done)


def _corrected(done: Sequence[tuple[int, int, Comparison]]) -> dict[int, Row]:
    from mskt.analysis.statistics.correction import adjust

    adjusted = adjust([found.lines[0].result.p for _, _, found in done], "bonferroni")
    rows: dict[int, Row] = {}
    for (number, other, found), p in zip(done, adjusted, strict=True):
        result = found.lines[0].result
        rows[number] = {
            "against": other,
            "common_patients": result.n,
            "difference": result.difference.value,
            "difference_low": result.difference.low,
            "difference_high": result.difference.high,
            "test": result.test,
            "p": result.p,
            "p_adjusted": p,
            "reason": result.reason,
        }
    return rows


def _untested(reason: str) -> Row:
    names = ("against", "common_patients", "difference", "difference_low", "difference_high")
    return {**dict.fromkeys(names), "test": "", "p": None, "p_adjusted": None, "reason": reason}


def _published(sweep: Sweep, number: int, metric: str) -> Row:
    name, key = sweep.published
    stem = {"dice": "dice", "assd": "asd_mm"}[metric]
    return {
        f"published_{part}": published.lookup(name, key, str(number), f"{stem}_{part}")
        for part in ("mean", "sd")
    }


def _only_printed(sweep: Sweep, own: Sequence[int]) -> list[str]:
    """Steps of the paper that the user has not."""
    name, key = sweep.published
    rest = [row for row in published.table(name) if int(row[key]) not in own]
    if not rest:
        return []
    told = "; ".join(
        f"{row[key]}: {row['dice_mean']} ± {row['dice_sd']}, {row['asd_mm_mean']} ± {row['asd_mm_sd']} mm"
        for row in rest
    )
    return [f"Published steps that you have not (Dice, ASD; another population): {told}."]


def _table(rows: Sequence[Row], sweep: Sweep) -> Table:
    columns = [
        count(sweep.field, sweep.what),
        Column("metric", lambda row: str(row["metric"]), left=True),
        count("patients", "patients"),
        spread("mean", "sd", "yours"),
        spread("published_mean", "published_sd", "Soufi*"),
        count("against", "against"),
        interval("difference", "difference [95 %]", 4),
        probability("p_adjusted", "p adjusted"),
    ]
    below = (
        "Mean ± sd over patients, each with the mean over structures (Dice 1, assd mm). Difference: "
        f"from {_other(sweep)}, on the patients of both; paired t or Wilcoxon after Shapiro–Wilk, "
        "Bonferroni."
    )
    return Table("", f"Accuracy by {sweep.what}", rows, columns, below)

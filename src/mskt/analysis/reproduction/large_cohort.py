"""Many cases without labels: which to look at (Soufi 2024, figure A.11)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mskt.analysis.failure import FAILED, INACCURATE, dice_threshold
from mskt.analysis.lines import fit_line
from mskt.analysis.reproduction.doubts import pairs_in, patients_of
from mskt.analysis.reproduction.findings import (
    Cloud,
    Findings,
    Panel,
    Row,
    Scatter,
    Table,
    count,
    significant,
    text,
)
from mskt.analysis.reproduction.inputs import Inputs, Model, models_of, synthetic_note
from mskt.analysis.reproduction.values import ordered, values_of
from mskt.analysis.statistics.methods import ALL
from mskt.core.errors import UsageError

PERCENTILES = (5, 95)
MIN_LABELLED = 10
"""Patients from which a line through Dice and doubt says something about the next one."""


@dataclass(frozen=True)
class Limits:
    """Doubts above which a case is flagged, learned from labelled cases; None with a reason."""

    inaccurate: float | None
    failed: float | None
    patients: int
    reason: str = ""

    def flag(self, doubt: float) -> str:
        """``ok``, ``inaccurate`` or ``failed``; ``unknown`` without limits."""
        if self.inaccurate is None or self.failed is None:
            return "unknown"
        if doubt > self.failed:
            return "failed"
        return "inaccurate" if doubt > self.inaccurate else "ok"


def compute(inputs: Inputs) -> Findings:
    """Flags by the mean uncertainty over the structures, and cases at its 5th and 95th percentile."""
    models = models_of(inputs.sources, inputs.doubt, named=inputs.named)
    notes: list[str] = []
    limits = {model.name: _limits(model, inputs, notes) for model in models}
    rows: list[Row] = []
    summary: list[Row] = []
    doubts: dict[str, dict[str, float]] = {}
    exemplars: list[tuple[str, str]] = []
    for model in models:
        own = _cases(model, inputs)
        doubts[model.name] = own
        found = _exemplars(own)
        rows += _rows(model.name, own, limits[model.name], found)
        summary.append(_summary(model.name, own, limits[model.name]))
        several = len(models) > 1
        exemplars += [
            (case, f"p{percent:02d}_{model.name}" if several else f"p{percent:02d}")
            for percent, case in found.items()
        ]
    own_structures = [_by_structure(model, inputs) for model in models]
    notes.append(
        "The papers flag by the same rule, but print no numbers of flagged cases; their cohort had "
        "2579 cases."
    )
    return Findings(
        [_summary_table(summary), _case_table(rows), *own_structures],
        [_plot(doubts, limits, inputs)],
        ("Soufi 2024",),
        [*notes, *synthetic_note(inputs.records)],
        tuple(exemplars),
        empty=not rows,
    )


def _cases(model: Model, inputs: Inputs) -> dict[str, float]:
    """Mean doubt over the structures of each case; each structure counts once."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in model.method(inputs.doubt).rows.values():
        counts = row.value is not None and (inputs.truncated or row.status == "ok")
        if counts and row.value is not None:
            found.setdefault(row.case_id, {}).setdefault(row.structure, []).append(row.value)
    return {
        case: float(np.mean([np.mean(values) for values in own.values()]))
        for case, own in sorted(found.items())
    }


def _limits(model: Model, inputs: Inputs, notes: list[str]) -> Limits:
    """From ``--labelled``, or from the cases themselves where they have a Dice."""
    source: Model | None = model if model.has("dice") else None
    if inputs.labelled:
        key = {(r.segmenter, r.uncertainty) for r in model.records}
        fits = [
            other
            for other in models_of(inputs.labelled, "dice", named=False)
            if {(r.segmenter, r.uncertainty) for r in other.records} & key
        ]
        if not fits:
            raise UsageError(
                "--labelled",
                f"has no results of {model.name}'s method.",
                "A doubt means something else in each method: label cases of the same one.",
            )
        source = fits[0]
    if source is None:
        reason = "no labelled cases: --labelled RESULTS"
        notes.append(f"{model.name}: no flags, {reason}.")
        return Limits(None, None, 0, reason)
    if not inputs.labelled:
        notes.append(
            f"{model.name}: the thresholds come from the same cases, which have labels. For the "
            "paper's question learn them from others: --labelled."
        )
    found = learn(source, inputs)
    if found.reason:
        notes.append(f"{model.name}: no flags, {found.reason}.")
    return found


def learn(model: Model, inputs: Inputs) -> Limits:
    """The line Dice = a·U + b of the patients' means, inverted at the two Dice thresholds."""
    pairs, _ = pairs_in(model, inputs)
    own = patients_of(pairs)
    if len(own) < MIN_LABELLED:
        return Limits(None, None, len(own), f"{len(own)} labelled patients, {MIN_LABELLED} needed")
    line = fit_line(own.doubt, own.dice)
    if line is None or line.slope >= 0:
        return Limits(None, None, len(own), "the Dice does not fall as the uncertainty rises")
    inaccurate, failed = (
        (dice_threshold(own.dice, k) - line.intercept) / line.slope for k in (INACCURATE, FAILED)
    )
    if failed <= inaccurate:
        return Limits(None, None, len(own), "more than half of the labelled Dice are equal")
    return Limits(inaccurate, failed, len(own))


def _exemplars(own: Mapping[str, float]) -> dict[int, str]:
    """The case nearest to each percentile."""
    if not own:
        return {}
    values = np.array(list(own.values()))
    names = list(own)
    return {
        percent: names[int(np.argmin(np.abs(values - np.percentile(values, percent))))]
        for percent in PERCENTILES
    }


def _rows(
    model: str, own: Mapping[str, float], limits: Limits, found: Mapping[int, str]
) -> list[Row]:
    """Every case, the most doubtful first."""
    ranks = {case: place for place, case in enumerate(sorted(own, key=lambda c: own[c]), 1)}
    rows: list[Row] = []
    for case in sorted(own, key=lambda c: (-own[c], c)):
        percents = [f"{percent}th percentile" for percent, name in found.items() if name == case]
        rows.append(
            {
                "model": model,
                "case_id": case,
                "mean_uncertainty": own[case],
                "part_below": ranks[case] / len(own),
                "flag": limits.flag(own[case]),
                "exemplar": ", ".join(percents),
            }
        )
    return rows


def _summary(model: str, own: Mapping[str, float], limits: Limits) -> Row:
    flags = [limits.flag(doubt) for doubt in own.values()]
    values = np.array(list(own.values()), np.float64)
    return {
        "model": model,
        "cases": len(own),
        **{
            f"{flag}_cases": flags.count(flag) for flag in ("ok", "inaccurate", "failed", "unknown")
        },
        **{
            f"p{percent:02d}": float(np.percentile(values, percent)) if values.size else None
            for percent in (5, 50, 95)
        },
        "limit_inaccurate": limits.inaccurate,
        "limit_failed": limits.failed,
        "labelled_patients": limits.patients,
        "reason": limits.reason,
    }


def _by_structure(model: Model, inputs: Inputs) -> Table:
    """Which structures are the doubtful ones in this cohort."""
    found = values_of(model.method(inputs.doubt), truncated=inputs.truncated)
    rows: list[Row] = []
    for name in (*ordered(found.by), ALL):
        values = np.array(list((found.group(ALL) if name == ALL else found.of(name)).values()))
        rows.append(
            {
                "model": model.name,
                "structure": name,
                "patients": values.size,
                **{
                    f"p{percent:02d}": float(np.percentile(values, percent))
                    if values.size
                    else None
                    for percent in (5, 50, 95)
                },
                "missed": sum(found.missed.values()) if name == ALL else found.missed[name],
            }
        )
    columns = [
        text("structure", "structure"),
        count("patients", "patients"),
        *(significant(f"p{percent:02d}", f"{percent} %") for percent in (5, 50, 95)),
        count("missed", "missed"),
    ]
    title = f"{inputs.doubt} of each structure: {model.name}"
    return Table(f"structures_{model.name}".replace("/", "_"), title, rows, columns, "Percentiles.")


def _summary_table(rows: Sequence[Row]) -> Table:
    columns = [
        text("model", "model"),
        count("cases", "cases"),
        *(count(f"{flag}_cases", flag) for flag in ("ok", "inaccurate", "failed", "unknown")),
        *(significant(f"p{percent:02d}", f"{percent} %") for percent in (5, 50, 95)),
        significant("limit_inaccurate", "limit inaccurate"),
        significant("limit_failed", "limit failed"),
        count("labelled_patients", "labelled patients"),
    ]
    below = (
        "Mean uncertainty over the structures of a case: percentiles, and the limits at which the line "
        "through Dice and uncertainty of the labelled patients meets median − 2, − 3 · 1.4826 MAD of "
        "their Dice."
    )
    return Table("", "Cases flagged by their uncertainty", rows, columns, below)


_MOST_SHOWN = 20


def _case_table(rows: Sequence[Row]) -> Table:
    columns = [
        text("model", "model"),
        text("case_id", "case"),
        significant("mean_uncertainty", "mean uncertainty"),
        text("flag", "flag"),
        text("exemplar", "exemplar"),
    ]
    return Table("cases", "The cases, the most doubtful first", rows, columns, most=_MOST_SHOWN)


def _plot(
    doubts: Mapping[str, Mapping[str, float]], limits: Mapping[str, Limits], inputs: Inputs
) -> Scatter:
    """Two models on two axes, as in the paper; else each against the rank of the case."""
    names = list(doubts)
    common = [case for case in doubts[names[0]] if len(names) == 2 and case in doubts[names[1]]]
    if common:
        first, second = names
        panel = Panel(
            "each point a case",
            _clouds(common, doubts[first], doubts[second], limits[second]),
            _lines(limits[first]),
            _lines(limits[second]),
        )
        return Scatter("scatter", "Mean uncertainty of each case", first, second, [panel])
    panels = []
    for name, own in doubts.items():
        cases = sorted(own, key=lambda c: own[c])
        place = {case: 100 * (k + 0.5) / len(cases) for k, case in enumerate(cases)}
        panels.append(
            Panel(name, _clouds(cases, place, own, limits[name]), level=_lines(limits[name]))
        )
    title = "Mean uncertainty of each case, in order"
    return Scatter("scatter", title, "part of the cases (%)", f"mean {inputs.doubt}", panels)


def _clouds(
    cases: Sequence[str], x: Mapping[str, float], y: Mapping[str, float], limits: Limits
) -> list[Cloud]:
    """One series for each flag that occurs, in one order."""
    found = []
    for flag in ("ok", "inaccurate", "failed", "unknown"):
        own = tuple(case for case in cases if limits.flag(y[case]) == flag)
        if own:
            found.append(Cloud(flag, own, tuple(x[c] for c in own), tuple(y[c] for c in own)))
    return found


def _lines(limits: Limits) -> list[tuple[str, float]]:
    return [
        (name, place)
        for name, place in (("inaccurate", limits.inaccurate), ("failed", limits.failed))
        if place is not None
    ]

"""Everything a benchmark has found, in one JSON-ready content; tables and pages only show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from mskt.analysis.benchmarking.doubt import DoubtFigures, doubt_figures
from mskt.analysis.benchmarking.ranking import Place, Ranking, rank
from mskt.analysis.benchmarking.timing import Timing, timing, timing_from_outside
from mskt.analysis.failure import Score
from mskt.analysis.statistics.methods import Method, methods_of
from mskt.report.benchmark.cells import CellResult
from mskt.report.outputs import NOT_EVALUATED

SCHEMA = 1
DICE, ASSD = "dice", "assd"


def content(
    results: Sequence[CellResult],
    facts: Mapping[str, Any],
    dataset_mark: str,
    *,
    truncated: bool = False,
    draws: int = 1000,
) -> dict[str, Any]:
    """Rank the cells and put together what is known of each.

    Args:
        results: in the order of the call.
        facts: of the call: data, settings, machine.
        dataset_mark: what ``dataset`` says of cases that are phantoms.
        truncated: count structures cut by the field of view too.
        draws: of each bootstrap.
    """
    ranked = partial(rank, truncated=truncated, draws=draws)
    dice = ranked(_methods(results, DICE, dataset_mark), DICE, "higher")
    assd = ranked(_methods(results, ASSD, dataset_mark), ASSD, "lower")
    synthetic = {
        row.case_id for one in results for row in one.records if row.dataset == dataset_mark
    }
    cells = [_cell(one, dice, assd, dataset_mark, truncated) for one in results]
    return {
        "schema": SCHEMA,
        **facts,
        "synthetic_cases": len(synthetic),
        "cells": cells,
        "comparisons": {DICE: _comparison(dice, results), ASSD: _comparison(assd, results)},
        "notes": _notes(results, dice, assd, len(synthetic)),
    }


def _methods(results: Sequence[CellResult], metric: str, mark: str) -> list[Method]:
    """One method a cell; cells without that metric have none."""
    found = []
    for one in results:
        if any(row.metric == metric and row.value is not None for row in one.records):
            method = methods_of([(one.key, one.records)], metric, mark)[0]
            found.append(replace(method, name=one.key))
    return found


def _cell(
    one: CellResult, dice: Ranking, assd: Ranking, mark: str, truncated: bool
) -> dict[str, Any]:
    place = dice.place(one.key)
    counted = [case for case in (dice.cases if place else one.cases) if case in one.runs]
    alone = rank(_methods([one], DICE, mark), DICE, "higher", truncated=truncated).places
    rows = [row for row in one.records if row.case_id in set(counted)]
    return {
        "key": one.key,
        "segmenter": one.name,
        "uncertainty": one.uncertainty,
        "device": _device(one),
        "status": one.status,
        "reason": one.reason,
        "cases": len(one.cases),
        "done": len(one.runs),
        "failed": dict(one.failed),
        "trained_here": one.trained,
        "training_seconds": one.training_seconds,
        **one.facts,
        "rank": place.rank if place else None,
        "not_ranked": "" if place else _why_not(one, dice),
        "cases_counted": len(counted),
        "dice": _value(place or next(iter(alone), None)),
        "assd": _value(assd.place(one.key)),
        "doubt": _doubt(doubt_figures(rows, truncated=truncated)) if one.outside is None else None,
        **_resources(one, counted),
    }


def _device(one: CellResult) -> str:
    """Where it was computed, where ``auto`` or ``cuda`` was asked for."""
    told = {str(run.get("device") or "") for run in one.runs.values()} - {""}
    return told.pop() if one.outside is None and len(told) == 1 else one.device


def _why_not(one: CellResult, dice: Ranking) -> str:
    if one.reason and not one.runs:
        return one.status
    return dice.left_out.get(one.key, "no Dice: nothing to compare with in the references")


def _value(place: Place | None) -> dict[str, Any] | None:
    if place is None:
        return None
    return {
        "mean": place.mean,
        "low": place.interval.low,
        "high": place.interval.high,
        "patients": len(place.by_patient),
        "missed": place.missed,
        "rank": place.rank,
        "mark": place.mark,
        "by_patient": dict(place.by_patient),
    }


def _doubt(found: DoubtFigures) -> dict[str, Any]:
    def told(name: str, score: Score) -> dict[str, Any]:
        return {name: score.value, f"{name}_reason": score.reason}

    return {
        "pairs": found.pairs,
        "missed": found.missed,
        "inaccurate": found.inaccurate,
        **told("auroc", found.auroc),
        **told("aurc", found.aurc),
        **told("spearman", found.spearman),
    }


def _resources(one: CellResult, counted: Sequence[str]) -> dict[str, Any]:
    if one.outside is not None:
        took = timing_from_outside([one.outside[case] for case in counted if case in one.outside])
    else:
        took = timing([one.runs[case].get("seconds", {}) for case in counted])
    return {
        **_time(took),
        "peak_memory_bytes": _largest(p.get("peak_memory_bytes") for p in one.processes),
        "peak_gpu_memory_bytes": _largest(
            run.get("peak_gpu_memory_bytes") for run in one.runs.values()
        ),
        "energy_j_per_case": _energy(one.processes),
    }


def _time(took: Timing) -> dict[str, Any]:
    return {
        "seconds_per_case": took.seconds,
        "seconds_sd": took.sd,
        "cases_timed": took.cases,
        "stages": dict(took.stages),
        "cases_per_hour": took.cases_per_hour,
    }


def _largest(values: Any) -> int | None:
    known = [value for value in values if value is not None]
    return max(known) if known else None


def _energy(processes: Sequence[Mapping[str, Any]]) -> float | None:
    """Joules a case; None unless every process that did cases could tell it."""
    busy = [p for p in processes if p.get("cases_done")]
    if not busy or any(p.get("energy_j") is None for p in busy):
        return None
    return float(sum(p["energy_j"] for p in busy) / sum(p["cases_done"] for p in busy))


def _comparison(found: Ranking, results: Sequence[CellResult]) -> dict[str, Any]:
    labels = {one.key: one.label for one in results}
    return {
        "metric": found.metric,
        "unit": found.unit,
        "best": found.places[0].name if found.places else None,
        "cases": list(found.cases),
        "structures": list(found.structures),
        "rows": found.rows,
        "tests": found.tests,
        "correction": "holm",
        "against_the_best": [_test(place) for place in found.places if place.test is not None],
        "left_out": {labels[key]: why for key, why in found.left_out.items()},
    }


def _test(place: Place) -> dict[str, Any]:
    assert place.test is not None
    test = place.test
    return {
        "key": place.name,
        "patients": test.n,
        "difference": test.difference.value,
        "low": test.difference.low,
        "high": test.difference.high,
        "test": test.test,
        "p": test.p,
        "p_adjusted": place.p_adjusted,
        "mark": place.mark,
        "reason": test.reason,
    }


def _notes(
    results: Sequence[CellResult], dice: Ranking, assd: Ranking, synthetic: int
) -> list[str]:
    """What a reader must know beside the numbers."""
    notes = []
    if synthetic:
        cases = len({case for one in results for case in one.cases})
        part = "All" if synthetic == cases else str(synthetic)
        notes.append(f"{part} of {cases} cases are synthetic phantoms, no patients.")
    reasons = {p.test.reason for p in dice.places if p.test is not None and p.test.reason}
    notes += [f"No test of Dice: {reason}." for reason in sorted(reasons)]
    if len(dice.structures) == 1:
        notes.append(f"One structure only is compared: {dice.structures[0]}.")
    if len(dice.cases) == 1:
        notes.append("One case only is compared: nothing can be said about another one.")
    if len(dice.places) == 1:
        notes.append("One cell only could be ranked: there is nobody to compare it with.")
    labels = {one.key: one.label for one in results}
    for metric, found in (("Dice", dice), ("ASSD", assd)):
        notes += [
            f"Not ranked by {metric}: {labels[k]}: {why}." for k, why in found.left_out.items()
        ]
    notes += [
        f"{one.label}, case {case}: {note}"
        for one in results
        for case, run in one.runs.items()
        for note in run.get("notes", ())
        if note.startswith(NOT_EVALUATED)
    ]
    missed = [f"{labels[p.name]} {p.missed}" for p in dice.places if p.missed]
    if missed:
        notes.append(
            f"Structures that were not found have Dice 0 and no ASSD: {', '.join(missed)}. ASSD is "
            "compared where all have one, which flatters whoever misses more."
        )
    if any(one.trained for one in results):
        others = sorted({o.name for o in results if not o.trained and o.outside is None})
        if others:
            notes.append(
                f"Not trained here: {', '.join(others)}. Whether their weights have seen these cases "
                "is not known."
            )
    return notes

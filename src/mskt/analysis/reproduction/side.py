"""Affected against unaffected side (Soufi 2024, table 6 and figure 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mskt.analysis.failure import bootstrap
from mskt.analysis.reproduction import published
from mskt.analysis.reproduction.findings import (
    Boxes,
    Column,
    Findings,
    Row,
    Table,
    count,
    probability,
    significant,
    star,
    text,
    value,
)
from mskt.analysis.reproduction.inputs import (
    Facts,
    Inputs,
    Model,
    models_of,
    one_model,
    synthetic_note,
)
from mskt.analysis.reproduction.values import BONES, HIP, THIGH, Values, ordered, points, values_of
from mskt.analysis.statistics.agreement import ccc
from mskt.analysis.statistics.concordance import implied_reference
from mskt.analysis.statistics.correction import adjust
from mskt.analysis.statistics.figure import Figure
from mskt.analysis.statistics.methods import Method
from mskt.analysis.statistics.paired import paired
from mskt.core.errors import InputError, UsageError
from mskt.core.records import Record

AFFECTED, UNAFFECTED = "affected", "unaffected"
_COMPARED = {
    "dice": "Dice",
    "assd": "average surface distance (mm)",
    "ave": "volume error (%)",
    "aie": "error of mean HU (HU)",
}
Sided = Mapping[str, Values]


def compute(inputs: Inputs) -> Findings:
    """Volumes and densities of the two sides, agreement with the reference, and accuracy by side."""
    model = one_model(inputs, "volume")
    known = {case: facts for case, facts in inputs.facts.items() if facts.affected_side}
    notes = _who(model, known)
    rows: list[Row] = []
    measure, volumes, remark = _volumes(model, known)
    true = _reference_volumes(inputs, model, known, measure)
    rows += _agreement(measure, volumes, true, known, inputs)
    if model.has("mean_hu"):
        density = model.method("mean_hu")
        reference, errors = _reference_density(inputs, model)
        rows += _agreement("mean_hu", density, reference, known, inputs, errors)
        if reference is None:
            notes.append(
                "The reference's mean HU is not in the results (aie is an absolute error): MAE is the "
                "mean of aie, and there is no CCC. To have it, give the reference masks' own table: "
                "mskt run CASES --segmenter precomputed --option masks=MASKS --uncertainty deterministic "
                "--out REF, then --reference REF."
            )
    if remark:
        notes.append(remark)
    if true is None:
        notes.append("No reference volumes (ravd, or --reference): no agreement.")
    groups, plots = _by_group(model, known, inputs)
    tables = [_table(rows)] + ([_group_table(groups)] if groups else [])
    empty = all(row["affected_auto"] is None for row in rows)
    return Findings(
        tables, plots, ("Soufi 2024",), [*notes, *synthetic_note(model.records)], empty=empty
    )


def _who(model: Model, known: Mapping[str, Facts]) -> list[str]:
    cases = dict.fromkeys(row.case_id for row in model.records)
    rest = [case for case in cases if case not in known]
    if not rest:
        return []
    shown = ", ".join(rest[:3]) + (" …" if len(rest) > 3 else "")
    return [f"{len(rest)} of {len(cases)} cases have no affected side and are left out: {shown}."]


def _volumes(model: Model, known: Mapping[str, Facts]) -> tuple[str, Method, str]:
    """Volume over squared height, as the paper has it; plain volume where a height is unknown."""
    plain = model.method("volume")
    if model.has("normalized_volume"):
        method = model.method("normalized_volume")
        if set(known) & set(plain.cases) <= set(method.cases):
            return "normalized_volume", method, ""
    lacking = [case for case in plain.cases if case in known and not known[case].height_m]
    if not lacking:
        return "normalized_volume", by_height(plain, known), ""
    remark = (
        f"The height of {len(lacking)} cases is unknown ({', '.join(lacking[:3])}): volumes are in cm³, "
        "not over squared height as in the paper. Give --cases the column height_m."
    )
    return "volume", plain, remark


def by_height(method: Method, known: Mapping[str, Facts]) -> Method:
    """Volumes over squared height, cm³/m²; only cases whose height is known."""
    rows = {
        key: _over(row, known[key[0]].height_m or 0.0)
        for key, row in method.rows.items()
        if key[0] in known and known[key[0]].height_m
    }
    return replace(method, rows=rows, unit="cm3/m2")


def _over(row: Record, height_m: float) -> Record:
    own = None if row.value is None else row.value / height_m**2
    return replace(row, metric="normalized_volume", unit="cm3/m2", value=own)


def _reference_volumes(
    inputs: Inputs, model: Model, known: Mapping[str, Facts], measure: str
) -> Method | None:
    """The reference's volumes: of ``--reference``, else out of ravd."""
    if inputs.reference is not None:
        plain = models_of([inputs.reference], "volume", named=True)[0].method("volume")
        # Without this, names that differ would look like a reference of other patients.
        if not set(plain.cases) & set(model.method("volume").cases):
            raise UsageError(
                "--reference",
                "has no case of the results.",
                "Give results of the same cases, named alike.",
            )
    else:
        try:
            plain = implied_reference(model.method("volume"), model.records)
        except InputError:
            return None
    return by_height(plain, known) if measure == "normalized_volume" else plain


def _reference_density(inputs: Inputs, model: Model) -> tuple[Method | None, Method | None]:
    """The reference's mean HU, else the absolute errors."""
    if inputs.reference is not None:
        found = models_of([inputs.reference], "volume", named=True)[0]
        if found.has("mean_hu"):
            return found.method("mean_hu"), None
    return None, model.method("aie") if model.has("aie") else None


def _sided(method: Method, known: Mapping[str, Facts], truncated: bool) -> dict[str, Values]:
    """The method's values of the affected and of the other side; whole structures as affected."""
    split: dict[str, dict[tuple[str, str, str], Record]] = {AFFECTED: {}, UNAFFECTED: {}}
    sided = {key[:2] for key in method.rows if key[2] != "both"}
    for (case, structure, side), row in method.rows.items():
        if case not in known:
            continue
        if side == "both":
            if (case, structure) not in sided:
                split[AFFECTED][case, structure, "both"] = row
            continue
        which = AFFECTED if side == known[case].affected_side else UNAFFECTED
        split[which][case, structure, "both"] = row
    return {
        which: values_of(replace(method, rows=rows), side="both", truncated=truncated)
        for which, rows in split.items()
    }


def _agreement(
    measure: str,
    measured: Method,
    reference: Method | None,
    known: Mapping[str, Facts],
    inputs: Inputs,
    errors: Method | None = None,
) -> list[Row]:
    """One row a structure, as table 6 has it."""
    own = _sided(measured, known, inputs.truncated)
    true = None if reference is None else _sided(reference, known, inputs.truncated)
    off = None if errors is None else _sided(errors, known, inputs.truncated)
    names = ordered(dict.fromkeys(name for found in own.values() for name in found.by))
    return [_row(measure, measured.unit, name, own, true, off, inputs) for name in names]


def _row(
    measure: str,
    unit: str,
    name: str,
    own: Sided,
    true: Sided | None,
    off: Sided | None,
    inputs: Inputs,
) -> Row:
    row: Row = {"structure": name, "measure": measure, "unit": unit}
    both: list[tuple[str, float, float]] = []
    for which in (AFFECTED, UNAFFECTED):
        values = own[which].of(name)
        known = {} if true is None else true[which].of(name)
        pairs = [(who, x, known[who]) for who, x in values.items() if who in known]
        both += pairs
        wrong = [abs(x - y) for _, x, y in pairs]
        if true is None and off is not None:
            wrong = list(off[which].of(name).values())
        row |= {
            f"{which}_patients": len(pairs) if true is not None else len(values),
            f"{which}_gt": _mean([y for _, _, y in pairs]),
            f"{which}_auto": _mean([x for _, x, _ in pairs] or list(values.values())),
            f"{which}_mae": _mean(wrong),
        }
    found = _ccc(both, inputs) if true is not None else Figure(None, reason="no reference")
    row |= {
        "ccc": found.value,
        "ccc_low": found.low,
        "ccc_high": found.high,
        "reason": found.reason,
    }
    if not row[f"{UNAFFECTED}_patients"]:
        row["reason"] = "; ".join(filter(None, [found.reason, "one value, not two sides"]))
    printed = {
        f"published_{key}": _published(name, measure, key)
        for key in (
            *(
                f"{which}_{part}"
                for which in (AFFECTED, UNAFFECTED)
                for part in ("gt", "auto", "mae")
            ),
            "ccc",
        )
    }
    return row | printed


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _ccc(both: Sequence[tuple[str, float, float]], inputs: Inputs) -> Figure:
    """Concordance over both sides; a patient has two values, so the interval is of a bootstrap."""
    if len(both) < 3:
        return Figure(None, reason=f"{len(both)} values: too few")
    who = [name for name, _, _ in both]
    x, y = (np.array([pair[k] for pair in both], np.float64) for k in (1, 2))
    found = ccc(x, y)
    if found.value is None:
        return found
    between = bootstrap(
        lambda rows: ccc(x[rows], y[rows]).value, who, draws=inputs.draws, seed=inputs.seed
    )
    return Figure(found.value, between.low, between.high, between.reason)


def _published(structure: str, measure: str, column: str) -> float | None:
    for row in published.table("soufi2024_table6_volume_density"):
        if row["structure"] == structure and row["measure"] == measure:
            return published.number(row[column])
    return None


# --- figure 5 ----------------------------------------------------------------------------------


def _by_group(
    model: Model, known: Mapping[str, Facts], inputs: Inputs
) -> tuple[list[Row], list[Boxes]]:
    """Accuracy and uncertainty of hip muscles, thigh muscles and bones, by side, paired."""
    axes = {**_COMPARED, inputs.doubt: inputs.doubt}
    found: list[tuple[str, str, dict[str, dict[str, float]]]] = []
    for metric in [name for name in axes if model.has(name)]:
        own = _sided(model.method(metric), known, inputs.truncated)
        pairs = {name for name in own[AFFECTED].by if name in own[UNAFFECTED].by}
        for group in (HIP, THIGH, BONES):
            values = {
                which: Values(
                    {name: side.of(name) for name in side.by if name in pairs}, {}, {}, side.unit
                ).group(group)
                for which, side in own.items()
            }
            if any(values.values()):
                found.append((metric, group, values))
    rows = [_tested(metric, group, values, inputs) for metric, group, values in found]
    corrected = adjust(
        [p if isinstance(p := row["p"], float) else None for row in rows], "bonferroni"
    )
    rows = [{**row, "p_adjusted": p} for row, p in zip(rows, corrected, strict=True)]
    return rows, _boxes(axes, found, rows)


def _tested(
    metric: str, group: str, values: Mapping[str, Mapping[str, float]], inputs: Inputs
) -> Row:
    first, second = values[AFFECTED], values[UNAFFECTED]
    both = [who for who in first if who in second]
    result = paired(
        [first[w] for w in both], [second[w] for w in both], draws=inputs.draws, seed=inputs.seed
    )
    return {
        "group": group,
        "metric": metric,
        "patients": result.n,
        "affected_mean": result.mean_first,
        "unaffected_mean": result.mean_second,
        "difference": result.difference.value,
        "difference_low": result.difference.low,
        "difference_high": result.difference.high,
        "test": result.test,
        "p": result.p,
        "reason": result.reason,
    }


def _boxes(
    axes: Mapping[str, str],
    found: Sequence[tuple[str, str, Mapping[str, Mapping[str, float]]]],
    rows: Sequence[Row],
) -> list[Boxes]:
    plots = []
    for metric, axis in axes.items():
        drawn = [
            points(group, which, values[which])
            for name, group, values in found
            if name == metric
            for which in (UNAFFECTED, AFFECTED)
        ]
        if not drawn:
            continue
        marks = {
            str(row["group"]): star(p if isinstance(p := row["p_adjusted"], float) else None)
            for row in rows
            if row["metric"] == metric
        }
        below = "One value a patient, mean over the group; lines join the sides of a patient. * p < 0.05."
        plots.append(Boxes(metric, f"{axis} by side", axis, drawn, marks, paired=True, below=below))
    return plots


def _table(rows: Sequence[Row]) -> Table:
    columns = [
        text("structure", "structure"),
        text("unit", "unit"),
        count("affected_patients", "n"),
        *(value(f"{AFFECTED}_{part}", f"aff. {head}", 2) for part, head in _PARTS.items()),
        *(value(f"{UNAFFECTED}_{part}", f"unaff. {head}", 2) for part, head in _PARTS.items()),
        value("ccc", "CCC"),
        value("published_affected_auto", "aff. Soufi*", 2),
        value("published_unaffected_auto", "unaff. Soufi*", 2),
        value("published_ccc", "CCC Soufi*", 2),
    ]
    below = (
        "ref.: mean of the reference, auto: of the segmentation, on the same patients. CCC over both "
        "sides (95 % interval, of a bootstrap over patients, in the file). Whole structures such as "
        "the sacrum stand under the affected side, as in the paper."
    )
    return Table("", "Volume and density of the affected and the other side", rows, columns, below)


_PARTS = {"gt": "ref.", "auto": "auto", "mae": "MAE"}


def _group_table(rows: Sequence[Row]) -> Table:
    columns = [
        text("group", "group"),
        text("metric", "metric"),
        count("patients", "patients"),
        significant("affected_mean", "affected"),
        significant("unaffected_mean", "unaffected"),
        significant("difference", "difference"),
        Column(
            "95 %",
            lambda row: (
                f"{row['difference_low']:.2g} … {row['difference_high']:.2g}"
                if row["difference_low"] is not None and row["difference_high"] is not None
                else "–"
            ),
        ),
        text("test", "test"),
        probability("p_adjusted", "p adjusted"),
    ]
    below = "Structures that have two sides. Paired t or Wilcoxon after Shapiro–Wilk, Bonferroni."
    return Table("groups", "Accuracy and uncertainty by side", rows, columns, below)

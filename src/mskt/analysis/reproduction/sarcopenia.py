"""Muscle volume over squared height against sarcopenia (Kim 2024, figures 7 and 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mskt.analysis.pairs import patient_of
from mskt.analysis.reproduction import published
from mskt.analysis.reproduction.findings import (
    Column,
    Findings,
    HeatMap,
    Row,
    Table,
    count,
    interval,
    probability,
    spread,
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
from mskt.analysis.reproduction.side import by_height
from mskt.analysis.reproduction.values import MUSCLES, Values, members, ordered, summary, values_of
from mskt.analysis.statistics.agreement import (
    bland_altman,
    icc_agreement,
    icc_consistency,
    pearson,
)
from mskt.analysis.statistics.concordance import implied_reference
from mskt.analysis.statistics.correction import adjust
from mskt.analysis.statistics.figure import Figure
from mskt.analysis.statistics.independent import mann_whitney
from mskt.analysis.statistics.methods import Method
from mskt.core.anatomy import elements_named, label_set
from mskt.core.errors import InputError

CUT_OFF = {"F": 5.4, "M": 7.0}
"""Skeletal muscle index (kg/m²) below which it is low: AWGS 2019, as in Kim 2024."""
GROUPS = ("anterior", "medial", "posterior", "gluteal", "else")
SEXES = {"F": "women", "M": "men"}


def compute(inputs: Inputs) -> Findings:
    """Correlation by sex of each muscle and muscle group; agreement of volumes with the reference."""
    model = one_model(inputs, "volume")
    who, notes = diagnosed(model, inputs.facts)
    volumes, remark = _volumes(model, inputs)
    notes += remark
    muscles = {name: volumes.of(name) for name in members(volumes.by, MUSCLES)}
    groups, group_notes = _groups(muscles)
    notes += group_notes
    rows = [
        _row(kind, name, values, sex, who)
        for kind, table in (("muscle", muscles), ("group", groups))
        for name, values in table.items()
        for sex in SEXES
    ]
    corrected = adjust(
        [p if isinstance(p := row["p"], float) else None for row in rows], "bonferroni"
    )
    rows = [{**row, "p_adjusted": p} for row, p in zip(rows, corrected, strict=True)]
    reliability = _icc(model, inputs)
    if not reliability:
        notes.append("No reference volumes (ravd, or --reference of a second reader): no ICC.")
    tables = [_table(rows)] + ([_icc_table(reliability)] if reliability else [])
    plots = [_heat_map(kind, rows) for kind in ("muscle", "group")]
    return Findings(
        tables,
        [plot for plot in plots if plot.columns],
        ("Kim 2024",),
        [*notes, *synthetic_note(model.records)],
        empty=all(row["r"] is None for row in rows),
    )


def diagnosed(
    model: Model, facts: Mapping[str, Facts]
) -> tuple[dict[str, tuple[str, bool]], list[str]]:
    """Sex and diagnosis of each patient; the diagnosis as given, else by the muscle index.

    Raises:
        InputError: cases of one patient contradict each other.
    """
    found: dict[str, tuple[str, bool]] = {}
    lacking = []
    for case in dict.fromkeys(row.case_id for row in model.records):
        own = facts.get(case, Facts())
        ill = own.sarcopenia
        if ill is None and own.smi is not None and own.sex:
            ill = own.smi < CUT_OFF[own.sex]
        if ill is None or not own.sex:
            lacking.append(case)
            continue
        if found.setdefault(patient_of(case), (own.sex, ill)) != (own.sex, ill):
            raise InputError(
                f"patient {patient_of(case)!r}",
                "has cases of different sex or diagnosis",
                "Correct the table of cases, or give only one case of a patient.",
            )
    notes = []
    if lacking:
        shown = ", ".join(lacking[:3]) + (" …" if len(lacking) > 3 else "")
        notes.append(f"{len(lacking)} cases without sex or diagnosis are left out: {shown}.")
    for sex, name in SEXES.items():
        own_sex = [diagnosis for s, diagnosis in found.values() if s == sex]
        n = sum(own_sex)
        notes.append(f"{name}: {n} with sarcopenia, {len(own_sex) - n} without.")
    return found, notes


def _volumes(model: Model, inputs: Inputs) -> tuple[Values, list[str]]:
    """Volume of both sides over squared height, one value a patient."""
    if model.has("normalized_volume"):
        method = model.method("normalized_volume")
    else:
        method = by_height(model.method("volume"), inputs.facts)
    plain = model.method("volume")
    lacking = [case for case in plain.cases if case not in set(method.cases)]
    notes = []
    if lacking:
        notes.append(
            f"{len(lacking)} cases without a height are left out ({', '.join(lacking[:3])}): give "
            "--cases the column height_m."
        )
    return values_of(_whole(method), side="both", truncated=inputs.truncated), notes


def _whole(method: Method) -> Method:
    """Rows of ``both``, and where a table has only left and right, their sum if both are there."""
    rows = {key: row for key, row in method.rows.items() if key[2] == "both"}
    for (case, structure, side), row in method.rows.items():
        other = method.rows.get((case, structure, "right"))
        if side != "left" or other is None or (case, structure, "both") in rows:
            continue
        known = row.value is not None and other.value is not None
        worse = row if row.status != "ok" else other
        total = (row.value or 0.0) + (other.value or 0.0) if known else None
        rows[case, structure, "both"] = replace(worse, side="both", value=total)
    return replace(method, rows=rows)


def _groups(
    muscles: Mapping[str, Mapping[str, float]],
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Sums over Kim's groups, of patients who have every muscle of the group that the results know."""
    found: dict[str, dict[str, float]] = {}
    told = []
    for group in GROUPS:
        own = [name for name in muscles if group_of(name) == group]
        if not own:
            continue
        whole = set.intersection(*(set(muscles[name]) for name in own))
        found[group] = {who: sum(muscles[name][who] for name in own) for who in sorted(whole)}
        told.append(f"{group}: {', '.join(own)}")
    return found, [f"Groups of muscles: {'; '.join(told)}."] if told else []


def group_of(name: str) -> str:
    """Kim's group that holds all of a muscle; empty if none does."""
    elements = elements_named(name)
    for group in GROUPS:
        own = frozenset().union(
            *(s.elements for s in label_set("thigh30").structures if s.group == group)
        )
        if elements and elements <= own:
            return group
    return ""


def _row(
    kind: str,
    name: str,
    values: Mapping[str, float],
    sex: str,
    who: Mapping[str, tuple[str, bool]],
) -> Row:
    """One muscle or group in one sex."""
    own = {patient: v for patient, v in values.items() if who.get(patient, ("",))[0] == sex}
    ill = np.array([who[patient][1] for patient in own], np.float64)
    volumes = np.array(list(own.values()), np.float64)
    test = mann_whitney(volumes[ill == 1], volumes[ill == 0])
    # Of so few that no data could give p < 0.05, an r of ±1 says nothing and would only mislead.
    r = Figure(None, reason=test.reason) if test.reason else pearson(volumes, ill)
    return {
        "kind": kind,
        "structure": name,
        "sex": sex,
        "patients": len(own),
        **summary({p: v for p, v in own.items() if who[p][1]}, "ill_"),
        **summary({p: v for p, v in own.items() if not who[p][1]}, "well_"),
        "r": r.value,
        "r_low": r.low,
        "r_high": r.high,
        "p": test.p,
        "reason": r.reason,
        "published_r": _published(kind, name, sex),
    }


def _published(kind: str, name: str, sex: str) -> float | None:
    for row in published.table("kim2024_sarcopenia_r"):
        if (row["kind"], row["structure"], row["sex"]) == (kind, name, sex):
            return published.number(row["r"])
    return None


def _icc(model: Model, inputs: Inputs) -> list[Row]:
    """Agreement of volumes with the reference, or with a second reader."""
    plain = _whole(model.method("volume"))
    if inputs.reference is not None:
        other = _whole(models_of([inputs.reference], "volume", named=True)[0].method("volume"))
    else:
        try:
            other = implied_reference(plain, model.records)
        except InputError:
            return []
    first, second = (values_of(m, side="both", truncated=inputs.truncated) for m in (plain, other))
    rows: list[Row] = []
    for name in ordered(first.by):
        mine, theirs = first.of(name), second.of(name)
        both = [who for who in mine if who in theirs]
        x, y = [mine[who] for who in both], [theirs[who] for who in both]
        agree, consistent = icc_agreement(x, y), icc_consistency(x, y)
        bias = bland_altman(x, y)[0]
        rows.append(
            {
                "structure": name,
                "patients": len(both),
                "icc21": agree.value,
                "icc21_low": agree.low,
                "icc21_high": agree.high,
                "icc31": consistent.value,
                "icc31_low": consistent.low,
                "icc31_high": consistent.high,
                "bias_cm3": bias.value,
                "volume_correlation": pearson(x, y).value if both else None,
                "reason": agree.reason,
                "published_volume_correlation": published.kim(name, "unetr_volume_correlation"),
            }
        )
    return rows


def _heat_map(kind: str, rows: Sequence[Row]) -> HeatMap:
    own = [row for row in rows if row["kind"] == kind]
    names = list(dict.fromkeys(str(row["structure"]) for row in own))
    printed = [row["published_r"] for row in own if row["sex"] == "M"]
    values = [
        [next(_r(row) for row in own if row["structure"] == n and row["sex"] == sex) for n in names]
        for sex in SEXES
    ]
    values.append([r if isinstance(r, float) else None for r in printed])
    return HeatMap(
        f"{kind}s",
        f"Correlation of volume/height² with sarcopenia, by {kind}",
        "Pearson's r",
        [*(f"yours, {name}" for name in SEXES.values()), "Kim 2024, men*"],
        names,
        values,
        (-1.0, 1.0),
        True,
        "Negative: smaller in sarcopenia. Grey: no figure. * another population; only significant "
        "ones are printed.",
    )


def _r(row: Row) -> float | None:
    return r if isinstance(r := row["r"], float) else None


def _table(rows: Sequence[Row]) -> Table:
    columns = [
        text("kind", "kind"),
        text("structure", "structure"),
        Column("sex", lambda row: str(row["sex"]), left=True),
        count("patients", "n"),
        spread("ill_mean", "ill_sd", "with (cm³/m²)", 1),
        spread("well_mean", "well_sd", "without", 1),
        interval("r", "r [95 %]"),
        probability("p_adjusted", "p adj."),
        value("published_r", "Kim*", 2),
    ]
    below = (
        "Volume of both sides over squared height. with, without: sarcopenia. r: Pearson's correlation "
        "with the diagnosis (1 or 0), negative where those with sarcopenia have less. p: Mann–Whitney, "
        "Bonferroni over all lines. Kim: 26 men, 43 women with a broken hip; in women none was "
        "significant."
    )
    return Table("", "Muscle volume and sarcopenia", rows, columns, below)


def _icc_table(rows: Sequence[Row]) -> Table:
    columns = [
        text("structure", "structure"),
        count("patients", "patients"),
        interval("icc21", "ICC(2,1) [95 %]", 3),
        interval("icc31", "ICC(3,1) [95 %]", 3),
        value("bias_cm3", "bias (cm³)", 1),
        value("volume_correlation", "r"),
        value("published_volume_correlation", "r Kim*"),
    ]
    below = (
        "Volumes of both sides against the reference, or against the reader given with --reference."
    )
    return Table("icc", "Agreement of volumes", rows, columns, below)

"""Accuracy of each structure and model (Soufi 2024, figures 3, A.1, A.2; Kim 2024, figure 5)."""

from __future__ import annotations

from collections.abc import Sequence

from mskt.analysis.reproduction import published
from mskt.analysis.reproduction.findings import (
    Boxes,
    Column,
    Findings,
    HeatMap,
    Row,
    Table,
    count,
    interval,
    probability,
    spread,
    star,
    text,
    value,
)
from mskt.analysis.reproduction.inputs import Inputs, Model, models_of, synthetic_note
from mskt.analysis.reproduction.values import (
    BONES,
    MUSCLES,
    Values,
    members,
    points,
    summary,
    values_of,
)
from mskt.analysis.statistics.comparison import Comparison, compare
from mskt.analysis.statistics.methods import ALL

METRICS = {"dice": "Dice", "assd": "average surface distance (mm)"}
BEST = {"dice": "high", "assd": "low"}
_DIGITS = {"dice": 3, "assd": 2}
_TOGETHER = (MUSCLES, BONES, ALL)


def compute(inputs: Inputs) -> Findings:
    """Tables and pictures of Dice and, where there is any, of the surface distance."""
    models = models_of(inputs.sources, "dice", named=inputs.named)
    rows: list[Row] = []
    comparisons: list[Row] = []
    plots: list[Boxes | HeatMap] = []
    for metric in [m for m in METRICS if all(model.has(m) for model in models)]:
        found = {
            model.name: values_of(model.method(metric), truncated=inputs.truncated)
            for model in models
        }
        rows += [row for name, own in found.items() for row in _rows(name, metric, own)]
        compared = compare_models(models, metric, inputs)
        comparisons += comparison_rows(compared)
        plots.append(_boxes(metric, found, compared))
        if metric == "assd":
            plots += [_heat_map(name, own, len(found) > 1) for name, own in found.items()]
    tables = [_table(rows)]
    if comparisons:
        tables.append(comparison_table(comparisons))
    notes = left_out_notes(rows) + synthetic_note(inputs.records)
    if not any(plot.name.startswith("assd") for plot in plots):
        notes.append("No surface distances (assd) in the results: no heat map of them.")
    return Findings(
        tables, plots, ("Hiasa 2020", "Soufi 2024", "Kim 2024"), notes, empty=not _any(rows)
    )


def _any(rows: Sequence[Row]) -> bool:
    return any(row["mean"] is not None for row in rows)


def _rows(name: str, metric: str, found: Values) -> list[Row]:
    """One row a structure, then the groups."""
    rows: list[Row] = []
    for structure in (*found.by, *_TOGETHER):
        own = found.of(structure) if structure in found.by else found.group(structure)
        names = [structure] if structure in found.by else members(found.by, structure)
        statuses = [found.left_out.get(one, {}) for one in names]
        rows.append(
            {
                "model": name,
                "metric": metric,
                "unit": found.unit,
                "structure": structure,
                **summary(own),
                "missed": sum(found.missed.get(one, 0) for one in names),
                "rows_left_out": sum(sum(status.values()) for status in statuses),
                "reason": _why(own, statuses),
                **_published(metric, structure),
            }
        )
    return rows


def _why(own: object, statuses: Sequence[object]) -> str:
    if own:
        return "1 patient: no spread" if len(own) == 1 else ""  # type: ignore[arg-type]
    return f"no patient with a value: {statuses}" if any(statuses) else "no such structure"


def _published(metric: str, structure: str) -> Row:
    """What the papers have of a structure."""
    pair: dict[str, tuple[float, float | None] | None] = dict.fromkeys(("hiasa", "soufi"))
    name = "asd" if metric == "assd" else metric
    hiasa = {MUSCLES: "THA N=20 LOOCV muscles"} | {
        bone: f"THA N=20 {bone}" for bone in ("pelvis", "femur", "sacrum")
    }
    if structure in hiasa and (structure == MUSCLES or metric == "dice"):
        pair["hiasa"] = published.headline("hiasa2020", "bayesian_unet", hiasa[structure], name)
    if structure == ALL and metric == "dice":
        pair["soufi"] = published.headline(
            "soufi2024", "bayesian_unet_6layers_50", "DB1 all structures", "dice"
        )
    columns = {"dice": "unetr_dice", "assd": "unetr_assd_mm"}
    kim = published.kim(structure, columns[metric])
    if structure == MUSCLES:
        kim = published.headline("kim2024", "unetr", "N=12 27 muscles", metric)[0]
    return {
        **{
            f"published_{paper}_{part}": None if found is None else found[place]
            for paper, found in pair.items()
            for place, part in enumerate(("mean", "sd"))
        },
        "published_kim_mean": kim,
    }


def _table(rows: Sequence[Row]) -> Table:
    def measured(row: Row) -> str:
        return spread("mean", "sd", "", _DIGITS[str(row["metric"])]).cell(row)

    def printed(paper: str) -> Column:
        def cell(row: Row) -> str:
            mean, sd = row[f"published_{paper}_mean"], row.get(f"published_{paper}_sd")
            return spread("mean", "sd", "", 3).cell({"mean": mean, "sd": sd})

        return Column(f"{paper.capitalize()}*", cell)

    columns = [
        text("model", "model"),
        text("metric", "metric"),
        text("structure", "structure"),
        count("patients", "patients"),
        count("missed", "missed"),
        Column("yours", measured),
        value("median", "median"),
        *(printed(paper) for paper in ("hiasa", "soufi", "kim")),
    ]
    below = (
        "Mean ± sd over patients, each with the mean over the sides. Dice 1, assd mm. missed: not "
        "found; they count with Dice 0 and have no distance. Hiasa: Bayesian U-Net, 20 patients; "
        "Soufi: 6 layers, 50 patients; Kim: UNETR, 12 patients."
    )
    return Table("", "Accuracy", rows, columns, below)


def compare_models(models: Sequence[Model], metric: str, inputs: Inputs) -> Comparison | None:
    """All pairs of models, each structure, as Soufi 2024 tests; None for one model."""
    if len(models) < 2:
        return None
    return compare(
        [model.method(metric) for model in models],
        metric,
        by_structure=True,
        correction="bonferroni",
        truncated=inputs.truncated,
        draws=inputs.draws,
        seed=inputs.seed,
    )


def comparison_rows(found: Comparison | None) -> list[Row]:
    """One row a test, or the reason why there is none."""
    if found is None:
        return []
    return [
        {
            "metric": found.metric,
            "first": line.first,
            "second": line.second,
            "structure": line.structure,
            "patients": line.result.n,
            "mean_first": line.result.mean_first,
            "mean_second": line.result.mean_second,
            "difference": line.result.difference.value,
            "difference_low": line.result.difference.low,
            "difference_high": line.result.difference.high,
            "test": line.result.test,
            "p": line.result.p,
            "p_adjusted": line.p_adjusted,
            "tests": found.tests,
            "reason": line.result.reason,
        }
        for line in found.lines
    ]


def comparison_table(rows: Sequence[Row]) -> Table:
    """Differences between models on the patients that both have."""
    columns = [
        text("metric", "metric"),
        Column("A − B", lambda row: f"{row['first']} − {row['second']}", left=True),
        text("structure", "structure"),
        count("patients", "patients"),
        interval("difference", "difference [95 %]", 3),
        text("test", "test"),
        probability("p_adjusted", "p adjusted"),
    ]
    below = (
        "Paired t or Wilcoxon after Shapiro–Wilk, Bonferroni over the tests of one metric "
        "(Soufi 2024). What could not be tested: column reason of the file."
    )
    return Table("comparison", "Models compared", rows, columns, below)


def marks_of(found: Comparison | None) -> dict[str, str]:
    """By structure, a star where any two models differ."""
    marks: dict[str, str] = {}
    for line in found.lines if found is not None else ():
        marks[line.structure] = max(marks.get(line.structure, ""), star(line.p_adjusted), key=len)
    return marks


def _boxes(metric: str, found: dict[str, Values], compared: Comparison | None) -> Boxes:
    names = list(dict.fromkeys(name for own in found.values() for name in own.by))
    drawn = [
        points(name, model, own.of(name)) for name in names for model, own in found.items()
    ] + [points(ALL, model, own.group(ALL)) for model, own in found.items()]
    return Boxes(
        metric,
        f"{METRICS[metric]} of each structure",
        METRICS[metric],
        drawn,
        marks_of(compared),
        best=BEST[metric],
        below="One value a patient. * p < 0.05, ** p < 0.01, corrected." if compared else "",
    )


def _heat_map(name: str, found: Values, several: bool) -> HeatMap:
    patients = sorted({patient for own in found.by.values() for patient in own})
    return HeatMap(
        f"assd_heatmap{'_' + name if several else ''}",
        f"Average surface distance of each patient: {name}",
        "mm",
        patients,
        list(found.by),
        [[found.of(s).get(patient) for s in found.by] for patient in patients],
        below="Grey: no value (not found, cut by the field of view, or not annotated).",
    )


def left_out_notes(rows: Sequence[Row]) -> list[str]:
    """How much is missing from which metric and model."""
    notes = []
    for row in rows:
        if row["structure"] != ALL:
            continue
        if row["rows_left_out"]:
            notes.append(
                f"{row['model']}, {row['metric']}: {row['rows_left_out']} rows without a usable "
                "value are left out (not found, cut by the field of view, or no reference)."
            )
        if row["missed"]:
            notes.append(f"{row['model']}, {row['metric']}: {row['missed']} structures not found.")
    return notes

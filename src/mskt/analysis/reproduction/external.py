"""One structure in several databases (Soufi 2024, tables 3 to 5, figure 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mskt.analysis.failure import auroc
from mskt.analysis.reproduction import published
from mskt.analysis.reproduction.doubts import pairs_in, patients_of
from mskt.analysis.reproduction.failure_detection import LEVELS, bad_of
from mskt.analysis.reproduction.findings import (
    Boxes,
    Findings,
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
from mskt.analysis.reproduction.values import points, summary, values_of
from mskt.analysis.statistics.agreement import pearson
from mskt.analysis.statistics.comparison import compare
from mskt.analysis.statistics.correction import adjust
from mskt.analysis.statistics.methods import ALL
from mskt.core.anatomy import suggestion
from mskt.core.errors import UsageError

METRICS = {
    "dice": ("Dice", "high"),
    "assd": ("average surface distance (mm)", "low"),
    "ave": ("volume error (%)", "low"),
    "aie": ("error of mean HU (HU)", "low"),
}
PRINTED = ("DB1", "DB2", "DB3", "DB4_supine", "DB4_standing")


@dataclass(frozen=True)
class _Part:
    """One model on one database."""

    cohort: str
    model: Model

    @property
    def name(self) -> str:
        return self.model.name


def compute(inputs: Inputs) -> Findings:
    """Accuracy, uncertainty and failure detection by database and model."""
    parts = _parts(inputs)
    wanted = ALL if inputs.structure == "all" else inputs.structure
    _check_structure(parts, wanted)
    accuracy: list[Row] = []
    plots: list[Boxes] = []
    for metric in [m for m in METRICS if any(part.model.has(m) for part in parts)]:
        rows, plot = _accuracy(parts, metric, wanted, inputs)
        accuracy += rows
        plots.append(plot)
    doubts, notes, plot_of_doubt = _doubts(parts, wanted, inputs)
    tables = [_accuracy_table(accuracy, wanted)]
    if doubts:
        tables += [_doubt_table(doubts, wanted), _printed_doubts()]
    tables.append(_printed())
    if len({part.cohort for part in parts}) == 1:
        notes.append(
            "All cases are of one database; name them: --results DB1=… or --cases (cohort)."
        )
    if wanted != "gluteus_medius":
        notes.append("The published tables are of the gluteus medius.")
    return Findings(
        tables,
        [*plots, *plot_of_doubt],
        ("Soufi 2024",),
        [*notes, *synthetic_note(inputs.records)],
        empty=all(row["mean"] is None for row in accuracy),
    )


def _parts(inputs: Inputs) -> list[_Part]:
    """Databases by ``cohort`` of the table of cases, else by the names of the results."""
    cohorts = {case: facts.cohort for case, facts in inputs.facts.items() if facts.cohort}
    if cohorts:
        models = models_of(inputs.sources, "dice", named=inputs.named)
        found: dict[tuple[str, str], list[object]] = {}
        for model in models:
            for row in model.records:
                key = (cohorts.get(row.case_id, "not named"), model.name)
                found.setdefault(key, []).append(row)
        return [_Part(c, Model(m, tuple(rows))) for (c, m), rows in found.items()]  # type: ignore[arg-type]
    parts = []
    for name in dict.fromkeys(source.name for source in inputs.sources):
        own = [source for source in inputs.sources if source.name == name]
        parts += [_Part(name, model) for model in models_of(own, "dice", named=False)]
    return parts


def _check_structure(parts: Sequence[_Part], wanted: str) -> None:
    there = {row.structure for part in parts for row in part.model.records if row.metric == "dice"}
    if wanted != ALL and wanted not in there:
        raise UsageError("--structure", f"no Dice of {wanted!r}.", suggestion(wanted, [*there]))


def _values(part: _Part, metric: str, wanted: str, inputs: Inputs) -> dict[str, float]:
    if not part.model.has(metric):
        return {}
    found = values_of(part.model.method(metric), truncated=inputs.truncated)
    return found.group(ALL) if wanted == ALL else dict(found.of(wanted))


def _accuracy(
    parts: Sequence[_Part], metric: str, wanted: str, inputs: Inputs
) -> tuple[list[Row], Boxes]:
    tested = _tests(parts, metric, wanted, inputs)
    rows, drawn = [], []
    for part in parts:
        own = _values(part, metric, wanted, inputs)
        rows.append(
            {
                "database": part.cohort,
                "model": part.name,
                "structure": wanted,
                "metric": metric,
                **summary(own),
                **tested.get(part.cohort, {"p_adjusted": None, "reason": "one model only"}),
            }
        )
        drawn.append(points(part.cohort, part.name, own))
    axis, best = METRICS[metric]
    marks = {c: star(p) for c, row in tested.items() if isinstance(p := row["p_adjusted"], float)}
    return rows, Boxes(metric, f"{axis}: {wanted.replace('_', ' ')}", axis, drawn, marks, best=best)


def _tests(parts: Sequence[_Part], metric: str, wanted: str, inputs: Inputs) -> dict[str, Row]:
    """Two models on the same database, paired; Bonferroni over the databases."""
    found: dict[str, Row] = {}
    p_values: list[float | None] = []
    for cohort in dict.fromkeys(part.cohort for part in parts):
        own = [part.model for part in parts if part.cohort == cohort and part.model.has(metric)]
        if len(own) != 2:
            reason = "one model only" if len(own) < 2 else "more than two models: see accuracy"
            found[cohort], p = {"p_adjusted": None, "reason": reason}, None
        else:
            compared = compare(
                [model.method(metric) for model in own],
                metric,
                by_structure=True,
                correction="none",
                truncated=inputs.truncated,
                draws=inputs.draws,
                seed=inputs.seed,
            )
            line = next((x for x in compared.lines if x.structure == wanted), compared.lines[-1])
            p = line.result.p
            found[cohort] = {"p_adjusted": None, "reason": line.result.reason}
        p_values.append(p)
    for cohort, p in zip(found, adjust(p_values, "bonferroni"), strict=True):
        found[cohort] = {**found[cohort], "p_adjusted": p}
    return found


def _doubts(
    parts: Sequence[_Part], wanted: str, inputs: Inputs
) -> tuple[list[Row], list[str], list[Boxes]]:
    """Uncertainty, its correlation with Dice, and AUROC of each database and model."""
    rows: list[Row] = []
    notes: list[str] = []
    drawn = []
    for part in parts:
        if not part.model.has(inputs.doubt):
            notes.append(f"{part.cohort}, {part.name}: no value of {inputs.doubt}.")
            continue
        pairs, own_notes = pairs_in(part.model, inputs)
        if wanted == ALL:
            notes += own_notes
        own = patients_of(pairs, wanted)
        r = pearson(own.doubt, own.dice)
        bad = bad_of(own.dice)
        areas = {level: auroc(own.doubt, bad[level]) for level in LEVELS}
        described = summary(dict(zip(own.patient, map(float, own.doubt), strict=True)))
        rows.append(
            {
                "database": part.cohort,
                "model": part.name,
                "structure": wanted,
                **described,
                "r": r.value,
                "r_low": r.low,
                "r_high": r.high,
                "reason_r": r.reason,
                **{f"n_{level}": int(bad[level].sum()) for level in LEVELS},
                **{f"auroc_{level}": area.value for level, area in areas.items()},
                **{f"reason_{level}": area.reason for level, area in areas.items()},
            }
        )
        values = dict(zip(own.patient, map(float, own.doubt), strict=True))
        drawn.append(points(part.cohort, part.name, values))
    title = f"Uncertainty: {wanted.replace('_', ' ')}"
    plots = [Boxes("uncertainty", title, inputs.doubt, drawn, best="low")] if drawn else []
    return rows, notes, plots


def _accuracy_table(rows: Sequence[Row], wanted: str) -> Table:
    columns = [
        text("database", "database"),
        text("model", "model"),
        text("metric", "metric"),
        count("patients", "patients"),
        spread("mean", "sd", "yours"),
        value("median", "median"),
        probability("p_adjusted", "p adjusted"),
    ]
    below = "Mean ± sd over patients. p: two models on the same patients, Bonferroni over the databases."
    return Table("", f"Accuracy by database: {wanted}", rows, columns, below)


def _doubt_table(rows: Sequence[Row], wanted: str) -> Table:
    columns = [
        text("database", "database"),
        text("model", "model"),
        count("patients", "patients"),
        _scaled("mean", "sd", "uncertainty ·10⁻⁴"),
        interval("r", "r with Dice [95 %]"),
        count("n_inaccurate", "inacc."),
        value("auroc_inaccurate", "AUROC inaccurate"),
        count("n_failed", "failed"),
        value("auroc_failed", "AUROC failed"),
    ]
    below = "Thresholds: median − 2, − 3 · 1.4826 MAD of the Dice of that database and model."
    return Table("doubt", f"Uncertainty by database: {wanted}", rows, columns, below)


def _scaled(mean: str, sd: str, head: str):  # type: ignore[no-untyped-def]
    from mskt.analysis.reproduction.findings import Column

    def cell(row: Row) -> str:
        own: Mapping[str, object] = {
            key: 1e4 * number if isinstance(number := row[key], float) else None
            for key in (mean, sd)
        }
        return spread(mean, sd, "", 3).cell(dict(own))

    return Column(head, cell)


def _printed() -> Table:
    """Table 3 as printed."""
    rows: list[Row] = [
        {
            "database": row["database"],
            "metric": row["metric"],
            "unit": row["unit"],
            **{
                f"{model}_{part}": published.number(row[f"{model}_{part}"])
                for model in ("5layers20", "6layers50")
                for part in ("mean", "sd")
            },
            "significant": row["significant"],
        }
        for row in published.table("soufi2024_table3_gmed_external")
    ]
    columns = [
        text("database", "database"),
        text("metric", "metric"),
        spread("5layers20_mean", "5layers20_sd", "5 layers, 20 cases*"),
        spread("6layers50_mean", "6layers50_sd", "6 layers, 50 cases*"),
    ]
    below = (
        "Gluteus medius. DB1 hip osteoarthritis, DB2 sarcoma, DB3 colorectal cancer, DB4 healthy."
    )
    return Table("published", "Published*: Soufi 2024, Table 3", rows, columns, below)


def _printed_doubts() -> Table:
    """Tables 4 and 5 as printed."""
    areas = {row["database"]: row for row in published.table("soufi2024_table5_gmed_auroc")}
    rows: list[Row] = []
    for row in published.table("soufi2024_table4_gmed_uncertainty"):
        for model in ("5layers20", "6layers50"):
            area = areas[row["database"]]
            rows.append(
                {
                    "database": row["database"],
                    "model": model,
                    "patients": int(row["n"]),
                    "mean_e4": published.number(row[f"{model}_mean_e4"]),
                    "sd_e4": published.number(row[f"{model}_sd_e4"]),
                    "r": published.number(row[f"{model}_pearson_dice"]),
                    **{
                        f"auroc_{level}": published.number(area[f"{model}_{level}"])
                        for level in LEVELS
                    },
                }
            )
    columns = [
        text("database", "database"),
        text("model", "model"),
        count("patients", "patients"),
        spread("mean_e4", "sd_e4", "uncertainty ·10⁻⁴*"),
        value("r", "r with Dice*", 2),
        value("auroc_inaccurate", "AUROC inaccurate*"),
        value("auroc_failed", "AUROC failed*"),
    ]
    title = "Published*: Soufi 2024, Tables 4 and 5"
    return Table("published_doubt", title, rows, columns, "Gluteus medius.")

"""Two, two and a half, and three dimensions on the same cases (Haque 2019, figure 5)."""

from __future__ import annotations

from collections.abc import Sequence

from mskt.analysis.reproduction import published
from mskt.analysis.reproduction.accuracy import (
    BEST,
    METRICS,
    compare_models,
    comparison_rows,
    comparison_table,
    left_out_notes,
    marks_of,
)
from mskt.analysis.reproduction.findings import (
    Boxes,
    Findings,
    Row,
    Table,
    count,
    spread,
    text,
    value,
)
from mskt.analysis.reproduction.inputs import Inputs, Model, models_of, synthetic_note
from mskt.analysis.reproduction.values import Values, points, summary, values_of
from mskt.analysis.statistics.methods import ALL
from mskt.core.errors import UsageError

_KIND = {"unet25d": "unet25d", "unet2d": "unet2d", "unet3d": "unet3d"}


def compute(inputs: Inputs) -> Findings:
    """Paired tables and box plots on the structures of the cases that all models have."""
    models = _common(models_of(inputs.sources, "dice", named=inputs.named))
    rows: list[Row] = []
    compared_rows: list[Row] = []
    plots: list[Boxes] = []
    for metric in [m for m in METRICS if all(model.has(m) for model in models)]:
        found = {m.name: values_of(m.method(metric), truncated=inputs.truncated) for m in models}
        compared = compare_models(models, metric, inputs)
        compared_rows += comparison_rows(compared)
        rows += _rows(models, metric, found)
        names = list(dict.fromkeys(name for own in found.values() for name in own.by))
        drawn = [points(name, m, own.of(name)) for name in names for m, own in found.items()]
        drawn += [points(ALL, m, own.group(ALL)) for m, own in found.items()]
        plots.append(
            Boxes(
                metric,
                f"{METRICS[metric]} of the same patients",
                METRICS[metric],
                drawn,
                marks_of(compared),
                paired=True,
                best=BEST[metric],
                below="Lines join the values of a patient. * p < 0.05, ** p < 0.01, corrected.",
            )
        )
    return Findings(
        [_table(rows), comparison_table(compared_rows)],
        plots,
        ("Haque 2019",),
        left_out_notes(rows) + synthetic_note(inputs.records),
        empty=all(row["mean"] is None for row in rows),
    )


def _common(models: Sequence[Model]) -> list[Model]:
    """Only the cases and structures that all models have.

    Raises:
        UsageError: fewer than two models, or nothing in common.
    """
    if len(models) < 2:
        raise UsageError(
            "--results",
            f"hold one method only: {models[0].name}.",
            "Give the results of 2-D, 2.5-D and 3-D networks on the same cases.",
        )
    keys = [
        {
            (r.case_id, r.structure)
            for r in model.records
            if r.metric == "dice" and r.status != "not_in_label_set"
        }
        for model in models
    ]
    both = set.intersection(*keys)
    if not both:
        raise UsageError(
            "--results",
            "have no structure of the same case in common.",
            "Run the networks on the same cases, named alike.",
        )
    return [
        Model(model.name, tuple(r for r in model.records if (r.case_id, r.structure) in both))
        for model in models
    ]


def _rows(models: Sequence[Model], metric: str, found: dict[str, Values]) -> list[Row]:
    rows: list[Row] = []
    for model in models:
        own = found[model.name]
        segmenter = model.records[0].segmenter
        for structure in (*own.by, ALL):
            values = own.of(structure) if structure in own.by else own.group(ALL)
            names = [structure] if structure in own.by else list(own.by)
            rows.append(
                {
                    "model": model.name,
                    "segmenter": segmenter,
                    "metric": metric,
                    "structure": structure,
                    **summary(values),
                    "missed": sum(own.missed.get(name, 0) for name in names),
                    "rows_left_out": sum(
                        sum(own.left_out.get(name, {}).values()) for name in names
                    ),
                    "published_mean": None,
                    "published_sd": None,
                    **(_published(segmenter, metric) if structure == ALL else {}),
                }
            )
    return rows


def _published(segmenter: str, metric: str) -> Row:
    """The paper prints means of 2.5-D, and of 2-D and 3-D the difference in Dice."""
    name = "asd" if metric == "assd" else metric
    mean, sd = published.headline("haque2019", "unet25d", "N=10 10 muscles", name)
    if segmenter == "unet25d":
        return {"published_mean": mean, "published_sd": sd}
    if segmenter in _KIND and metric == "dice":
        less, _ = published.headline(
            "haque2019", _KIND[segmenter], "N=10 10 muscles", "dice_minus_unet25d"
        )
        return {"published_mean": mean + less}
    return {}


def _table(rows: Sequence[Row]) -> Table:
    columns = [
        text("model", "model"),
        text("metric", "metric"),
        text("structure", "structure"),
        count("patients", "patients"),
        count("missed", "missed"),
        spread("mean", "sd", "yours"),
        value("median", "median"),
        spread("published_mean", "published_sd", "Haque*"),
    ]
    below = (
        "Only structures of cases that all models have. Mean ± sd over patients (Dice 1, assd mm). "
        "Haque: ten thigh muscles of ten thighs; of 2-D and 3-D from the printed differences, beside "
        "the segmenters unet2d and unet3d."
    )
    return Table("", "2-D, 2.5-D and 3-D", rows, columns, below)

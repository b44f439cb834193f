"""Dice against uncertainty: bins (Hiasa 2020, figure 6), scatter and line (Soufi 2024, figure A.6)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mskt.analysis.failure import bootstrap
from mskt.analysis.failure import pearson as correlation
from mskt.analysis.lines import fit_line
from mskt.analysis.pairs import Pairs
from mskt.analysis.reproduction import published
from mskt.analysis.reproduction.doubts import Doubts, by_structure, pairs_in, patients_of, pooled
from mskt.analysis.reproduction.findings import (
    Boxes,
    Cloud,
    Column,
    Findings,
    Panel,
    Points,
    Row,
    Scatter,
    Table,
    count,
    interval,
    probability,
    text,
    value,
)
from mskt.analysis.reproduction.inputs import Inputs, models_of, synthetic_note
from mskt.analysis.statistics.agreement import pearson
from mskt.analysis.statistics.bins import Bins, bins_of
from mskt.analysis.statistics.figure import LEVEL, Figure
from mskt.analysis.statistics.methods import ALL

POOLED = "all structures, pooled"
BINS = 10
MIN_ELLIPSE = 4
"""Patients from which the covariance of two quantities is worth drawing."""


def compute(inputs: Inputs) -> Findings:
    """Bins, correlations, lines and ellipses of each model."""
    models = models_of(inputs.sources, "dice", named=inputs.named)
    rows: list[Row] = []
    bins: list[Row] = []
    notes: list[str] = []
    boxes: list[Boxes] = []
    panels: dict[str, list[Cloud]] = {}
    for model in models:
        pairs, own_notes = pairs_in(model, inputs)
        notes += own_notes
        own = by_structure(pairs)
        sets = {ALL: patients_of(pairs), POOLED: pooled(list(own.values())), **own}
        for name, one in sets.items():
            row = _row(model.name, name, one, inputs)
            rows.append(row)
            if len(one):
                panels.setdefault(name, []).append(_cloud(model.name, one, row))
        if len(pairs):
            found = bins_of(
                pairs, bins=BINS, correction="bonferroni", draws=inputs.draws, seed=inputs.seed
            )
            bins += _bin_rows(model.name, found)
            boxes.append(_boxes(model.name, pairs, found, len(models) > 1))
    scatter = Scatter(
        "scatter",
        "Dice against uncertainty",
        inputs.doubt,
        "Dice",
        [Panel(name, clouds) for name, clouds in panels.items()],
        below="One point a patient; line: least squares; ellipse: would hold 95 % of normal values.",
    )
    tables = [_table(rows)] + ([_bin_table(bins)] if bins else [])
    return Findings(
        tables,
        [*boxes, scatter],
        ("Hiasa 2020", "Soufi 2024"),
        [*notes, *synthetic_note(inputs.records)],
        empty=all(row["r"] is None for row in rows),
    )


def _row(model: str, name: str, own: Doubts, inputs: Inputs) -> Row:
    """Correlation and line of one structure."""
    line = fit_line(own.doubt, own.dice)
    r = _pooled_r(own, inputs) if name == POOLED else pearson(own.doubt, own.dice)
    hiasa = published.headline("hiasa2020", "bayesian_unet", "THA 4-fold", "pearson_dice_psv")
    soufi = published.headline(
        "soufi2024", "bayesian_unet_6layers_50", "DB1 all structures", "pearson_dice_uncertainty"
    )
    return {
        "model": model,
        "structure": name,
        "pairs": len(own),
        "patients": len(set(own.patient)),
        "r": r.value,
        "r_low": r.low,
        "r_high": r.high,
        "slope": None if line is None else line.slope,
        "intercept": None if line is None else line.intercept,
        "reason": r.reason,
        "published_hiasa": hiasa[0] if name == POOLED else None,
        "published_soufi": soufi[0] if name == POOLED else None,
    }


def _pooled_r(own: Doubts, inputs: Inputs) -> Figure:
    """A patient has several points, so the interval is of a bootstrap over patients."""
    found = correlation(own.doubt, own.dice)
    if found.value is None:
        return Figure(None, reason=found.reason)
    between = bootstrap(
        lambda rows: correlation(own.doubt[rows], own.dice[rows]).value,
        own.patient,
        draws=inputs.draws,
        seed=inputs.seed,
    )
    return Figure(found.value, between.low, between.high, between.reason)


def _cloud(model: str, own: Doubts, row: Row) -> Cloud:
    line = fit_line(own.doubt, own.dice)
    words = "" if row["r"] is None else f"r = {row['r']:.2f} (n = {row['pairs']})"
    return Cloud(
        model,
        own.patient,
        tuple(map(float, own.doubt)),
        tuple(map(float, own.dice)),
        None if line is None else (line.slope, line.intercept),
        ellipse(own),
        words,
    )


def ellipse(own: Doubts) -> tuple[float, float, float, float, float] | None:
    """Centre and scaled covariance of the 95 % ellipse of normal values; None without spread."""
    from scipy.stats import chi2

    if len(own) < MIN_ELLIPSE:
        return None
    covariance = np.cov(own.doubt, own.dice)
    if not covariance[0, 0] > 0 or not covariance[1, 1] > 0:
        return None
    scaled = covariance * float(chi2.ppf(LEVEL, 2))
    return (
        float(own.doubt.mean()),
        float(own.dice.mean()),
        float(scaled[0, 0]),
        float(scaled[0, 1]),
        float(scaled[1, 1]),
    )


def _bin_rows(model: str, found: Bins) -> list[Row]:
    return [
        {
            "model": model,
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
            "larger_than_next": step.larger.value,
            "larger_than_next_low": step.larger.low,
            "larger_than_next_high": step.larger.high,
            "reason": step.reason,
        }
        for one in found.sets
        for number, step in enumerate(one.steps, 1)
    ]


def _boxes(model: str, pairs: Pairs, found: Bins, several: bool) -> Boxes:
    """Dice of the structures in each bin, all structures pooled: sides one by one, as tested."""
    steps = found.sets[0].steps
    edges = np.array([step.low for step in steps] + [step.high for step in steps[-1:]])
    place = np.searchsorted(edges[1:-1], pairs.doubt, side="right")
    drawn = [
        Points(
            f"{step.low:.2g}–{step.high:.2g}\nn = {step.n}",
            model,
            tuple(map(str, pairs.patient[place == b])),
            tuple(map(float, pairs.dice[place == b])),
        )
        for b, step in enumerate(steps)
    ]
    return Boxes(
        f"boxes{'_' + model if several else ''}",
        f"Dice in {BINS} bins of the uncertainty: {model}",
        "Dice",
        drawn,
        best="high",
        below="Structures and sides of all patients; the tests in the table have one value a patient.",
    )


def _table(rows: Sequence[Row]) -> Table:
    columns = [
        text("model", "model"),
        text("structure", "structure"),
        count("pairs", "n"),
        count("patients", "patients"),
        interval("r", "r [95 %]"),
        Column("slope", lambda row: "–" if row["slope"] is None else f"{row['slope']:.4g}"),
        value("intercept", "intercept"),
        value("published_hiasa", "Hiasa*"),
        value("published_soufi", "Soufi*"),
    ]
    below = (
        "r: Pearson's correlation of Dice and uncertainty, one value a patient; pooled: one a patient "
        "and structure, interval of a bootstrap over patients. Useful uncertainties are well below 0."
    )
    return Table("", "Dice against uncertainty", rows, columns, below)


def _bin_table(rows: Sequence[Row]) -> Table:
    columns = [
        text("model", "model"),
        text("structure", "structure"),
        Column("uncertainty", lambda row: f"{row['low']:.3g} … {row['high']:.3g}"),
        count("n", "n"),
        count("patients", "patients"),
        value("mean_dice", "mean Dice"),
        value("median_dice", "median Dice"),
        interval("larger_than_next", "larger than next"),
        probability("p_adjusted", "p adjusted"),
    ]
    below = (
        "10 bins of equal width. p: Mann–Whitney U against the next bin, one value a patient, "
        "Bonferroni. Pooled there is no test, for a patient is in several bins: the interval of a "
        "bootstrap over patients says what chance could do. 0.5: no difference."
    )
    return Table("bins", "Dice in bins of the uncertainty", rows, columns, below)

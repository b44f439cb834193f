"""Does the uncertainty find what went wrong (Soufi 2024, table 2, figures 4 and A.9)?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mskt.analysis.failure import FAILED, INACCURATE, auroc, bootstrap, dice_threshold
from mskt.analysis.reproduction import published
from mskt.analysis.reproduction.doubts import Doubts, by_structure, pairs_in, patients_of, pooled
from mskt.analysis.reproduction.findings import (
    Column,
    Curve,
    Findings,
    Roc,
    Row,
    Table,
    count,
    interval,
    text,
)
from mskt.analysis.reproduction.inputs import Inputs, models_of, synthetic_note
from mskt.analysis.statistics.methods import ALL

LEVELS = {"inaccurate": INACCURATE, "failed": FAILED}
MIN_OF_EACH = 3
"""Good and bad patients from which an interval says anything."""
POOLED, MEDIAN = "all structures, pooled", "median of the structures"
_PRINTED = {ALL: "all_average", MEDIAN: "median"}


def compute(inputs: Inputs) -> Findings:
    """AUROC and ROC of each structure, of the patients' means, and of all structures pooled."""
    models = models_of(inputs.sources, "dice", named=inputs.named)
    rows: list[Row] = []
    notes: list[str] = []
    curves: dict[str, list[Curve]] = {}
    reasons: dict[str, str] = {}
    for model in models:
        pairs, own_notes = pairs_in(model, inputs)
        notes += own_notes
        own = by_structure(pairs)
        bad = {name: bad_of(one.dice) for name, one in own.items()}
        sets = {**own, ALL: patients_of(pairs), POOLED: pooled(list(own.values()))}
        bad[ALL] = bad_of(sets[ALL].dice)
        bad[POOLED] = {
            level: np.concatenate([bad[name][level] for name in own] or [np.empty(0, bool)])
            for level in LEVELS
        }
        for name, one in sets.items():
            row = _row(model.name, name, one, bad[name], inputs)
            rows.append(row)
            drawn = _curves(model.name, one, bad[name], row, len(models) > 1)
            curves.setdefault(name, []).extend(drawn)
            if not drawn:
                reasons[name] = f"{row['reason_inaccurate']}"
        rows.append(_median(model.name, rows, own))
    plot = Roc(
        "roc",
        "Does the uncertainty find inaccurate and failed structures?",
        list(curves.items()),
        reasons,
        below="One value a patient. Inaccurate, failed: Dice below median − 2, − 3 · 1.4826 MAD of "
        "that structure in these patients. Pooled: each structure against its own threshold.",
    )
    return Findings(
        [_table(rows)],
        [plot],
        ("Soufi 2024",),
        [*notes, *synthetic_note(inputs.records)],
        empty=all(row["auroc_inaccurate"] is None for row in rows),
    )


def bad_of(dice: NDArray[np.float64]) -> dict[str, NDArray[np.bool_]]:
    """Which Dice are below the two thresholds; shape (n,) each."""
    if not dice.size:
        return {level: np.empty(0, bool) for level in LEVELS}
    return {level: dice < dice_threshold(dice, k) for level, k in LEVELS.items()}


def _row(
    model: str, name: str, own: Doubts, bad: dict[str, NDArray[np.bool_]], inputs: Inputs
) -> Row:
    row: Row = {
        "model": model,
        "structure": name,
        "pairs": len(own),
        "patients": len(set(own.patient)),
        "median_dice": float(np.median(own.dice)) if len(own) else None,
    }
    for level, k in LEVELS.items():
        single = name != POOLED and len(own) > 0
        row |= {
            f"threshold_{level}": dice_threshold(own.dice, k) if single else None,
            f"n_{level}": int(bad[level].sum()),
            **_area(level, own, bad[level], inputs),
        }
    key = _PRINTED.get(name, name)
    for level in LEVELS:
        for theirs in ("5layers20", "6layers50"):
            row[f"published_{theirs}_{level}"] = published.lookup(
                "soufi2024_table2_auroc", "structure", key, f"{theirs}_{level}"
            )
    return row


def _area(level: str, own: Doubts, bad: NDArray[np.bool_], inputs: Inputs) -> Row:
    """AUROC with the interval of a bootstrap over patients; the thresholds stay."""
    found = auroc(own.doubt, bad)
    low = high = None
    reason = found.reason
    few = min(
        len({who for who, is_bad in zip(own.patient, bad, strict=True) if is_bad == kind})
        for kind in (True, False)
    )
    if found.value is not None and few < MIN_OF_EACH:
        reason = f"no interval: {few} patients in one of the two groups"
    elif found.value in (0.0, 1.0):
        reason = "no interval: told apart without error here, so a bootstrap has no spread"
    elif found.value is not None:
        between = bootstrap(
            lambda rows: auroc(own.doubt[rows], bad[rows]).value,
            own.patient,
            draws=inputs.draws,
            seed=inputs.seed,
        )
        low, high, reason = between.low, between.high, between.reason
    return {
        f"auroc_{level}": found.value,
        f"auroc_{level}_low": low,
        f"auroc_{level}_high": high,
        f"reason_{level}": reason,
    }


def _median(model: str, rows: Sequence[Row], own: object) -> Row:
    """The median over structures, as the table of Soufi 2024 ends."""
    mine = [row for row in rows if row["model"] == model and row["structure"] in own]  # type: ignore[operator]
    blank: Row = dict.fromkeys(mine[0] if mine else rows[0])
    found: Row = blank | {"model": model, "structure": MEDIAN}
    for level in LEVELS:
        values = [
            float(str(row[f"auroc_{level}"])) for row in mine if row[f"auroc_{level}"] is not None
        ]
        found[f"auroc_{level}"] = float(np.median(values)) if values else None
        found[f"reason_{level}"] = f"of {len(values)} structures that have one"
        for theirs in ("5layers20", "6layers50"):
            key = f"published_{theirs}_{level}"
            found[key] = published.lookup(
                "soufi2024_table2_auroc", "structure", "median", f"{theirs}_{level}"
            )
    return found


def _curves(
    model: str, own: Doubts, bad: dict[str, NDArray[np.bool_]], row: Row, several: bool
) -> list[Curve]:
    from sklearn.metrics import roc_curve

    found = []
    for level in LEVELS:
        area = row[f"auroc_{level}"]
        if area is None:
            continue
        false, true, _ = roc_curve(bad[level], own.doubt)
        words = f"{model}, {level}: {area:.2f}" if several else f"{level}: {area:.2f}"
        found.append(Curve(model, level, tuple(map(float, false)), tuple(map(float, true)), words))
    return found


def _table(rows: Sequence[Row]) -> Table:
    def measured(level: str) -> Column:
        def cell(row: Row) -> str:
            number = row[f"n_{level}"]
            area = interval(f"auroc_{level}", "").cell(row)
            return area if number is None else f"{area} ({number})"

        return Column(f"AUROC {level} (how many)", cell)

    def printed(level: str) -> Column:
        def cell(row: Row) -> str:
            values = (row[f"published_5layers20_{level}"], row[f"published_6layers50_{level}"])
            return "/".join("–" if v is None else f"{v:.3f}" for v in values)

        return Column(f"Soufi* {level}", cell)

    columns = [
        text("model", "model"),
        text("structure", "structure"),
        count("pairs", "n"),
        *(make(level) for level in LEVELS for make in (measured, printed)),
    ]
    below = (
        "One value a patient: means over the sides. Inaccurate, failed: Dice below median − 2, "
        "− 3 · 1.4826 MAD of these patients; with few of them an AUROC can be anything, – means that "
        "none or all were bad. In brackets 95 % of a bootstrap over patients, where there can be one. "
        "Soufi: 5 layers, 20 patients / 6 layers, 50 patients."
    )
    return Table("", "Failure detection by uncertainty", rows, columns, below)

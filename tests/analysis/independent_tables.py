"""Two of the papers' tables, computed once more from the raw table: csv and numpy, no mskt."""

import csv
import math
from pathlib import Path

import numpy as np


def _rows(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def _patient_means(rows, metric):
    """Mean over the sides: {structure: {patient: value}}; whole structures only without sides."""
    own = [r for r in rows if r["metric"] == metric and r["value"] and r["status"] != "truncated"]
    sided = {(r["case_id"], r["structure"]) for r in rows if r["side"] != "both"}
    found = {}
    for r in own:
        if r["side"] == "both" and (r["case_id"], r["structure"]) in sided:
            continue
        found.setdefault(r["structure"], {}).setdefault(r["case_id"], {})[r["side"]] = float(
            r["value"]
        )
    return found


def auroc_table(results):
    """Soufi 2024, table 2: {structure: {"inaccurate": AUROC or None, "failed": …}}.

    By counting pairs of a bad and a good patient; a structure that was missed has no uncertainty and
    does not count.
    """
    rows = _rows(results)
    dice, doubt = _patient_means(rows, "dice"), _patient_means(rows, "uncertainty")
    table = {}
    for structure in dice:
        xs, ys = [], []
        for patient, sides in dice[structure].items():
            both = [side for side in sides if side in doubt.get(structure, {}).get(patient, {})]
            if both:
                xs.append(np.mean([doubt[structure][patient][side] for side in both]))
                ys.append(np.mean([sides[side] for side in both]))
        ys = np.array(ys)
        mad = np.median(np.abs(ys - np.median(ys)))
        table[structure] = {
            name: _count(xs, ys < np.median(ys) - k * 1.4826 * mad)
            for name, k in (("inaccurate", 2), ("failed", 3))
        }
    return table


def _count(doubts, bad):
    wins = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for a, wrong in zip(doubts, bad, strict=True)
        if wrong
        for b, other in zip(doubts, bad, strict=True)
        if not other
    ]
    return float(np.mean(wins)) if wins else None


def side_table(results, cases, delimiter="\t"):
    """Soufi 2024, table 6, volumes: {structure: {column: value or None}} in cm³/m².

    The reference volume is V / (1 + ravd/100).
    """
    with Path(cases).open(newline="") as file:
        facts = {row["case_id"]: row for row in csv.DictReader(file, delimiter=delimiter)}
    table = {}
    rows = _rows(results)
    volume, error = ({}, {})
    for row in rows:
        key = (row["case_id"], row["structure"], row["side"])
        if row["status"] == "truncated" or not row["value"]:
            continue
        if row["metric"] == "volume":
            volume[key] = float(row["value"])
        if row["metric"] == "ravd":
            error[key] = float(row["value"])
    sided = {key[:2] for key in volume if key[2] != "both"}
    for (case, structure, side), measured in volume.items():
        if case not in facts or (side == "both" and (case, structure) in sided):
            continue
        square = float(facts[case]["height_m"]) ** 2
        ill = side in ("both", facts[case]["affected_side"])
        pair = (measured / square, measured / (1 + error[case, structure, side] / 100) / square)
        table.setdefault(structure, {True: [], False: []})[ill].append(pair)
    return {structure: _agreement(own) for structure, own in table.items()}


def _agreement(own):
    found = {}
    for ill, name in ((True, "affected"), (False, "unaffected")):
        x, y = np.array(own[ill]).reshape(-1, 2).T
        found |= {
            f"{name}_auto": x.mean() if x.size else None,
            f"{name}_gt": y.mean() if x.size else None,
            f"{name}_mae": np.abs(x - y).mean() if x.size else None,
        }
    x, y = np.array(own[True] + own[False]).T
    s = np.cov(x, y, bias=True)
    found["ccc"] = 2 * s[0, 1] / (s[0, 0] + s[1, 1] + (x.mean() - y.mean()) ** 2)
    assert math.isfinite(found["ccc"])
    return found

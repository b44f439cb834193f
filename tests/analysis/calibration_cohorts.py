"""Simulated patients with a doubt and a Dice, and calibrations of them."""

from __future__ import annotations

import numpy as np

from mskt.analysis.calibration import Provenance
from mskt.analysis.fitting import calibrate
from mskt.analysis.pairs import pairs_of
from mskt.core.records import Record

MADE_OF = Provenance(
    "unet", ("w",), ("a" * 64, "b" * 64), "mcdropout", "variance", "mean", 10, "msk22", 0, 0, 0, 0, "",
    "2026-01-01", "1.0",
)  # fmt: skip
METHOD = ("unet", "a" * 64, "mcdropout", "variance", "msk22")


def row(case, structure, side, metric, value, status="ok", unit="1"):
    return Record(case, "", "unet", "mcdropout", "r", structure, side, metric, value, unit, status)


def patient(rng, case, structures=("femur", "gracilis"), noise=0.02, shift=0.0):
    """Two sides of each structure, with a part of the error that both share."""
    rows, shared = [], rng.normal(0, noise)
    for number, name in enumerate(structures):
        for side in ("left", "right"):
            doubt = rng.gamma(3.0, 1e-4)
            dice = 0.97 - 0.02 * number - 100 * doubt + shared + rng.normal(0, noise) - shift
            rows.append(row(case, name, side, "dice", float(np.clip(dice, 0, 1))))
            rows.append(row(case, name, side, "uncertainty", doubt, unit="psv"))
        for metric in ("dice", "uncertainty"):
            rows.append(row(case, name, "both", metric, 0.123))
    return rows


def cohort(n, seed=0, **kw):
    rng = np.random.default_rng(seed)
    return [r for k in range(n) for r in patient(rng, f"p{k:03}", **kw)]


def made(records, coverage=0.9, metric="uncertainty"):
    return calibrate(pairs_of(records, metric), metric, coverage, MADE_OF)

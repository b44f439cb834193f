"""The lower bound: what it promises is counted."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mskt.analysis.conformal import lower_bound, lowest_by_chance, patients_needed
from mskt.analysis.curves import leave_out


def left_out(doubt, dice, patients):
    """Entries of pairs of one structure."""
    return leave_out(doubt, dice, patients, np.full(doubt.shape, "one"))["one"]


@pytest.mark.parametrize(("coverage", "n"), [(0.9, 9), (0.95, 19), (0.8, 4), (0.5, 1), (0.99, 99)])
def test_patients_needed(coverage, n):
    assert patients_needed(coverage) == n
    rng = np.random.default_rng(0)
    doubt, dice = rng.uniform(0, 1e-3, n + 1), rng.uniform(0.5, 1, n + 1)
    names = np.array([f"{k:03}" for k in range(n + 1)])
    entries = left_out(doubt, dice, names)
    assert lower_bound(5e-4, entries[:n], coverage) is not None
    assert lower_bound(5e-4, entries[: n - 1], coverage) is None


def test_bound_is_the_jackknife_plus_order_statistic():
    rng = np.random.default_rng(1)
    doubt, dice = rng.uniform(1e-4, 1e-3, 25), rng.uniform(0.5, 0.9, 25)
    x, y = np.log(doubt), np.log(dice / (1 - dice))
    names = np.array([f"{k:02}" for k in range(25)])
    candidates = []
    for left in range(25):
        rest = np.arange(25) != left
        line = np.poly1d(np.polyfit(x[rest], y[rest], 1))
        candidates.append(line(np.log(4e-4)) - (line(x[left]) - y[left]))
    expected = 1 / (1 + np.exp(-sorted(candidates)[math.floor(0.1 * 26) - 1]))
    assert lower_bound(4e-4, left_out(doubt, dice, names), 0.9) == pytest.approx(expected)


def test_bound_gives_every_patient_the_same_weight():
    """One patient measured a hundred times with poor results must not decide for all."""
    doubt = np.r_[np.linspace(1e-4, 1e-3, 20), np.linspace(1e-4, 1e-3, 100)]
    dice = np.r_[np.full(20, 0.9), np.full(100, 0.2)]
    names = np.array([f"{k:02}" for k in range(20)] + ["bad"] * 100)
    entries = left_out(doubt, dice, names)
    alone = [e for e in entries if len(e.residuals) == 1]
    assert lower_bound(5e-4, entries, 0.8) >= lower_bound(5e-4, alone, 0.8) - 0.1 > 0.6


def test_bound_holds_for_the_stated_part_of_exchangeable_patients():
    """400 calibrations of 20 patients, one new patient each: within binomial error of 0.9."""
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(400):
        shared = np.repeat(rng.normal(0, 0.05, 21), 2)  # two sides of a patient err together
        doubt = rng.gamma(2.0, 1e-4, 42)
        dice = 0.8 - 300 * doubt + shared + rng.normal(0, 0.02, 42)
        names = np.repeat([f"{k:02}" for k in range(21)], 2)
        entries = left_out(doubt[:40], dice[:40], names[:40])
        held += dice[40] >= lower_bound(float(doubt[40]), entries, 0.9)
    assert held / 400 == pytest.approx(0.9, abs=3 * (0.9 * 0.1 / 400) ** 0.5)


def test_one_calibration_in_twenty_covers_less_than_chance_allows():
    """The part of new patients that one bound holds for, over 400 calibrations of 20 patients."""
    rng = np.random.default_rng(8)
    names = np.array([f"{k:02}" for k in range(20)])
    held = []
    for _ in range(400):
        doubt, error = rng.uniform(1e-4, 1e-3, 20), rng.normal(0, 0.2, 20)
        dice = 1 / (1 + doubt / 1e-3 * np.exp(error))
        bound = lower_bound(5e-4, left_out(doubt, dice, names), 0.9)
        held.append(np.mean(1 / (1 + 0.5 * np.exp(rng.normal(0, 0.2, 500))) >= bound))
    assert np.mean(held) == pytest.approx(0.9, abs=0.02)
    assert np.quantile(held, 0.05) == pytest.approx(lowest_by_chance(0.9, 20), abs=0.05)
    assert lowest_by_chance(0.9, 5) == 0.0
    assert 0.9 > lowest_by_chance(0.9, 500) > lowest_by_chance(0.9, 50)

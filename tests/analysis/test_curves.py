"""Curves from doubt to Dice: heights of their own, one exponent; and the papers' straight line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mskt.analysis.curves import Curve, fit_curves, leave_out, log_odds_of
from mskt.analysis.lines import fit_line


def several(seed, exponents, n, noise=0.3, scale=1e-4):
    """Pairs of structures with given exponents and heights of their own."""
    rng = np.random.default_rng(seed)
    doubt = rng.gamma(3.0, scale, (len(exponents), n))
    power = np.array(exponents)[:, None] * np.log(doubt / scale)
    odds = rng.uniform(2.0, 4.0, (len(exponents), 1)) + power + rng.normal(0, noise, doubt.shape)
    names = np.repeat([f"s{k}" for k in range(len(exponents))], n)
    dice = np.clip(1 / (1 + np.exp(-odds)), 0.06, 0.99)  # neither lost nor perfect
    return np.maximum(doubt.ravel(), 2e-6), dice.ravel(), names


def by_regression(doubt, dice, names):
    """Ordinary least squares with one column a structure and one of the logarithm of the doubt."""
    structures = np.unique(names)
    design = np.column_stack([*(names == name for name in structures), np.log(doubt)]).astype(float)
    found = np.linalg.lstsq(design, np.log(dice / (1 - dice)), rcond=None)[0]
    return dict(zip(map(str, structures), found, strict=False)), found[-1]


@given(st.integers(0, 99), st.integers(1, 6), st.integers(3, 12))
def test_it_is_one_regression_with_a_height_for_each_structure(seed, structures, n):
    rng = np.random.default_rng(seed)
    doubt, dice, names = several(seed, rng.normal(-1, 0.3, structures), n)
    heights, exponent = by_regression(doubt, dice, names)
    found = fit_curves(doubt, dice, names)
    assert set(found) == set(heights)
    for name, curve in found.items():
        assert curve.exponent == pytest.approx(exponent, rel=1e-6)
        assert curve.height == pytest.approx(heights[name], rel=1e-6)


def test_points_on_curves_have_their_curves():
    doubt = np.tile([1e-4, 3e-4, 1e-3], 2)
    names = np.repeat(["a", "b"], 3)
    dice = np.where(names == "a", 1 / (1 + 500 * doubt), 1 / (1 + 2000 * doubt))
    found = fit_curves(doubt, dice, names)
    assert found["a"].exponent == found["b"].exponent == pytest.approx(-1.0)
    assert found["a"].predict(2e-3) == pytest.approx(0.5)
    assert found["b"].predict(5e-4) == pytest.approx(0.5)


@given(st.integers(0, 99))
def test_unit_of_the_doubt_does_not_matter(seed):
    doubt, dice, names = several(seed, [-1.5, -1.0, -0.5], 12, scale=1e-2)
    first, second = fit_curves(doubt, dice, names), fit_curves(50 * doubt, dice, names)
    for name, curve in first.items():
        assert curve.predict(0.01) == pytest.approx(second[name].predict(0.5), rel=1e-6)


def test_a_shared_exponent_errs_less_than_those_of_single_structures():
    """Six structures with one true exponent and a dozen pairs each."""
    own_error, shared_error = [], []
    for seed in range(40):
        doubt, dice, names = several(seed, [-1.0] * 6, 12)
        shared_error.append((fit_curves(doubt, dice, names)["s0"].exponent + 1) ** 2)
        mine = names == "s0"
        own_error.append((fit_curves(doubt[mine], dice[mine], names[mine])["s0"].exponent + 1) ** 2)
    assert np.mean(shared_error) < 0.5 * np.mean(own_error)


@given(
    st.integers(3, 12).flatmap(
        lambda n: st.tuples(
            arrays(float, n, elements=st.integers(0, 50).map(lambda v: v * 1e-5)),
            arrays(float, n, elements=st.floats(0, 1)),
            arrays(int, n, elements=st.integers(0, 4)),
        )
    )
)
def test_leaving_out_is_fitting_again_without(data):
    doubt, dice, number = data
    whose, one = number.astype(str), np.full(number.shape, "one")
    found = leave_out(doubt, dice, whose, one)["one"]
    names = np.unique(whose)
    assert len(found) == (names.size if names.size > 1 else 0)
    for name, entry in zip(names, found, strict=False):
        rest = whose != name
        again = fit_curves(doubt[rest], dice[rest], one[rest]).get("one")
        if again is None:
            assert entry.curve.exponent == 0
            assert entry.curve.height == pytest.approx(log_odds_of(dice[rest], 0.05).mean())
            continue
        assert entry.curve.log_odds(3e-4) == pytest.approx(again.log_odds(3e-4), abs=1e-6)
        missed = [again.log_odds(u) for u in doubt[~rest]] - log_odds_of(dice[~rest])
        assert entry.residuals == pytest.approx(missed, abs=1e-6)


@given(st.integers(0, 99))
def test_a_patient_left_out_is_nowhere_in_the_curves(seed):
    doubt, dice, names = several(seed, [-1.5, -1.0, -0.5], 12)
    patients = np.tile([f"p{k:02}" for k in range(6)], 6)
    found = leave_out(doubt, dice, patients, names)
    for number, name in enumerate(np.unique(patients)):
        rest = patients != name
        for structure, curve in fit_curves(doubt[rest], dice[rest], names[rest]).items():
            entry = found[structure][number]
            assert entry.curve.exponent == pytest.approx(curve.exponent, rel=1e-6)
            assert entry.curve.height == pytest.approx(curve.height, rel=1e-6)
            mine = (patients == name) & (names == structure)
            assert entry.residuals == pytest.approx(
                [curve.log_odds(u) for u in doubt[mine]] - log_odds_of(dice[mine]), abs=1e-6
            )


def test_doubt_that_never_varies_has_no_curve():
    doubt, dice, names = several(0, [-1.0, -1.0], 12)
    doubt[names == "s1"] = 2e-4
    assert set(fit_curves(doubt, dice, names)) == {"s0"}
    assert fit_curves(doubt[:0], dice[:0], names[:0]) == {}
    assert leave_out(doubt[:0], dice[:0], names[:0], names[:0]) == {}


@given(st.floats(-1, 10), st.floats(-5, 5), st.floats(-3, -0.1))
def test_predictions_are_dice_and_fall(doubt, height, exponent):
    curve = Curve(height, exponent)
    assert curve.falls and 0 < curve.predict(doubt) <= 1
    assert curve.predict(doubt) >= curve.predict(abs(doubt) + 1)


@given(st.floats(0.05, 0.95), st.floats(-5, 5), st.floats(-3, -0.5))
def test_doubt_with_a_predicted_dice(dice, height, exponent):
    found = Curve(height, exponent).doubt_at(dice)
    if found > 1e-5:
        assert Curve(height, exponent).predict(found) == pytest.approx(dice)


@pytest.mark.parametrize(("dice", "exponent"), [(0.0, -1.0), (-0.2, -1.0), (1.0, -1.0), (0.5, 0.1)])
def test_no_doubt_has_an_impossible_dice(dice, exponent):
    assert Curve(1.0, exponent).doubt_at(dice) is None


def test_how_lost_a_lost_structure_is_does_not_pull_at_the_curve():
    doubt, dice, names = several(3, [-1.0], 12)
    lost, missed = dice.copy(), dice.copy()
    lost[4], missed[4] = 0.04, 0.0
    assert fit_curves(doubt, lost, names) == fit_curves(doubt, missed, names)
    whose = np.arange(12).astype(str)
    of = [leave_out(doubt, d, whose, names)["s0"] for d in (lost, missed)]
    place = sorted(whose).index("4")
    assert of[1][place].residuals[0] > of[0][place].residuals[0] + 3  # the bound knows


def test_perfect_and_lost_structures_are_finite():
    doubt = np.array([0.0, 1e-4, 2e-4, 0.5])
    (curve,) = fit_curves(doubt, np.array([1.0, 0.99, 0.9, 0.0]), np.full(4, "a")).values()
    assert curve.falls and np.isfinite([curve.height, curve.exponent]).all()


# The papers' line


@given(
    arrays(float, 8, elements=st.integers(0, 50).map(lambda v: v * 1e-5)),
    arrays(float, 8, elements=st.floats(0, 1)),
)
def test_straight_line_is_least_squares(doubt, dice):
    line = fit_line(doubt, dice)
    if np.ptp(doubt) == 0:
        assert line is None
        return
    slope, intercept = np.polyfit(doubt, dice, 1)
    assert line.slope * 3e-4 + line.intercept == pytest.approx(slope * 3e-4 + intercept, abs=1e-6)

"""Lines from doubt to Dice: plain for one structure, leaning on one another for several."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mskt.analysis.lines import fit_line, fit_lines, leave_out


def several(seed, slopes, n, noise=0.03, scale=1e-4):
    """Pairs of structures with given slopes (by ``scale``), heights of their own."""
    rng = np.random.default_rng(seed)
    doubt = rng.gamma(3.0, scale, (len(slopes), n))
    height = rng.uniform(0.8, 0.95, (len(slopes), 1))
    dice = height + np.array(slopes)[:, None] / scale * doubt + rng.normal(0, noise, doubt.shape)
    names = np.repeat([f"s{k}" for k in range(len(slopes))], n)
    return doubt.ravel(), dice.ravel(), names


def own_slopes(doubt, dice, names):
    return {str(k): np.polyfit(doubt[names == k], dice[names == k], 1)[0] for k in np.unique(names)}


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
    whose = number.astype(str)
    found = leave_out(doubt, dice, whose)[""]
    names = np.unique(whose)
    assert len(found) == (names.size if names.size > 1 else 0)
    for name, entry in zip(names, found, strict=False):
        rest = whose != name
        again = fit_line(doubt[rest], dice[rest])
        if again is None:
            assert entry.line.slope == 0
            assert entry.line.intercept == pytest.approx(dice[rest].mean())
            continue
        slope, intercept = np.polyfit(doubt[rest], dice[rest], 1)
        assert entry.line.at(3e-4) == pytest.approx(again.at(3e-4), abs=1e-8)
        assert again.at(3e-4) == pytest.approx(slope * 3e-4 + intercept, abs=1e-6)
        expected = [
            np.clip(again.at(u), 0, 1) - d for u, d in zip(doubt[~rest], dice[~rest], strict=True)
        ]
        assert entry.residuals == pytest.approx(expected, abs=1e-8)


@given(st.integers(0, 99), st.integers(2, 8), st.integers(3, 12))
def test_a_slope_lies_between_its_own_and_the_others(seed, structures, n):
    rng = np.random.default_rng(seed)
    doubt, dice, names = several(seed, rng.normal(-0.02, 0.01, structures), n)
    own, leaning = own_slopes(doubt, dice, names), fit_lines(doubt, dice, names)
    rose, fell = [-np.inf], [np.inf]
    for name, line in leaning.items():
        moved = line.slope - own[name]
        (rose if moved > 0 else fell).append(line.slope - 1e-6 * moved)
        mine = names == name  # its height is its own
        assert line.at(doubt[mine].mean()) == pytest.approx(dice[mine].mean())
    assert max(rose) <= min(fell) + 1e-6 * abs(min(fell))  # the common slope is between


def test_slopes_that_do_not_differ_become_one():
    """Four structures with one true slope: the leaning ones err less than the structures' own."""
    own_error, leaning_error = [], []
    for seed in range(40):
        doubt, dice, names = several(seed, [-0.02] * 6, 12)
        own, leaning = own_slopes(doubt, dice, names), fit_lines(doubt, dice, names)
        own_error += [(slope * 1e-4 + 0.02) ** 2 for slope in own.values()]
        leaning_error += [(line.slope * 1e-4 + 0.02) ** 2 for line in leaning.values()]
    assert np.mean(leaning_error) < 0.5 * np.mean(own_error)


def test_slopes_that_differ_stay_apart():
    doubt, dice, names = several(0, [-0.05, -0.01, 0.02], 400, noise=0.01)
    leaning = fit_lines(doubt, dice, names)
    for name, slope in own_slopes(doubt, dice, names).items():
        assert leaning[name].slope == pytest.approx(slope, rel=0.01, abs=2)


def test_variance_between_slopes_is_found_by_moments():
    """Against DerSimonian and Laird written out for one table."""
    doubt, dice, names = several(4, [-0.03, -0.02, -0.01, 0.0], 15)
    x, y = doubt.reshape(4, 15), dice.reshape(4, 15)
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    own = (x * y).sum(1) / (x * x).sum(1)
    noise = ((y - own[:, None] * x) ** 2).sum() / (4 * 13)
    weight = (x * x).sum(1) / noise
    fixed = (weight * own).sum() / weight.sum()
    q = (weight * (own - fixed) ** 2).sum()
    between = max(0.0, (q - 3) / (weight.sum() - (weight**2).sum() / weight.sum()))
    assert between > 0
    random = 1 / (1 / weight + between)
    common = (random * own).sum() / random.sum()
    expected = (own * weight + common / between) / (weight + 1 / between)
    found = [line.slope for line in fit_lines(doubt, dice, names).values()]
    assert found == pytest.approx(expected)


@given(st.integers(0, 99))
def test_unit_of_the_doubt_does_not_matter(seed):
    doubt, dice, names = several(seed, [-0.03, -0.01, 0.01], 12)
    first, second = fit_lines(doubt, dice, names), fit_lines(1e4 * doubt, dice, names)
    for name, line in first.items():
        assert line.slope == pytest.approx(1e4 * second[name].slope, rel=1e-6)
        assert line.intercept == pytest.approx(second[name].intercept, rel=1e-6)


@given(st.integers(0, 99))
def test_a_patient_left_out_is_nowhere_in_the_lines(seed):
    doubt, dice, names = several(seed, [-0.03, -0.01, 0.01], 12)
    patients = np.tile([f"p{k:02}" for k in range(6)], 6)
    found = leave_out(doubt, dice, patients, names)
    for number, name in enumerate(np.unique(patients)):
        rest = patients != name
        again = fit_lines(doubt[rest], dice[rest], names[rest])
        for structure, line in again.items():
            entry = found[structure][number]
            assert entry.line.slope == pytest.approx(line.slope, rel=1e-6)
            assert entry.line.intercept == pytest.approx(line.intercept, rel=1e-6)
            mine = (patients == name) & (names == structure)
            assert entry.residuals == pytest.approx(
                np.clip([line.at(u) for u in doubt[mine]], 0, 1) - dice[mine]
            )


def test_doubt_that_never_varies_has_no_line():
    doubt, dice, names = several(0, [-0.02, -0.02], 12)
    doubt[names == "s1"] = 2e-4
    assert set(fit_lines(doubt, dice, names)) == {"s0"}
    assert fit_lines(doubt[:0], dice[:0], names[:0]) == {}
    assert fit_line(doubt[names == "s1"], dice[names == "s1"]) is None


def test_points_on_lines_keep_their_lines():
    """Without noise nothing is uncertain, and nothing leans."""
    doubt = np.tile(np.arange(5) * 1e-4, 2)
    names = np.repeat(["a", "b"], 5)
    dice = np.where(names == "a", 0.9 - 100 * doubt, 0.8 - 500 * doubt)
    lines = fit_lines(doubt, dice, names)
    assert lines["a"].slope == pytest.approx(-100, rel=1e-4)
    assert lines["b"].slope == pytest.approx(-500, rel=1e-4)

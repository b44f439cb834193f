"""Figures of failure detection, against their definitions written out as loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mskt.analysis import failure
from mskt.analysis.failure import Score

# Few distinct values: ties are the rule.
DOUBTS = st.lists(st.integers(0, 6).map(lambda n: n * 1e-4), min_size=1, max_size=14)


@st.composite
def doubt_and_risk(draw):
    doubt = draw(DOUBTS)
    risk = draw(st.lists(st.floats(0, 1), min_size=len(doubt), max_size=len(doubt)))
    return np.array(doubt), np.array(risk)


@st.composite
def doubt_and_class(draw):
    doubt = draw(DOUBTS)
    return np.array(doubt), np.array(
        draw(st.lists(st.booleans(), min_size=len(doubt), max_size=len(doubt)))
    )


def test_threshold_is_the_papers_formula():
    dice = [0.5, 0.9, 0.91, 0.93, 0.95]  # median 0.91, deviations 0.41 0.01 0 0.02 0.04
    assert failure.dice_threshold(dice, -2) == pytest.approx(0.91 - 2 * 1.4826 * 0.02)
    assert failure.dice_threshold(dice, -3) == pytest.approx(0.91 - 3 * 1.4826 * 0.02)
    with pytest.raises(ValueError, match="at least one"):
        failure.dice_threshold([], -2)


def test_threshold_of_a_normal_sample_is_two_standard_deviations_below():
    dice = np.random.default_rng(0).normal(0.9, 0.02, 20000)
    assert failure.dice_threshold(dice, failure.INACCURATE) == pytest.approx(0.86, abs=0.002)


@given(doubt_and_class())
def test_auroc_is_the_part_of_pairs_in_the_right_order(data):
    doubt, bad = data
    pairs = [1.0 if x > y else 0.5 if x == y else 0.0 for x in doubt[bad] for y in doubt[~bad]]
    found = failure.auroc(doubt, bad)
    if pairs:
        assert found.value == pytest.approx(sum(pairs) / len(pairs))
        assert found.value == pytest.approx(roc_auc_score(bad, doubt))
    else:
        assert found.value is None
        assert found.reason == ("none is bad" if not bad.any() else "all are bad")


def test_auroc_of_nothing_has_a_reason():
    assert failure.auroc([], []) == Score(None, "no pairs")


@given(doubt_and_risk())
def test_aurc_is_the_mean_risk_of_what_is_accepted_at_each_doubt(data):
    doubt, risk = data
    selective = [risk[doubt <= theta].mean() for theta in doubt]
    assert failure.aurc(doubt, risk) == pytest.approx(np.mean(selective))
    coverage, curve = failure.risk_coverage(doubt, risk)
    for c, r, theta in zip(coverage, curve, sorted(set(doubt)), strict=True):
        assert c == pytest.approx(np.mean(doubt <= theta))
        assert r == pytest.approx(risk[doubt <= theta].mean())
    assert coverage[-1] == 1.0


@given(doubt_and_risk())
def test_no_order_is_better_than_that_of_the_risk(data):
    doubt, risk = data
    best = np.mean([np.sort(risk)[: i + 1].mean() for i in range(risk.size)])
    assert failure.aurc(doubt, risk) >= best - 1e-12
    assert failure.e_aurc(doubt, risk) == pytest.approx(failure.aurc(doubt, risk) - best, abs=1e-12)


def test_excess_is_zero_for_the_best_order_and_not_for_the_worst():
    risk = np.array([0.0, 0.1, 0.3, 0.9])
    assert failure.e_aurc(risk, risk) == 0.0
    assert failure.e_aurc(-risk, risk) > 0.3
    assert failure.aurc(np.ones(4), risk) == pytest.approx(risk.mean())


@given(doubt_and_class())
def test_augrc_of_errors_follows_from_auroc(data):
    """Traub et al. 2024: (1 − AUROC)·e·(1 − e) + e²/2."""
    doubt, bad = data
    area, e = failure.auroc(doubt, bad).value, bad.mean()
    expected = e**2 / 2 + (0.0 if area is None else (1 - area) * e * (1 - e))
    assert failure.augrc(doubt, bad) == pytest.approx(expected)


def test_augrc_is_the_mean_over_orders_of_what_is_tied():
    """Trapezoids treat equal doubts as if their order were drawn by lot."""
    doubt, risk = np.array([1.0, 2.0, 2.0, 3.0]), np.array([0.1, 0.0, 0.6, 0.2])
    orders = [failure.augrc(doubt + nudge, risk) for nudge in ([0, 0, 0.1, 0], [0, 0.1, 0, 0])]
    assert orders[0] != pytest.approx(orders[1])
    assert failure.augrc(doubt, risk) == pytest.approx(np.mean(orders))


@given(doubt_and_risk(), st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(data, random):
    doubt, risk = data
    order = list(range(doubt.size))
    random.shuffle(order)
    for figure in (failure.aurc, failure.e_aurc, failure.augrc):
        assert figure(doubt[order], risk[order]) == pytest.approx(figure(doubt, risk), abs=1e-12)
    bins = failure.reliability(doubt, risk, 4)
    again = failure.reliability(doubt[order], risk[order], 4)
    assert [b.n for b in again] == [b.n for b in bins]
    assert [b.observed for b in again] == pytest.approx([b.observed for b in bins])


@pytest.mark.parametrize("figure", [failure.aurc, failure.augrc, failure.risk_coverage])
def test_areas_of_nothing_are_refused(figure):
    with pytest.raises(ValueError, match="at least one"):
        figure([], [])


def test_correlations():
    x, y = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.9, 0.8, 0.75, 0.1])
    assert failure.pearson(x, y).value == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert failure.spearman(x, y).value == pytest.approx(-1.0)
    assert failure.pearson(x, y).value > -1.0
    assert failure.pearson(x, np.full(4, 0.3)) == Score(None, "one of the two does not vary")
    assert failure.spearman(np.full(4, 0.1) * 3, y).value is None
    assert failure.pearson([1, 2], [2, 1]) == Score(None, "fewer than 3 pairs")


def test_errors_and_coverage_leave_out_what_was_not_predicted():
    predicted, dice = [0.9, np.nan, 0.5], [0.8, 0.1, 0.6]
    assert failure.mean_absolute_error(predicted, dice).value == pytest.approx(0.1)
    assert failure.mean_absolute_error([np.nan], [0.5]) == Score(None, "no predicted Dice")
    assert failure.empirical_coverage([0.8, np.nan, 0.7], dice).value == 0.5
    assert failure.empirical_coverage([np.nan], [0.5]) == Score(None, "no bound")


def test_reliability_bins_hold_every_prediction_once():
    rng = np.random.default_rng(1)
    predicted = rng.uniform(0.6, 1.0, 203)
    dice = predicted - 0.1
    bins = failure.reliability(np.r_[predicted, np.nan], np.r_[dice, 0.0])
    assert sum(b.n for b in bins) == 203
    assert {b.n for b in bins} <= {20, 21}
    for b in bins:
        inside = (predicted > b.low) & (predicted <= b.high)
        if b is bins[0]:
            inside |= predicted == b.low
        assert (b.n, b.predicted) == (inside.sum(), pytest.approx(predicted[inside].mean()))
    assert failure.calibration_error(bins).value == pytest.approx(0.1)
    assert failure.reliability([], []) == []
    assert failure.calibration_error([]).value is None
    (one,) = failure.reliability([0.5, 0.5], [0.2, 0.4])
    assert (one.low, one.high, one.n, one.observed) == (0.5, 0.5, 2, pytest.approx(0.3))


def test_bootstrap_draws_patients_not_structures():
    """20 equal structures of each of 10 patients know no more than 10 numbers."""
    values = np.random.default_rng(2).normal(size=10)
    many, whose = np.repeat(values, 20), np.repeat([f"p{n}" for n in range(10)], 20)
    by_patient = failure.bootstrap(lambda rows: float(many[rows].mean()), whose)
    alone = failure.bootstrap(lambda rows: float(values[rows].mean()), whose[::20])
    assert (by_patient.low, by_patient.high) == pytest.approx((alone.low, alone.high))
    by_row = failure.bootstrap(lambda rows: float(many[rows].mean()), [str(n) for n in range(200)])
    assert by_patient.high - by_patient.low > 3 * (by_row.high - by_row.low)


def test_bootstrap_is_seeded_and_near_the_normal_interval():
    values = np.random.default_rng(3).normal(size=200)
    names = [str(n) for n in range(200)]

    def mean(rows):
        return float(values[rows].mean())

    first, again = (failure.bootstrap(mean, names, seed=5) for _ in range(2))
    assert first == again != failure.bootstrap(mean, names, seed=6)
    half = 1.96 * values.std() / 200**0.5
    assert first.low == pytest.approx(values.mean() - half, abs=0.02)
    assert first.high == pytest.approx(values.mean() + half, abs=0.02)
    assert first.defined == first.draws == 1000


def test_bootstrap_says_when_it_is_undefined():
    assert failure.bootstrap(lambda _: 1.0, ["a", "a"]).reason == "fewer than 2 patients"
    names = [str(n) for n in range(30)]
    bad = np.arange(30) == 0
    rare = failure.bootstrap(lambda rows: failure.auroc(rows, bad[rows]).value, names)
    assert rare.low is not None and 500 < rare.defined < 1000
    never = failure.bootstrap(lambda _: None, names)
    assert (never.low, never.high, never.reason) == (None, None, "undefined in most resamples")


def test_difference_of_two_scores_is_paired():
    """Both rise and fall with the patients drawn; their difference hardly does."""
    rng = np.random.default_rng(4)
    first = rng.normal(size=60)
    second = first + rng.normal(0.5, 0.01, 60)
    names = [str(n) for n in range(60)]
    found = failure.bootstrap_difference(
        lambda rows: float(second[rows].mean()), lambda rows: float(first[rows].mean()), names
    )
    assert 0.49 < found.low < found.high < 0.51
    none = failure.bootstrap_difference(lambda _: 1.0, lambda _: None, names)
    assert none.low is None

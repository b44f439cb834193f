"""Tests and agreement measures against libraries that have the same statistic."""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict

import numpy as np
import pytest
import scipy.stats
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mskt.analysis.statistics import agreement as agree
from mskt.analysis.statistics.correction import adjust
from mskt.analysis.statistics.figure import Figure
from mskt.analysis.statistics.independent import common_language, mann_whitney
from mskt.analysis.statistics.paired import MIN_PATIENTS, SIGNED_RANK, T_TEST, paired

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # theirs, on import
    pingouin = pytest.importorskip("pingouin")
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    weightstats = pytest.importorskip("statsmodels.stats.weightstats")

EXACT = {"rel": 1e-9, "abs": 1e-9}


def dice(seed, n, skewed=False):
    """Two methods on n patients; the differences are normal, or very much not."""
    rng = np.random.default_rng(seed)
    first = rng.uniform(0.7, 0.95, n)
    apart = rng.exponential(0.02, n) ** 2 * 20 - 0.01 if skewed else rng.normal(0.01, 0.02, n)
    return first, first - apart


def numbers_in(result):
    """Every number of a result, however deep."""
    if isinstance(result, dict):
        return [x for part in result.values() for x in numbers_in(part)]
    return [result] if isinstance(result, float | int) else []


# Eighths and few of them: zeros and ties are the rule, and exact in binary.
COARSE = st.lists(st.integers(-6, 6).map(lambda n: n / 8), min_size=0, max_size=14)
PAIRS_OF_EIGHTHS = st.lists(st.tuples(*[st.integers(-3, 3).map(lambda n: n / 8)] * 2), max_size=7)
PAIRS_OF_NUMBERS = st.lists(
    st.tuples(*[st.floats(-1e3, 1e3, allow_nan=False).map(lambda x: round(x, 3))] * 2),
    max_size=12,
)


# --- paired ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_normal_differences_get_the_t_test_of_three_libraries(seed):
    first, second = dice(seed, 20)
    found = paired(first, second)
    if scipy.stats.shapiro(first - second).pvalue < 0.05:  # 1 of 20 normal samples
        assert found.test == SIGNED_RANK
        return
    theirs = scipy.stats.ttest_rel(first, second)
    low, high = weightstats.DescrStatsW(first - second).tconfint_mean()
    assert found.test == T_TEST and "Shapiro–Wilk p = " in found.why
    assert (found.statistic, found.p) == pytest.approx((theirs.statistic, theirs.pvalue), **EXACT)
    assert (found.difference.low, found.difference.high) == pytest.approx((low, high), **EXACT)
    pg = pingouin.ttest(first, second, paired=True)
    assert found.p == pytest.approx(float(pg.at["T_test", "p_val"]), **EXACT)
    assert found.effect == pytest.approx(float(pg.at["T_test", "T"]) / math.sqrt(20), **EXACT)
    assert found.effect_name == "d_z"


@pytest.mark.parametrize("n", [8, 30, 70])
def test_other_differences_get_the_signed_rank_test_of_two_libraries(n):
    first, second = dice(1, n, skewed=True)
    found = paired(first, second)
    theirs = scipy.stats.wilcoxon(first, second, correction=True)
    pg = pingouin.wilcoxon(first, second)
    assert (found.test, found.effect_name) == (SIGNED_RANK, "r_rb")
    assert (found.statistic, found.p) == pytest.approx((theirs.statistic, theirs.pvalue), **EXACT)
    assert found.p == pytest.approx(float(pg.at["Wilcoxon", "p_val"]), **EXACT)
    assert found.effect == pytest.approx(float(pg.at["Wilcoxon", "RBC"]), **EXACT)
    assert found.difference.low < found.difference.value < found.difference.high


def test_the_border_of_normality_is_the_papers():
    """On each side of Shapiro–Wilk p = 0.05, nearer and nearer: the test changes there."""
    first, second = dice(1, 30, skewed=True)
    normal = dice(2, 30)
    for part in np.linspace(0, 1, 41):
        mixed = part * (first - second) + (1 - part) * (normal[0] - normal[1])
        expected = SIGNED_RANK if scipy.stats.shapiro(mixed).pvalue < 0.05 else T_TEST
        assert paired(mixed, np.zeros(30)).test == expected


@settings(deadline=None, max_examples=40)
@given(COARSE)
def test_ties_and_zeros_give_a_test_or_a_reason_never_nan(apart):
    found = paired(apart, np.zeros(len(apart)))
    assert (found.p is None) == bool(found.reason)
    assert all(map(math.isfinite, numbers_in(asdict(found))))
    if found.p is not None:
        assert 0 <= found.p <= 1
    if found.test == SIGNED_RANK:
        apart = np.array(apart)
        expected = scipy.stats.wilcoxon(apart[apart != 0], correction=True)
        assert found.p == pytest.approx(expected.pvalue, **EXACT)
        assert -1 <= found.effect <= 1


def test_a_tied_exact_p_value_counts_all_signs():
    """Seven ranks tied in pairs, written out: 2⁷ sign patterns."""
    apart = np.array([0.1, 0.1, -0.2, 0.2, 0.3, 0.3, 9.0])
    found = paired(apart, np.zeros(7))
    ranks = scipy.stats.rankdata(np.abs(apart))
    sums = [sum(r for k, r in enumerate(ranks) if code >> k & 1) for code in range(2**7)]
    observed = ranks[apart > 0].sum()
    p = 2 * min(np.mean([s >= observed for s in sums]), np.mean([s <= observed for s in sums]))
    assert found.test == SIGNED_RANK and found.p == pytest.approx(p, **EXACT)


def test_ties_survive_binary_fractions():
    """0.9 − 0.8 and 0.3 − 0.2 differ in the last bit; they are the same tenth."""
    first = np.array([0.9, 0.3, 0.7, 0.4, 0.8, 0.6, 0.5, 9.9])
    second = np.array([0.8, 0.2, 0.6, 0.5, 0.7, 0.5, 0.4, 0.1])
    apart = [0.1, 0.1, 0.1, -0.1, 0.1, 0.1, 0.1, 9.8]
    assert len(set(first - second)) > 3  # as binary fractions they are not tied
    found, plain = paired(first, second), paired(apart, np.zeros(8))
    assert found.test == plain.test == SIGNED_RANK
    assert (found.statistic, found.p) == (plain.statistic, plain.p)


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ([], [], "no patients"),
        ([0.9] * 5, [0.8, 0.7, 0.6, 0.5, 0.4], "at least 6"),
        ([0.9] * 9, [0.9] * 9, "equal in every patient"),
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [0.8, 0.7, 0.6, 0.5, 0.4, 0.3], "differences are equal"),
        ([0.5] * 9, [0.5] * 4 + [0.1, 0.2, 0.3, 0.4, 0.45], "differ in 5 patients only"),
    ],
)
def test_what_cannot_be_tested_has_a_reason_and_no_number(first, second, reason):
    found = paired(first, second)
    assert reason in found.reason and reason in found.difference.reason
    assert (found.test, found.p, found.statistic, found.effect) == ("", None, None, None)
    assert found.difference.value is None


def test_fewer_patients_than_the_least_could_never_reach_the_level():
    assert 2 / 2**MIN_PATIENTS < 0.05 <= 2 / 2 ** (MIN_PATIENTS - 1)


@pytest.mark.parametrize("skewed", [False, True])
def test_order_of_patients_does_not_matter_and_exchange_turns_the_sign(skewed):
    first, second = dice(3, 24, skewed)
    order = np.random.default_rng(0).permutation(24)
    one, other = paired(first, second), paired(first[order], second[order])
    assert one.test == other.test
    assert other.p == pytest.approx(one.p) and other.effect == pytest.approx(one.effect)
    back = paired(second, first)
    assert back.p == pytest.approx(one.p) and back.effect == pytest.approx(-one.effect)
    assert back.difference.value == pytest.approx(-one.difference.value)


def test_bootstrap_interval_is_that_of_a_plain_loop():
    first, second = dice(1, 30, skewed=True)
    found = paired(first, second, draws=4000, seed=3)
    rng = np.random.default_rng(99)
    apart = first - second
    means = [apart[rng.integers(30, size=30)].mean() for _ in range(4000)]
    width = np.ptp(np.quantile(means, [0.025, 0.975]))
    assert found.difference.low == pytest.approx(np.quantile(means, 0.025), abs=0.1 * width)
    assert found.difference.high == pytest.approx(np.quantile(means, 0.975), abs=0.1 * width)
    assert found.difference == paired(first, second, draws=4000, seed=3).difference


def test_more_patients_than_shapiro_and_wilk_know():
    first, second = dice(0, 5001)
    found = paired(first, second, draws=20)
    assert found.test == SIGNED_RANK and "5000" in found.why


def test_missing_values_are_refused():
    for wrong in ([1.0, math.nan] * 5, [1.0, math.inf] * 5, [[1.0]] * 10):
        with pytest.raises(ValueError, match="finite"):
            paired(wrong, [1.0] * 10)
    with pytest.raises(ValueError, match="no pairs"):
        paired([1.0] * 9, [1.0] * 10)


# --- groups ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(COARSE, COARSE)
def test_two_groups_as_in_scipy_and_pingouin(first, second):
    found = mann_whitney(first, second)
    assert all(map(math.isfinite, numbers_in(asdict(found))))
    assert (found.p is None) == bool(found.reason)
    if found.p is None:
        return
    theirs = scipy.stats.mannwhitneyu(first, second)
    assert (found.u, found.p) == pytest.approx((theirs.statistic, theirs.pvalue), **EXACT)
    pg = pingouin.mwu(np.array(first), np.array(second))
    assert found.common_language == pytest.approx(float(pg.at["MWU", "CLES"]), **EXACT)
    assert found.rank_biserial == pytest.approx(float(pg.at["MWU", "RBC"]), **EXACT)
    assert common_language(first, second) == pytest.approx(found.common_language, **EXACT)


def test_groups_too_small_or_equal_have_a_reason():
    assert "3 and 4 patients: too few" in mann_whitney([1, 2, 3], [4, 5, 6, 7]).reason
    assert mann_whitney([1, 2, 3, 0], [4, 5, 6, 7]).p == pytest.approx(2 / 70)
    assert "one of the two" in mann_whitney([], [1.0] * 9).reason
    assert "equal" in mann_whitney([0.1 + 0.2] * 9, [0.3] * 9).reason
    assert common_language([], [1.0]) is None


# --- many comparisons --------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.sampled_from(["holm", "bonferroni"]))
def test_adjusted_as_in_statsmodels(p_values, method):
    theirs = multitest.multipletests(p_values, method=method)[1]
    assert adjust(p_values, method) == pytest.approx(list(theirs), **EXACT)


def test_only_tests_that_were_done_count():
    assert adjust([0.01, None, 0.02], "bonferroni") == [0.02, None, 0.04]
    assert adjust([0.02, None, 0.01], "holm") == [0.02, None, 0.02]
    assert adjust([0.01, None], "none") == [0.01, None]
    assert adjust([None, None], "holm") == [None, None]
    with pytest.raises(ValueError, match="sidak"):
        adjust([0.1], "sidak")


# --- agreement ---------------------------------------------------------------------------------


def volumes(seed, n=25, noise=20.0, bias=10.0):
    rng = np.random.default_rng(seed)
    reference = rng.normal(300, 60, n)
    return reference + bias + rng.normal(0, noise, n), reference


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("noise", "bias"), [(20, 10), (1, 0), (200, -90)])
def test_icc_as_in_pingouin(seed, noise, bias):
    pandas = pytest.importorskip("pandas")
    x, y = volumes(seed, noise=noise, bias=bias)
    table = pandas.DataFrame(
        {
            "patient": np.tile(np.arange(25), 2),
            "by": np.repeat(["x", "y"], 25),
            "volume": np.concatenate([x, y]),
        }
    )
    with pingouin.config._no_rounding(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls pandas in ways that pandas will drop
        theirs = pingouin.intraclass_corr(table, "patient", "by", "volume").set_index("Type")
    for figure, kind in (
        (agree.icc_agreement(x, y), "ICC(A,1)"),
        (agree.icc_consistency(x, y), "ICC(C,1)"),
    ):
        low, high = theirs.at[kind, "CI95"]
        ours = (figure.value, figure.low, figure.high)
        assert ours == pytest.approx((theirs.at[kind, "ICC"], low, high), **EXACT)


@pytest.mark.parametrize("seed", range(4))
def test_pearson_and_spearman_as_in_scipy(seed):
    x, y = volumes(seed)
    found = agree.agreement(x, y, draws=20)
    theirs = scipy.stats.pearsonr(x, y)
    interval = theirs.confidence_interval(0.95)
    ours = (found.pearson.value, found.pearson.low, found.pearson.high)
    assert ours == pytest.approx((theirs.statistic, interval.low, interval.high), **EXACT)
    assert found.spearman.value == pytest.approx(scipy.stats.spearmanr(x, y).statistic, **EXACT)
    assert found.mae.value == pytest.approx(np.mean(np.abs(x - y)), **EXACT)


def test_ccc_is_lins_formula_and_follows_from_pingouins_icc():
    """With k = 2: ICC(A,1) = 2s_xy / (s_x² + s_y² + (x̄ − ȳ)² − (2/n)·MSE), moments with 1/(n − 1)."""
    x, y = volumes(5)
    n, found = len(x), agree.ccc(x, y)
    sxy = np.cov(x, y)[0, 1]
    error = np.var(x - y, ddof=1) / 2
    shift = (x.mean() - y.mean()) ** 2
    rest = 2 * sxy / agree.icc_agreement(x, y).value - shift + 2 / n * error  # s_x² + s_y²
    part = (n - 1) / n
    assert found.value == pytest.approx(2 * part * sxy / (part * rest + shift), **EXACT)


def test_ccc_interval_holds_the_truth_as_often_as_it_says():
    """Normal pairs with r = 0.9 and a shift of half a standard deviation: ρ_c = 0.8."""
    rng = np.random.default_rng(0)
    truth, held, tries = 2 * 0.9 / (1 + 1 + 0.25), 0, 1500
    for _ in range(tries):
        z = rng.normal(size=(2, 40))
        x = z[0]
        y = 0.9 * z[0] + math.sqrt(1 - 0.81) * z[1] + 0.5
        found = agree.ccc(x, y)
        held += found.low <= truth <= found.high
    assert held / tries == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_limits_of_agreement_are_those_of_bland_and_altman(seed):
    x, y = volumes(seed)
    bias, lower, upper = agree.bland_altman(x, y)
    low, high = weightstats.DescrStatsW(x - y).tconfint_mean()
    assert (bias.low, bias.high) == pytest.approx((low, high), **EXACT)
    sd = np.std(x - y, ddof=1)
    assert lower.value == pytest.approx(np.mean(x - y) - 1.96 * sd, **EXACT)
    assert upper.value == pytest.approx(np.mean(x - y) + 1.96 * sd, **EXACT)
    # Bland & Altman 1986 write √(3/n)·sd; their 1999 formula, ours, differs by little.
    reach = scipy.stats.t.ppf(0.975, 24) * sd * math.sqrt(3 / 25)
    assert upper.high - upper.value == pytest.approx(reach, rel=0.03)
    assert lower.value - lower.low == pytest.approx(upper.high - upper.value)


def test_a_constant_difference_lowers_agreement_and_not_consistency():
    x, y = volumes(0, bias=0)
    found, moved = (agree.agreement(a, y, draws=20) for a in (x, x + 100))
    assert moved.icc_consistency.value == pytest.approx(found.icc_consistency.value)
    assert moved.pearson.value == pytest.approx(found.pearson.value)
    assert moved.icc_agreement.value < found.icc_agreement.value - 0.2
    assert moved.ccc.value < found.ccc.value - 0.2
    assert moved.bias.value == pytest.approx(found.bias.value + 100)


@settings(deadline=None, max_examples=200)
@given(st.one_of(PAIRS_OF_NUMBERS, PAIRS_OF_EIGHTHS))
@example([(0.0, 1.0), (0.0, 1.0), (1.0, 0.0), (1.0, 0.0)])  # mirrored: patients' means are equal
def test_agreement_is_a_number_or_a_reason(pairs):
    x, y = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    found = agree.agreement(x, y, draws=20)
    assert all(map(math.isfinite, numbers_in(asdict(found))))
    for name in ("ccc", "icc_agreement", "icc_consistency", "pearson", "bias", "loa_upper", "mae"):
        figure = getattr(found, name)
        assert (None in (figure.value, figure.low, figure.high)) == bool(figure.reason), name
        if figure.low is not None:
            assert figure.low <= figure.value + 1e-9 and figure.value <= figure.high + 1e-9, name
    order = np.random.default_rng(0).permutation(len(x))
    again = agree.agreement(x[order], y[order], draws=20)
    assert (again.ccc.value, again.icc_agreement.value) == pytest.approx(
        (found.ccc.value, found.icc_agreement.value), nan_ok=False
    )


def test_degenerate_agreement_is_explained():
    x = np.arange(10.0)
    same = agree.agreement(x, x, draws=20)
    assert (same.ccc.value, same.icc_agreement.value, same.pearson.value) == (1, 1, 1)
    assert same.ccc.low is None and "1 or −1" in same.ccc.reason
    assert same.bias == Figure(0.0, reason="no interval where all differences are equal")
    assert same.loa_lower.value is None
    moved = agree.agreement(x + 0.3, x, draws=20)
    assert moved.icc_consistency.value == 1 and moved.icc_agreement.value < 1
    flat = agree.agreement(np.full(10, 7.0), x, draws=20)
    assert flat.ccc.value is None and "vary" in flat.ccc.reason
    assert agree.icc_agreement(np.full(9, 7.0), np.full(9, 8.0)).reason == "patients do not differ"
    few = agree.agreement([1, 2, 3], [1, 2, 4])
    assert few.mae.value is None and "at least 4" in few.reason

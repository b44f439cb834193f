"""From results tables to one value a patient: what counts, what does not, who is drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mskt.analysis.pairs import pairs_of
from mskt.analysis.statistics.bins import POOLED, bins_of
from mskt.analysis.statistics.comparison import compare
from mskt.analysis.statistics.concordance import concordance, implied_reference, left_and_right
from mskt.analysis.statistics.methods import ALL, methods_of, pair, patient_means, patient_pairs
from mskt.core.errors import InputError, UsageError
from mskt.core.records import Record


def row(case, structure="femur", side="both", value=0.9, *, metric="dice", status="ok", **keys):
    names = {"dataset": "", "segmenter": "unet", "uncertainty": "none", "run_id": "r", **keys}
    return Record(
        case_id=case, structure=structure, side=side, metric=metric, value=value,
        unit=names.pop("unit", "1"), status=status, **names,
    )  # fmt: skip


def two(first, second, metric="dice"):
    return methods_of([("one", first), ("two", second)], metric)


def study(seed, shift=0.0, patients=20, structures=("femur", "gracilis", "sartorius"), copies=1):
    """Structures of a patient are alike; ``copies`` repeats each of them, adding no information."""
    rng = np.random.default_rng(seed)
    rows = []
    for p in range(patients):
        apart = rng.exponential(0.03) ** 2 * 20 + shift
        for s in structures:
            value = 0.9 - apart + rng.normal(0, 1e-4)
            rows += [row(f"p{p:02}", f"{s}{c}", value=value) for c in range(copies)]
    return rows


# --- what counts -------------------------------------------------------------------------------


def test_only_rows_that_both_can_count_are_paired_and_the_rest_is_told():
    first = [
        row("a"), row("b", value=0.0, status="absent_prediction"), row("c", status="truncated"),
        row("d", value=None, status="absent_reference"), row("only1"),
    ]  # fmt: skip
    second = [row(c, value=0.8) for c in ("a", "b", "c", "d", "only2")] + [row("a", "gracilis")]
    found = pair(*two(first, second))
    assert list(zip(found.patient, found.x, found.y, strict=True)) == [
        ("a", 0.9, 0.8),
        ("b", 0, 0.8),
    ]
    assert (found.only_first, found.only_second) == (("only1",), ("only2",))
    assert found.left_out() == {"truncated": 1, "absent_reference": 1}
    assert (found.missed_first, found.missed_second, found.lone_rows) == (1, 0, 1)
    assert pair(*two(first, second), truncated=True).patient == ("a", "b", "c")


def test_a_missed_structure_has_no_distance_and_is_told():
    first = [
        row("a", metric="assd"),
        row("b", value=None, status="absent_prediction", metric="assd"),
    ]
    second = [row("a", metric="assd"), row("b", metric="assd")]
    found = pair(*two(first, second, "assd"))
    assert (found.patient, found.missed_first) == (("a",), 1)
    assert found.left_out("femur") == {"absent_prediction": 1}


def test_sides_count_where_both_methods_have_them():
    sided = [row("a", side=s, value=v) for s, v in (("left", 0.8), ("right", 0.9), ("both", 0.1))]
    whole = [row("a", side="both", value=0.5)]
    assert list(pair(*two(sided, sided)).x) == [0.8, 0.9]
    assert list(pair(*two(sided, whole)).x) == [0.1]
    assert list(pair(*two(sided, sided), side="right").x) == [0.9]
    assert list(pair(*two(sided, sided), side="both").x) == [0.1]


def test_a_patient_has_one_value_each_structure_once():
    patients = ["p", "p", "p", "q"]
    structures = ["femur", "femur", "sacrum", "femur"]
    values = np.array([0.2, 0.4, 0.9, 0.5])
    assert patient_means(patients, structures, values) == {"p": pytest.approx(0.6), "q": 0.5}
    assert patient_means(patients, structures, values, "femur")["p"] == pytest.approx(0.3)
    # Two scans of a patient are one patient.
    scans = [row("sub-1_ses-1", value=0.8), row("sub-1_ses-2", value=0.6), row("sub-2", value=0.5)]
    x, _ = patient_pairs(pair(*two(scans, scans)))
    assert list(x) == pytest.approx([0.7, 0.5])


def test_methods_of_one_table_and_of_folds():
    rows = [row("a"), row("a", segmenter="unetr"), row("a", segmenter="unetr", uncertainty="mc")]
    names = [method.name for method in methods_of([("t", rows)], "dice")]
    assert names == ["unet/none", "unetr/none", "unetr/mc"]
    runs = methods_of([("t", [row("a", run_id="x"), row("a", run_id="y")])], "dice")
    assert [method.name for method in runs] == ["x", "y"]
    folds = methods_of(
        [("u", [row("a", run_id="x")]), ("u", [row("b", run_id="y")]), ("v", [row("a")])], "dice"
    )
    assert [(m.name, m.cases) for m in folds] == [("u", ("a", "b")), ("v", ("a",))]
    assert [m.name for m in two([row("a")], [row("a", segmenter="v")])] == ["unet", "v"]


def test_tables_that_cannot_be_compared_are_refused():
    with pytest.raises(UsageError, match="dice"):
        methods_of([("t", [row("a")])], "dise")
    with pytest.raises(UsageError, match="no row of dice"):
        two([row("a")], [row("a", metric="nsd")])
    with pytest.raises(InputError, match="two rows"):
        methods_of([("t", [row("a"), row("a")])], "dice")
    with pytest.raises(InputError, match="different units"):
        pair(*two([row("a")], [row("a", unit="mm")]))
    with pytest.raises(InputError, match="cases of different patients"):
        pair(*two([row("a", dataset="x")], [row("a", dataset="y")]))


# --- comparisons -------------------------------------------------------------------------------


def test_correction_counts_the_tests_that_were_done():
    first, second = study(0), study(1, 0.01)
    first += [row(f"p{p:02}", "sacrum", status="truncated") for p in range(20)]
    second += [row(f"p{p:02}", "sacrum") for p in range(20)]
    found = compare(
        two(first, second), "dice", by_structure=True, correction="bonferroni", draws=100
    )
    assert [line.structure for line in found.lines] == [
        "femur0", "gracilis0", "sartorius0", "sacrum", ALL,
    ]  # fmt: skip
    sacrum = found.lines[3].result
    assert sacrum.reason == "no patients (20 truncated)" and sacrum.p is None
    assert found.tests == 4 and found.lines[3].p_adjusted is None
    for line in found.lines[:3]:
        assert line.p_adjusted == pytest.approx(min(1, 4 * line.result.p))
    alone = compare(two(first, second), "dice", draws=100)
    assert alone.tests == 1 and alone.lines[0].p_adjusted == alone.lines[0].result.p


def test_every_pair_of_three_methods_on_its_own_patients():
    tables = [("a", study(0)), ("b", study(1, patients=15)), ("c", study(2))]
    found = compare(methods_of(tables, "dice"), "dice", draws=100)
    assert [(line.first, line.second, line.result.n) for line in found.lines] == [
        ("a", "b", 15), ("a", "c", 20), ("b", "c", 15),
    ]  # fmt: skip


def test_order_of_rows_does_not_matter():
    first, second = study(0), study(1, 0.01)
    shuffled = [first[k] for k in np.random.default_rng(0).permutation(len(first))]
    one, other = (compare(two(t, second), "dice", draws=100).lines[0] for t in (first, shuffled))
    assert other.result.p == pytest.approx(one.result.p)
    assert other.result.difference.low == pytest.approx(one.result.difference.low)


def test_more_structures_of_the_same_patients_are_no_more_evidence():
    """Each structure ten times: p and interval stay. Drawn row by row they would shrink by √10."""
    few, many = (
        compare(two(study(0, copies=c), study(1, 0.01, copies=c)), "dice").lines[0].result
        for c in (1, 10)
    )
    assert many.n == few.n == 20
    assert many.p == pytest.approx(few.p)
    width = [f.difference.high - f.difference.low for f in (few, many)]
    assert width[1] == pytest.approx(width[0])


# --- agreement ---------------------------------------------------------------------------------


def volumes(seed, patients=12, **keys):
    rng = np.random.default_rng(seed)
    keys = {"metric": "volume", "unit": "cm3", **keys}
    return [
        row(f"p{p:02}", s, side, value=float(rng.uniform(100, 300)), **keys)
        for p in range(patients)
        for s in ("femur", "gracilis")
        for side in ("left", "right")
    ]


def test_reference_volumes_follow_from_ravd():
    true = volumes(0)
    errors = np.random.default_rng(1).normal(0, 5, len(true))
    errors = [
        replace(r, metric="ravd", unit="%", value=e) for r, e in zip(true, errors, strict=True)
    ]
    measured = [
        replace(r, value=r.value * (1 + e.value / 100)) for r, e in zip(true, errors, strict=True)
    ]
    (method,) = methods_of([("t", measured + errors)], "volume")
    implied = implied_reference(method, measured + errors)
    assert [r.value for r in implied.rows.values()] == pytest.approx([r.value for r in true])
    (given,) = methods_of([("t", true)], "volume")
    one, other = (concordance([method], [ref], "volume", draws=100) for ref in (implied, given))
    assert [line.structure for line in one.lines] == ["femur", "gracilis", ALL]
    for a, b in zip(one.lines, other.lines, strict=True):
        assert a.result.n == 12
        assert a.result.ccc.value == pytest.approx(b.result.ccc.value)
    (bare,) = methods_of([("t", measured[1:] + errors[1:] + measured[:1])], "volume")
    lacking = pair(bare, implied_reference(bare, errors[1:]))
    assert lacking.left_out() == {"no_reference": 1}
    with pytest.raises(InputError, match="no row of ravd"):
        implied_reference(method, measured)


def test_left_against_right():
    (method,) = methods_of([("t", volumes(0))], "volume")
    left, right = left_and_right(method)
    found = concordance([left], [right], "volume", draws=100)
    x = [r.value for r in volumes(0) if (r.side, r.structure) == ("left", "femur")]
    y = [r.value for r in volumes(0) if (r.side, r.structure) == ("right", "femur")]
    assert found.lines[0].result.bias.value == pytest.approx(np.mean(x) - np.mean(y))
    (whole,) = methods_of([("t", [row("a")])], "dice")
    with pytest.raises(InputError, match="left and right"):
        left_and_right(whole)


# --- bins --------------------------------------------------------------------------------------


def doubtful(copies=1, patients=40, seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for p in range(patients):
        of_patient = rng.uniform(0, 1)
        for s in range(3):
            doubt = float(np.clip(of_patient + rng.normal(0, 0.1), 0, 1))
            dice = 0.9 - 0.4 * doubt + rng.normal(0, 0.02)
            for c in range(copies):
                rows += [
                    row(f"p{p}", f"s{s}_{c}", value=dice),
                    row(f"p{p}", f"s{s}_{c}", value=doubt, metric="uncertainty"),
                ]
    return pairs_of(rows)


def test_bins_have_equal_width_and_hold_every_value_once():
    found = bins_of(doubtful(), by_structure=True, draws=100)
    assert [one.structure for one in found.sets] == [POOLED, ALL, "s0_0", "s1_0", "s2_0"]
    for one in found.sets:
        assert (
            sum(step.n for step in one.steps) == one.n == (120 if one.structure == POOLED else 40)
        )
        widths = [step.high - step.low for step in one.steps]
        assert len(widths) == 10 and widths == pytest.approx([widths[0]] * 10)
    pairs = doubtful()
    assert found.sets[0].steps[0].low == pairs.doubt.min()
    first = pairs.dice[pairs.doubt < found.sets[0].steps[0].high]
    assert found.sets[0].steps[0].mean == pytest.approx(first.mean())


def test_neighbours_are_tested_with_one_value_a_patient_and_pooled_ones_not_at_all():
    import scipy.stats

    found = bins_of(doubtful(), bins=4, draws=100)
    pooled, means = found.sets
    assert all(step.p is None and step.reason for step in pooled.steps)
    assert found.tests == 3 == sum(step.p is not None for step in means.steps)
    pairs = doubtful()
    names = sorted(set(map(str, pairs.patient)))
    dice, doubt = (
        np.array([values[pairs.patient == n].mean() for n in names])
        for values in (pairs.dice, pairs.doubt)
    )
    edges = np.linspace(doubt.min(), doubt.max(), 5)
    low = dice[doubt < edges[1]]
    following = dice[(doubt >= edges[1]) & (doubt < edges[2])]
    assert means.steps[0].p == pytest.approx(scipy.stats.mannwhitneyu(low, following).pvalue)
    assert means.steps[0].p_adjusted >= means.steps[0].p


def test_the_pooled_interval_draws_patients_not_structures():
    """Ten copies of each structure leave it as wide; drawn row by row it would be √10 narrower."""
    few, many = (
        bins_of(doubtful(copies=c), bins=3, draws=400).sets[0].steps[0].larger for c in (1, 10)
    )
    assert (many.value, many.low, many.high) == pytest.approx((few.value, few.low, few.high))
    assert few.high - few.low > 0.01


def test_too_few_or_equal_uncertainties_have_reasons():
    found = bins_of(doubtful(patients=3), draws=100)
    assert found.tests == 0
    assert all(step.reason for one in found.sets for step in one.steps)
    assert all(step.larger.low is None for one in found.sets for step in one.steps)
    flat = [row(f"p{k}", metric=m, value=0.5) for k in range(9) for m in ("dice", "uncertainty")]
    for one in bins_of(pairs_of(flat)).sets:
        assert one.steps == () and one.reason == "the uncertainty does not vary"
    with pytest.raises(ValueError, match="at least 2"):
        bins_of(doubtful(), bins=1)

"""Ranking on what all have, and figures of doubt and time that say when there are none."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mskt.analysis.benchmarking.doubt import doubt_figures
from mskt.analysis.benchmarking.ranking import BEST, NO_TEST, NOT_SIGNIFICANT, rank
from mskt.analysis.benchmarking.timing import by_stage, timing, timing_from_outside
from mskt.analysis.statistics.methods import methods_of
from mskt.core.records import Record

STRUCTURES = ("femur", "gracilis")


def record(case, structure, value, *, metric="dice", side="left", status="ok", unit="1"):
    return Record(case, "", "s", "u", "r", structure, side, metric, value, unit, status)


def method(name, values, **keys):
    """One row for each (case, structure): value."""
    rows = [record(case, structure, v, **keys) for (case, structure), v in values.items()]
    return replace(methods_of([(name, rows)], keys.get("metric", "dice"))[0], name=name)


def cohort(n, shift=0.0, seed=0, noise=0.0):
    base, own = np.random.default_rng(0), np.random.default_rng(seed + 1)
    return {
        (f"p{k:02}", s): float(base.uniform(0.7, 0.9) + shift + noise * own.normal())
        for k in range(n)
        for s in STRUCTURES
    }


def test_best_is_found_whichever_way_is_better_and_others_are_tested_against_it():
    methods = [
        method("low", cohort(12, -0.05, 1, 0.005)),
        method("top", cohort(12, 0.0, 2, 0.005)),
        method("near", cohort(12, 0.0, 3, 0.005)),
    ]
    found = rank(methods, "dice", "higher")
    assert {place.name for place in found.places[:2]} == {"top", "near"}
    assert [place.rank for place in found.places] == [1, 2, 3]
    first, second, last = found.places
    assert (first.mark, second.mark, last.mark) == (BEST, NOT_SIGNIFICANT, "***")
    assert found.tests == 2 and last.p_adjusted >= last.test.p
    assert last.test.difference.value == pytest.approx(last.mean - first.mean)
    assert rank(methods, "dice", "lower").places[0].name == "low"


def test_only_what_all_have_is_compared():
    full = cohort(8)
    difficult = {**full, ("p00", "femur"): 0.1, ("p00", "gracilis"): 0.1}
    easy_only = {key: value - 0.01 for key, value in full.items() if key[0] != "p00"}
    found = rank([method("all", difficult), method("some", easy_only)], "dice", "higher")
    assert found.cases == tuple(f"p{k:02}" for k in range(1, 8))
    assert found.places[0].name == "all"  # the difficult case, which the other failed in, is out
    assert found.rows == 14 and len(found.places[0].by_patient) == 7


def test_who_has_too_few_cases_or_other_structures_is_left_out_with_the_reason():
    full = cohort(8)
    methods = [
        method("a", full),
        method("b", cohort(8, -0.1)),
        method("few", {k: v for k, v in full.items() if k[0] in ("p00", "p01", "p02")}),
        method("other", {(case, "sacrum"): v for (case, _), v in full.items()}),
    ]
    found = rank(methods, "dice", "higher")
    assert [place.name for place in found.places] == ["a", "b"]
    assert "3 cases only, another one of 8" in found.left_out["few"]
    assert "no structure of the same case" in found.left_out["other"]


def test_too_few_patients_equal_methods_and_nobody():
    few = rank([method("a", cohort(3)), method("b", cohort(3, -0.1))], "dice", "higher")
    assert few.places[1].mark == NO_TEST and "at least 6" in few.places[1].test.reason
    same = rank([method("b", cohort(9)), method("a", cohort(9))], "dice", "higher")
    assert [place.rank for place in same.places] == [1, 1]
    assert "equal in every patient" in same.places[1].test.reason
    assert rank([], "dice", "higher").places == ()
    one = rank([method("a", cohort(1))], "dice", "higher")
    assert one.places[0].mark == BEST and one.places[0].interval.low is None


def test_misses_count_as_they_are_and_cut_structures_only_when_asked_for():
    rows = {("p0", "femur"): 0.8, ("p1", "femur"): 0.9}
    missed = method("m", {**rows, ("p0", "gracilis"): 0.0}, status="absent_prediction")
    assert rank([missed], "dice", "higher").places[0].missed == 3
    cut = method("c", rows, status="truncated")
    assert "field of view" in rank([cut], "dice", "higher").left_out["c"]
    assert rank([cut], "dice", "higher", truncated=True).places[0].mean == pytest.approx(0.85)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.tuples(st.sampled_from(["p0", "p1", "p2"]), st.sampled_from(STRUCTURES)),
            st.one_of(st.none(), st.floats(0, 1)),
            min_size=1,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_ranking_is_complete_and_does_not_depend_on_the_order(tables):
    methods = [
        replace(method("x", {k: v for k, v in t.items() if v is not None} or {("p9", "femur"): 0.5}),
                name=f"m{n}")
        for n, t in enumerate(tables)
    ]  # fmt: skip
    found = rank(methods, "dice", "higher", draws=100)
    again = rank(methods[::-1], "dice", "higher", draws=100)
    names = [place.name for place in found.places]
    assert sorted([*names, *found.left_out]) == sorted(m.name for m in methods)
    assert names == [place.name for place in again.places]
    means = [place.mean for place in found.places]
    assert means == sorted(means, reverse=True) and len(found.places) >= 1


def doubted(dice, doubt, status="ok"):
    rows = []
    for k, (d, u) in enumerate(zip(dice, doubt, strict=True)):
        rows.append(record(f"p{k}", "femur", d, status=status))
        rows.append(record(f"p{k}", "femur", u, metric="uncertainty", status=status))
    return rows


def test_doubt_that_is_right_and_doubt_that_says_nothing():
    dice = [0.9, 0.91, 0.92, 0.93, 0.94, 0.3]
    right = doubt_figures(doubted(dice, [1 - d for d in dice]))
    wrong = doubt_figures(doubted(dice, dice))
    assert right.inaccurate == 1 and right.auroc.value == 1.0 and wrong.auroc.value == 0.0
    assert right.spearman.value == pytest.approx(-1) and right.aurc.value < wrong.aurc.value
    flat = doubt_figures(doubted(dice, [0.0] * 6))
    assert flat.auroc.value is None and "same everywhere" in flat.auroc.reason
    none = doubt_figures([])
    assert none.pairs == 0 and none.aurc.value is None and none.aurc.reason
    assert doubt_figures(doubted(dice, dice, "truncated")).pairs == 0
    assert doubt_figures(doubted(dice, dice, "truncated"), truncated=True).pairs == 6


def test_times_add_up_and_reading_is_apart():
    seconds = {
        "load": 2.0,
        "segment": 5.0,
        "return": 1.0,
        "record": 0.5,
        "write": 1.0,
        "total": 10.0,
    }
    stages = by_stage(seconds)
    assert sum(stages.values()) == pytest.approx(10) and stages["post-process"] == 1.5
    assert stages["other"] == pytest.approx(0.5)
    found = timing([seconds, {**seconds, "load": 50.0, "total": 58.0}])
    assert found.seconds == pytest.approx(8) and found.sd == pytest.approx(0)
    assert found.cases_per_hour == pytest.approx(450) and found.stages["read"] == 26
    assert timing([]).seconds is None and timing([]).cases_per_hour is None
    assert timing_from_outside([3.0, 5.0]).seconds == 4 and not timing_from_outside([3.0]).stages

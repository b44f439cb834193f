"""Structures without a reference: predicted Dice, flag and reason."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from calibration_cohorts import cohort, made, patient, row
from hypothesis import given, settings
from hypothesis import strategies as st

from mskt.analysis.curves import Curve
from mskt.analysis.flags import OUTSIDE, FlagRow, apply, flags_tsv, judge, scan_in_question
from mskt.core.errors import InputError


@pytest.fixture(scope="module")
def calibration():
    return made(cohort(30))


def test_flags_follow_the_doubt(calibration):
    seen = replace(calibration.fit_of("femur"), doubt_range=(0.0, 5e-3))
    fit, calibration = seen, replace(calibration, structures=(seen,))
    flags = [
        judge(calibration, "femur", doubt).flag
        for doubt in (
            fit.doubt_inaccurate * 0.5,
            fit.doubt_inaccurate * 0.999,
            fit.doubt_inaccurate * 1.001,
            fit.doubt_failed * 1.001,
            fit.doubt_failed * 100,
        )
    ]
    assert flags == ["ok", "ok", "inaccurate", "failed", "failed"]


def test_what_is_usually_poor_is_not_ok():
    good, poor = made(cohort(30)), made(cohort(30, shift=0.4))
    assert judge(good, "femur", 2e-4).flag == "ok"
    judged = judge(poor, "femur", 2e-4)
    assert 0.4 < judged.predicted_dice < 0.7
    assert (judged.flag, "not good" in judged.reason) == ("inaccurate", True)


@given(st.floats(-1e-2, 1e-2), st.sampled_from(["femur", "sacrum"]))
@settings(deadline=None)
def test_predictions_are_dice_and_the_bound_is_below(calibration, doubt, structure):
    judged = judge(calibration, structure, doubt)
    assert 0 <= judged.lower_bound <= judged.predicted_dice <= 1
    assert judged.reason


def test_far_outside_the_range_seen_nothing_is_known(calibration):
    low, high = calibration.fit_of("femur").doubt_range
    near = judge(calibration, "femur", high + 0.1 * (high - low))
    assert "larger than in any calibration case" in near.reason
    below = judge(calibration, "femur", low - 0.5 * (high - low))
    assert (below.flag, "far smaller" in below.reason) == ("unknown", True)
    # A flatter curve: even far beyond, the prediction stays above the threshold for failed.
    flat = replace(
        calibration,
        structures=tuple(replace(f, curve=Curve(2.9, -1e-3)) for f in calibration.structures),
    )
    above = judge(flat, "femur", high + 0.5 * (high - low))
    assert (above.flag, "far larger" in above.reason) == ("unknown", True)


def test_less_doubt_than_ever_seen_promises_no_more(calibration):
    fit = calibration.fit_of("femur")
    least = judge(calibration, "femur", fit.doubt_range[0])
    for doubt in (0.0, 0.5 * fit.doubt_range[0]):
        judged = judge(calibration, "femur", doubt)
        assert judged.predicted_dice == least.predicted_dice
        assert judged.lower_bound == least.lower_bound
    assert (
        judge(calibration, "femur", 1.1 * fit.doubt_range[0]).predicted_dice < least.predicted_dice
    )


def test_what_is_missing_or_cut(calibration):
    missing = judge(calibration, "femur", None, "absent_prediction")
    assert (missing.flag, missing.reason, missing.predicted_dice) == ("failed", "not found", None)
    assert judge(calibration, "femur", None).flag == "unknown"
    beyond = judge(calibration, "femur", None, "truncated")
    assert (beyond.flag, "outside the scan" in beyond.reason) == ("unknown", True)
    whole, cut = (judge(calibration, "femur", 2e-4, s) for s in ("ok", "truncated"))
    assert cut.flag == whole.flag
    assert "cuts it off" in cut.reason and "cuts it off" not in whole.reason


def test_apply_makes_rows_and_flags(calibration):
    records = [
        *patient(np.random.default_rng(5), "new"),
        row("new", "sacrum", "both", "uncertainty", None, "absent_prediction"),
        row("new", "pelvis", "left", "uncertainty", None, "ok"),
    ]
    rows, flags = apply(calibration, records)
    assert [(f.structure, f.side) for f in flags] == [
        ("femur", "left"), ("femur", "right"), ("gracilis", "left"), ("gracilis", "right"),
        ("sacrum", "both"), ("pelvis", "left"),
    ]  # fmt: skip
    assert [r.metric for r in rows[:2]] == ["predicted_dice", "predicted_dice_lower"]
    assert len(rows) == 12
    assert {(r.case_id, r.segmenter, r.run_id, r.unit) for r in rows} == {("new", "unet", "r", "1")}
    assert rows[0].value == judge(calibration, "femur", records[1].value).predicted_dice
    assert (rows[8].value, rows[8].status) == (None, "absent_prediction")
    assert (rows[10].value, rows[10].status) == (None, "no_reference")
    lines = flags_tsv(flags).splitlines()
    assert lines[0].split("\t")[:4] == ["structure", "side", "flag", "predicted_dice"]
    assert lines[5] == "sacrum\tboth\tfailed\t\t\t\tnot found"
    with pytest.raises(InputError, match="have no 'uncertainty'"):
        apply(calibration, [r for r in records if r.metric == "dice"])


def told(**counts):
    return [
        FlagRow(f"m{k}", "left", flag, None, None, None, OUTSIDE if flag == "gone" else "")
        for flag, count in counts.items()
        for k in range(count)
    ]


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 10), st.integers(0, 40))
def test_the_scan_is_in_question_where_nearly_all_in_view_failed(failed, ok, unknown, gone):
    hint = scan_in_question(told(failed=failed, ok=ok, unknown=unknown, gone=gone))
    judged = failed + ok + unknown
    assert (hint is not None) == (judged >= 6 and 3 * failed > 2 * judged)
    if hint:
        assert hint.startswith(f"{failed} of {judged} structures are probably wrong")

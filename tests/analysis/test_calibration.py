"""A calibration on simulated patients: what it promises is counted, what it cannot know it says."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mskt.analysis import trial
from mskt.analysis.calibration import ALL, MIN_CASES, Calibration, Provenance, Thresholds
from mskt.analysis.conformal import lower_bound, lowest_by_chance, patients_needed
from mskt.analysis.curves import Curve, fit_curves, leave_out
from mskt.analysis.failure import dice_threshold
from mskt.analysis.fitting import calibrate
from mskt.analysis.flags import apply, flags_tsv, judge
from mskt.analysis.pairs import pairs_of, patient_of
from mskt.core.errors import InputError, UsageError
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


@pytest.fixture(scope="module")
def calibration():
    return made(cohort(30))


# Pairs


def test_sides_are_pairs_and_their_sum_is_not():
    pairs = pairs_of(cohort(3))
    assert len(pairs) == 12
    assert set(pairs.side) == {"left", "right"}
    assert 0.123 not in pairs.dice
    sacrum = [row("a", "sacrum", "both", m, v) for m, v in (("dice", 0.9), ("uncertainty", 1e-3))]
    assert pairs_of(sacrum).side.tolist() == ["both"]


def test_missed_cut_and_unmatched_structures():
    records = [
        row("a", "femur", "left", "dice", 0.0, "absent_prediction"),
        row("a", "femur", "left", "uncertainty", None, "absent_prediction"),
        row("a", "femur", "right", "dice", 0.8, "truncated"),
        row("a", "femur", "right", "uncertainty", 2e-4, "truncated"),
        row("a", "pelvis", "left", "dice", None, "absent_reference"),
        row("a", "pelvis", "left", "uncertainty", 1e-4),
        row("a", "iliopsoas", "left", "dice", 0.7),
    ]
    pairs = pairs_of(records)
    assert pairs.dice.tolist() == [0.0, 0.8]
    assert pairs.found.tolist() == [False, True]
    assert (pairs.without_doubt, pairs.structures) == (1, ("femur",))


def test_checksum_is_of_the_rows_used_in_any_order():
    records = cohort(4)
    digest = pairs_of(records).sha256
    assert pairs_of(records[::-1]).sha256 == digest
    assert pairs_of([*records, row("p000", "femur", "left", "volume", 3.0)]).sha256 == digest
    changed = [replace(r, value=0.5) if r is records[0] else r for r in records]
    assert pairs_of(changed).sha256 != digest


def test_unusable_tables_are_refused():
    records = cohort(3)
    with pytest.raises(InputError, match="two rows of dice for femur \\(left\\)"):
        pairs_of([*records, records[0]])
    with pytest.raises(InputError, match="no Dice"):
        pairs_of([r for r in records if r.metric != "dice"])
    with pytest.raises(UsageError, match="Did you mean uncertainty:soft_dice"):
        pairs_of([*records, row("p000", "femur", "left", "uncertainty:soft_dice", 0.1)],
                 "uncertainty:softdice")  # fmt: skip


def test_visits_of_a_patient_belong_together():
    assert patient_of("sub-07_ses-2_ct") == "sub-07"
    assert patient_of("case_07") == "case_07"


# Bounds


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


# Fitting


def test_curve_thresholds_and_their_inverse(calibration):
    pairs = pairs_of(cohort(30))
    curves = fit_curves(pairs.doubt, pairs.dice, pairs.structure)
    curves |= fit_curves(pairs.doubt, pairs.dice, np.full(len(pairs), ALL))
    for fit in (*calibration.structures, calibration.pooled):
        mine = (
            np.ones(len(pairs), bool) if fit.structure == ALL else pairs.structure == fit.structure
        )
        assert fit.curve == curves[fit.structure]
        assert fit.dice.inaccurate == pytest.approx(dice_threshold(pairs.dice[mine], -2))
        assert fit.dice.failed == pytest.approx(dice_threshold(pairs.dice[mine], -3))
        assert fit.curve.predict(fit.doubt_inaccurate) == pytest.approx(fit.dice.inaccurate)
        assert fit.curve.predict(fit.doubt_failed) == pytest.approx(fit.dice.failed)
        assert fit.failed == (pairs.dice[mine] < fit.dice.failed).sum()
        assert (fit.pairs, fit.patients) == (mine.sum(), 30)
    assert calibration.provenance.rows_sha256 == pairs.sha256
    assert (calibration.provenance.cases, calibration.provenance.pairs) == (30, 120)


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False))
def test_order_of_tables_does_not_matter(random):
    records = cohort(12, seed=3)
    shuffled = list(records)
    random.shuffle(shuffled)
    first, second = made(records), made(shuffled)
    for name in ("femur", "gracilis"):
        for doubt in (1e-5, 3e-4, 9e-4, 1.0):
            one, other = judge(first, name, doubt), judge(second, name, doubt)
            assert (one.flag, one.reason) == (other.flag, other.reason)
            assert one.predicted_dice == pytest.approx(other.predicted_dice)
            assert one.lower_bound == pytest.approx(other.lower_bound)


def test_too_few_patients_are_refused():
    with pytest.raises(InputError, match=r"at least 10 patients .* 9 cases of 9 patients"):
        made(cohort(9))
    visits = [replace(r, case_id=f"sub-1_ses-{r.case_id}") for r in cohort(12)]
    with pytest.raises(InputError, match="12 cases of 1 patient"):
        made(visits)
    assert made(cohort(10)).provenance.patients == 10


@pytest.mark.parametrize("coverage", [0.0, 1.0, 90])
def test_coverage_must_be_a_part(coverage):
    with pytest.raises(UsageError, match="not between 0 and 1"):
        made(cohort(10), coverage)


def test_rare_structures_are_judged_like_all():
    records = cohort(20)
    rare = [r for r in records if r.structure == "femur" or r.case_id < "p004"]
    fits = made(rare)
    gracilis = fits.fit_of("gracilis")
    assert (gracilis.pairs, gracilis.curve, gracilis.left_out) == (8, None, ())
    assert "8 pairs" in gracilis.notes[0]
    judged = judge(fits, "gracilis", 3e-4)
    assert judged.predicted_dice == fits.pooled.curve.predict(3e-4)
    assert "too few calibration cases" in judged.reason
    unknown = judge(fits, "sacrum", 3e-4)
    assert unknown.predicted_dice == judged.predicted_dice
    assert "no calibration case had a reference of it" in unknown.reason


def test_few_patients_with_two_sides_have_a_line_but_the_bound_of_all():
    records = [r for r in cohort(20) if r.structure == "femur" or r.case_id < "p006"]
    fits = made(records)
    gracilis = fits.fit_of("gracilis")
    assert (gracilis.pairs, gracilis.left_out) == (12, ())
    assert gracilis.curve is not None
    judged = judge(fits, "gracilis", 3e-4)
    assert judged.predicted_dice == gracilis.curve.predict(3e-4)
    of_all = lower_bound(3e-4, fits.pooled.left_out, 0.9)
    assert judged.lower_bound == min(of_all, judged.predicted_dice)


def test_no_bound_where_there_are_too_few_patients_for_it():
    judged = judge(made(cohort(12), 0.95), "femur", 3e-4)
    assert judged.lower_bound is None
    assert "needs 19 calibration patients" in judged.reason
    assert judged.flag == "ok"


def test_a_doubt_that_never_varies_or_rises_with_dice_gives_no_threshold():
    records = [
        replace(r, value=2e-4) if (r.structure, r.metric) == ("femur", "uncertainty") else
        replace(r, value=1e-3 - r.value) if r.metric == "uncertainty" and r.side != "both" else r
        for r in cohort(20, noise=0.005)
    ]  # fmt: skip
    fits = made(records)
    femur, gracilis = fits.fit_of("femur"), fits.fit_of("gracilis")
    assert (femur.curve, femur.doubt_inaccurate, femur.doubt_failed) == (None, None, None)
    assert "never varied" in judge(fits, "femur", 2e-4).reason
    assert not gracilis.curve.falls
    assert (gracilis.doubt_inaccurate, gracilis.doubt_failed) == (None, None)
    judged = judge(fits, "gracilis", 5e-4)
    assert judged.flag == "unknown"
    assert "did not mean a lower Dice" in judged.reason


def test_a_structure_that_rises_is_unknown_whatever_the_others_do():
    names = ("femur", "gracilis", "sacrum", "pelvis")
    records = [
        replace(r, value=1e-3 - r.value)
        if (r.structure, r.metric) == ("gracilis", "uncertainty") and r.side != "both" else r
        for r in cohort(20, structures=names, noise=0.005)
    ]  # fmt: skip
    fits = made(records)
    gracilis, others = fits.fit_of("gracilis"), [f for f in fits.structures if f.curve.falls]
    assert (gracilis.curve.falls, gracilis.left_out, gracilis.doubt_failed) == (False, (), None)
    assert "did not mean a lower Dice" in " ".join(gracilis.notes)
    assert len(others) == 3 and len({f.curve.exponent for f in others}) == 1
    middle = {f.structure: float(np.mean(f.doubt_range)) for f in fits.structures}
    flags = {name: judge(fits, name, middle[name]).flag for name in names}
    assert flags["gracilis"] == "unknown" and "unknown" not in {flags[f.structure] for f in others}


def test_equal_dice_give_no_thresholds():
    assert Thresholds.of([1.0, 1.0, 1.0, 0.2]) is None
    assert Thresholds.of([]) is None
    records = [replace(r, value=1.0) if r.metric == "dice" else r for r in cohort(12)]
    fits = made(records)
    assert fits.fit_of("femur").dice is None
    assert judge(fits, "femur", 3e-4).flag == "unknown"


def test_missed_structures_count_in_the_thresholds_but_not_in_the_curve():
    records = cohort(20)
    lost = [
        replace(r, value=0.0 if r.metric == "dice" else None, status="absent_prediction")
        if (r.structure, r.side) == ("femur", "left") and r.case_id < "p003" else r
        for r in records
    ]  # fmt: skip
    fit = made(lost).fit_of("femur")
    assert (fit.pairs, fit.missed) == (37, 3)
    assert fit.failed >= 3
    assert fit.curve.predict(3e-4) == pytest.approx(0.94, abs=0.02)


def test_structures_that_never_fail_are_fine_and_said():
    calm = [replace(r, value=0.9 + 0.01 * (int(r.case_id[1:]) % 3)) if r.metric == "dice" else r
            for r in cohort(12)]  # fmt: skip
    fit = made(calm).fit_of("femur")
    assert (fit.inaccurate, fit.failed) == (0, 0)
    assert any("none was inaccurate" in note for note in fit.notes)


# Judging


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


# Files


def test_json_round_trip_is_exact(calibration):
    text = calibration.to_json()
    assert Calibration.from_json(text) == calibration
    assert Calibration.from_json(text).to_json() == text
    assert "p001" not in text  # nobody's name


def broken(calibration, change):
    content = json.loads(calibration.to_json())
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(schema=1), "schema 1, this mskt reads 2"),
        (lambda c: c.update(coverage=1.5), "coverage 1.5"),
        (lambda c: c.pop("pooled"), "lacks pooled"),
        (lambda c: c.update(colour="red"), "unknown colour"),
        (lambda c: c["pooled"].update(pairs="many"), "pooled.pairs is 'many', not a whole number"),
        (lambda c: c["pooled"].update(pairs=True), "not a whole number"),
        (
            lambda c: c["pooled"]["curve"].update(exponent=None),
            "exponent is None, not a finite number",
        ),
        (lambda c: c["pooled"]["curve"].update(exponent=math.inf), "not a finite number"),
        (lambda c: c["pooled"].update(doubt_range=[1.0]), "1 entries, not 2"),
        (lambda c: c.update(structures={}), "structures is no list"),
        (lambda c: c["structures"].__setitem__(0, 5), r"structures\[0\] is no object"),
        (lambda c: c["provenance"].update(weights_sha256="abc"), "weights_sha256 is no list"),
    ],
)
def test_damaged_files_are_refused_by_name(calibration, change, message):
    with pytest.raises(InputError, match=message) as caught:
        Calibration.from_json(broken(calibration, change), "mine.json")
    assert caught.value.thing == "mine.json"


@pytest.mark.parametrize("text", ["", "[1]", "{", "null"])
def test_other_files_are_refused(text):
    with pytest.raises(InputError, match="is no"):
        Calibration.from_json(text)


def test_another_method_is_refused_by_name(calibration):
    assert calibration.check_fits(*METHOD) == ""
    assert calibration.check_fits(METHOD[0], ("a" * 64, "b" * 64), *METHOD[2:], draws=10) == ""
    for place, wrong, told in (
        (0, "unetr", "segmenter unet, here unetr"),
        (1, "c" * 64, "weights aaaaaaaaaaaa, bbbbbbbbbbbb, here cccccccccccc"),
        (1, "", "here none"),
        (2, "deterministic", "uncertainty mcdropout, here deterministic"),
        (3, "entropy", "measure variance, here entropy"),
        (4, "thigh10", "label set msk22, here thigh10"),
    ):
        asked = [*METHOD]
        asked[place] = wrong
        with pytest.raises(UsageError, match=told):
            calibration.check_fits(*asked)
        assert told in calibration.check_fits(*asked, force=True)
    with pytest.raises(UsageError, match="aggregation mean, here interior"):
        calibration.check_fits(*METHOD, aggregation="interior")
    named = replace(calibration, metric="uncertainty:entropy_interior")
    assert named.check_fits(*METHOD, aggregation="interior") == ""
    with pytest.raises(UsageError, match="here cccccccccccc\\+dddddddddddd"):
        calibration.check_fits(METHOD[0], "c" * 64 + "+" + "d" * 64, *METHOD[2:])
    with pytest.raises(UsageError, match="draws 10, here 3"):
        calibration.check_fits(*METHOD, draws=3)


# Trials


def test_each_patient_is_judged_without_itself():
    """As if one had made eleven calibrations by hand, each of ten patients."""
    pairs = pairs_of(cohort(11))
    fits = calibrate(pairs, "uncertainty", 0.9, MADE_OF)
    errors, held = [], []
    for number in range(len(pairs)):
        rest = pairs.patient != pairs.patient[number]
        others = calibrate(pairs.where(rest), "uncertainty", 0.9, MADE_OF)
        judged = judge(others, str(pairs.structure[number]), float(pairs.doubt[number]))
        errors.append(abs(judged.predicted_dice - pairs.dice[number]))
        held.append(pairs.dice[number] >= judged.lower_bound)
    found = trial.leave_one_patient_out(fits, pairs, draws=20)
    assert found.pooled.mae.value == pytest.approx(np.mean(errors))
    assert found.pooled.coverage.value == pytest.approx(np.mean(held))
    flattering = trial.on_other_cases(fits, pairs, draws=20)
    assert found.pooled.mae.value > flattering.pooled.mae.value


def test_figures_of_a_good_doubt():
    records = cohort(40, noise=0.005)
    pairs = pairs_of(records)
    found = trial.leave_one_patient_out(made(records), pairs, draws=200)
    assert [f.structure for f in found.structures] == ["femur", "gracilis"]
    assert found.pooled.pairs == found.pooled.bounded == 160
    assert found.pooled.coverage.value == pytest.approx(0.9, abs=0.06)
    assert found.pooled.r.value < -0.75
    assert found.pooled.mae.value < 0.02
    low, high = found.intervals["r"].low, found.intervals["r"].high
    assert low < found.pooled.r.value < high < -0.6
    assert found.case_means.pairs == 40
    assert sum(b.n for b in found.reliability) == 160
    assert 0 < found.e_aurc.value < found.aurc.value
    assert made(records).case_means.median == pytest.approx(
        np.median([np.mean(pairs.dice[pairs.case_id == c]) for c in np.unique(pairs.case_id)])
    )


def test_shift_is_shown_not_hidden(calibration):
    """Another scanner: the same doubts, Dice lower by 0.2. The bound must be seen to break."""
    shifted = pairs_of(cohort(20, seed=9, shift=0.2))
    found = trial.on_other_cases(calibration, shifted, draws=50)
    assert found.pooled.coverage.value < 0.2
    assert found.pooled.mae.value == pytest.approx(0.2, abs=0.05)
    like = trial.on_other_cases(calibration, pairs_of(cohort(40, seed=9)), draws=50)
    assert like.pooled.coverage.value == pytest.approx(0.9, abs=0.08)


def test_undefined_figures_keep_their_reason(calibration):
    fine = [replace(r, value=0.99) if r.metric == "dice" else r for r in cohort(3)]
    found = trial.on_other_cases(calibration, pairs_of(fine), draws=20)
    femur = found.structures[0]
    assert (femur.auroc_failed.value, femur.auroc_failed.reason) == (None, "none is bad")
    assert femur.r.value is None
    assert found.intervals["auroc_failed"].low is None


def test_missed_structures_are_counted_in_a_trial(calibration):
    lost = [
        replace(r, value=0.0 if r.metric == "dice" else None, status="absent_prediction")
        if r.case_id == "p000" and r.side == "left" else r
        for r in cohort(3)
    ]  # fmt: skip
    pairs = pairs_of(lost)
    found = trial.on_other_cases(calibration, pairs, draws=20)
    assert (found.pooled.pairs, found.pooled.missed) == (10, 2)
    assert found.cases == 3


def test_shipped_calibrations_are_of_shipped_weights_and_say_what_they_are_of():
    from mskt.analysis import shipped_calibrations
    from mskt.core import weights

    sums = {info.sha256: info for info in weights.available() if "weights" in str(info.path.parent)}
    names = shipped_calibrations.names()
    assert set(names) == {info.name for info in sums.values()} - {"body-net", "region-net"}
    for name in names:
        file = shipped_calibrations.find(name)
        made = Calibration.from_json(file.read_text("utf-8"), file.name)
        (known,) = made.provenance.weights_sha256
        assert sums[known].name == name, "made of other weights than those of its name"
        assert made.provenance.synthetic_cases == made.provenance.cases >= MIN_CASES
        assert made.pooled.curve is not None and made.pooled.curve.falls
        least, most = made.fit_of("adductors").doubt_range
        assert judge(made, "adductors", least).flag == "ok"
        assert judge(made, "adductors", most + 0.1).flag in ("inaccurate", "failed")

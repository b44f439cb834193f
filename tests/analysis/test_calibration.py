"""A calibration on simulated patients: what it learns, its file, and which methods it fits."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from calibration_cohorts import METHOD, cohort, made
from hypothesis import given, settings
from hypothesis import strategies as st

from mskt.analysis.calibration import ALL, Calibration, Thresholds
from mskt.analysis.conformal import lower_bound
from mskt.analysis.curves import fit_curves
from mskt.analysis.failure import dice_threshold
from mskt.analysis.flags import judge
from mskt.analysis.pairs import pairs_of
from mskt.core.errors import InputError, UsageError


@pytest.fixture(scope="module")
def calibration():
    return made(cohort(30))


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

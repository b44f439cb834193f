"""How a calibration fares: without each patient, and elsewhere; and those that come with mskt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from calibration_cohorts import MADE_OF, cohort, made

from mskt.analysis import trial
from mskt.analysis.calibration import MIN_CASES, Calibration
from mskt.analysis.fitting import calibrate
from mskt.analysis.flags import judge
from mskt.analysis.pairs import pairs_of


@pytest.fixture(scope="module")
def calibration():
    return made(cohort(30))


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

"""``mskt calibrate`` on folders as ``mskt run`` leaves them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from mskt.analysis.calibration import MIN_CASES, MIN_PAIRS, Calibration
from mskt.analysis.conformal import lowest_by_chance, patients_needed
from mskt.cli import app
from mskt.core.records import Record, to_csv
from mskt.report.finished import read_finished

PAGES = Path(__file__).parents[2] / "docs"


def mskt(*arguments, code=0):
    result = CliRunner().invoke(app, ["calibrate", *map(str, arguments)])
    assert result.exit_code == code, result.output + str(result.exception)
    return result


def write_run(root, cases, *, seed=0, shift=0.0, dice=True, synthetic=False, **method):
    """A results folder: two structures of two sides each, Dice falling with the doubt."""
    rng = np.random.default_rng(seed)
    run = {
        "schema": 1,
        "synthetic": synthetic,
        "settings": {"segmenter": method.get("segmenter", "unet_bayes")},
        "segmenter": {
            "weights": method.get("weights", "w"), "weights_sha256": method.get("sha", "a" * 64),
        },
        "uncertainty": {
            "estimator": method.get("estimator", "mcdropout"),
            "measure": method.get("measure", "variance"),
            "draws": method.get("draws", 10),
            "aggregation": method.get("aggregation", "mean"),
        },
        "label_set": "msk22",
    }  # fmt: skip
    records = []
    for case in cases:
        for structure in ("femur", "gracilis"):
            for side in ("left", "right"):
                doubt = rng.gamma(3.0, 1e-4)
                found = 0.95 - 100 * doubt + rng.normal(0, 0.01) - shift
                values = {"uncertainty": doubt, "uncertainty:entropy_interior": 3 * doubt}
                if dice:
                    values["dice"] = found
                records += [
                    Record(case, "", "", "", "", structure, side, metric, value, "1", "ok")
                    for metric, value in values.items()
                ]
        folder = root / case
        folder.mkdir(parents=True)
        facts = {**run, "case_id": case, "input": {"sha256": f"{case} {seed}"}}
        (folder / "run.json").write_text(json.dumps(facts))
    (root / "results.csv").write_text(to_csv(records))
    return root


def names(n, prefix="p"):
    return [f"{prefix}{k:02}" for k in range(n)]


@pytest.fixture
def results(tmp_path):
    return write_run(tmp_path / "study", names(20))


def test_a_study_becomes_a_file_and_a_table(results, tmp_path):
    out = tmp_path / "new" / "calibration.json"
    shown = mskt(results, "--out", out)
    made = Calibration.from_json(out.read_text())
    assert (made.metric, made.coverage, made.provenance.segmenter) == (
        "uncertainty", 0.9, "unet_bayes",
    )  # fmt: skip
    known = made.provenance
    assert (known.cases, known.pairs, known.draws, known.label_set) == (20, 80, 10, "msk22")
    assert (known.weights, known.weights_sha256) == (("w",), ("a" * 64,))
    lines = [line.split("│") for line in shown.stdout.splitlines() if line.startswith("│")]
    assert [line[1].strip() for line in lines] == [
        "femur", "gracilis", "mean of a case", "all structures",
    ]  # fmt: skip
    assert lines[-1][2].strip() == "80"
    assert "(n=80)" in lines[-1][-2]
    assert "synthetic" not in shown.stderr


def test_a_picture_shows_calibration_and_test(results, tmp_path):
    """The test's points are drawn too, and a picture is not overwritten by accident."""
    from matplotlib.image import imread

    others = write_run(tmp_path / "others", names(12, "q"), seed=1, shift=0.3)
    alone, both = tmp_path / "alone.png", tmp_path / "both.png"
    mskt(results, "--out", tmp_path / "a.json", "--figure", alone, "-q")
    mskt(results, "--out", tmp_path / "b.json", "--figure", both, "--test", others, "-q")
    red = (np.array([0xD5, 0x5E, 0x00]) / 255)[None, None]
    reds = [
        (np.abs(imread(file)[..., :3] - red).max(axis=-1) < 0.02).sum() for file in (alone, both)
    ]
    assert reds[0] == 0 < reds[1], "the curve of the test"
    refused = mskt(results, "--out", tmp_path / "c.json", "--figure", alone, code=2)
    assert "alone.png" in refused.stderr
    assert not (tmp_path / "c.json").exists()


def test_folds_are_calibrated_together(tmp_path):
    folds = [
        write_run(
            tmp_path / f"fold{k}", names(6, f"f{k}_"), seed=k, sha=str(k) * 64, weights=f"w{k}"
        )
        for k in range(3)
    ]
    out = tmp_path / "c.json"
    shown = mskt(*folds, "-o", out)
    known = Calibration.from_json(out.read_text()).provenance
    assert (known.cases, known.weights) == (18, ("w0", "w1", "w2"))
    assert known.weights_sha256 == ("0" * 64, "1" * 64, "2" * 64)
    assert "3 sets of weights" in shown.stderr
    again = tmp_path / "again.json"
    mskt(*folds[::-1], "-o", again)
    assert Calibration.from_json(again.read_text()).provenance == known


def test_phantoms_are_named(tmp_path):
    root = write_run(tmp_path / "study", names(12), synthetic=True)
    out = tmp_path / "c.json"
    assert "All of the 12 cases are synthetic phantoms" in mskt(root, "-o", out).stderr
    assert Calibration.from_json(out.read_text()).provenance.synthetic_cases == 12


def test_json_and_quiet(results, tmp_path):
    shown = mskt(results, "-o", tmp_path / "c.json", "--json", "--coverage", 0.8)
    content = json.loads(shown.stdout)
    assert content["coverage"] == 0.8
    assert content["leave_one_patient_out"]["pooled"]["pairs"] == 80
    assert content["leave_one_patient_out"]["pooled"]["coverage"]["value"] > 0.6
    assert content["test"] is None
    silent = mskt(results, "-o", tmp_path / "d.json", "-q")
    assert silent.stdout == silent.stderr == ""
    assert (tmp_path / "d.json").exists()


def test_another_doubt_can_be_calibrated(results, tmp_path):
    out, other = tmp_path / "c.json", tmp_path / "d.json"
    mskt(results, "-o", out, "-q")
    mskt(results, "-o", other, "-q", "--metric", "uncertainty:entropy_interior")
    one, two = (Calibration.from_json(p.read_text()) for p in (out, other))
    assert two.metric == "uncertainty:entropy_interior"
    assert two.pooled.curve.predict(3e-4) == pytest.approx(one.pooled.curve.predict(1e-4))


def test_a_breakdown_on_other_cases_is_shouted(results, tmp_path):
    like = write_run(tmp_path / "like", names(20, "q"), seed=4)
    worse = write_run(tmp_path / "worse", names(20, "r"), seed=5, shift=0.3)
    good = mskt(results, "-o", tmp_path / "c.json", "--test", like)
    assert "Test: 20 other cases" in good.stdout
    assert "not like the calibration cases" not in good.stdout
    bad = mskt(results, "-o", tmp_path / "d.json", "--test", worse)
    assert "The lower bound did NOT hold: for 0.00 of 80 structures" in bad.stdout
    assert "not like the calibration cases" in bad.stdout
    assert bad.stdout.count("– (80)") == 2  # no AUROC where all have failed, but the number
    content = json.loads(mskt(results, "-o", tmp_path / "e.json", "--test", worse, "--json").stdout)
    assert content["test"]["pooled"]["coverage"]["value"] == 0.0
    # What was fitted does not depend on what it is tried on.
    files = [(tmp_path / f"{name}.json").read_text() for name in "cde"]
    assert files[0] == files[1] == files[2]


def test_a_test_of_another_method_is_done_and_said(results, tmp_path):
    other = write_run(tmp_path / "other", names(12, "q"), seed=4, sha="b" * 64)
    shown = mskt(results, "-o", tmp_path / "c.json", "--test", other)
    assert "made for another method (weights aaaaaaaaaaaa, here bbbbbbbbbbbb)" in shown.stderr


def test_calibrated_cases_are_no_test(results, tmp_path):
    shown = mskt(results, "-o", tmp_path / "c.json", "--test", results, code=2)
    assert "is the same image as 'p00', which is calibrated" in shown.stderr
    assert not (tmp_path / "c.json").exists()


def test_an_existing_file_is_kept(results, tmp_path):
    out = tmp_path / "c.json"
    out.write_text("precious")
    assert "exists already" in mskt(results, "-o", out, code=2).stderr
    assert out.read_text() == "precious"
    mskt(results, "-o", out, "--overwrite", "-q")
    assert Calibration.from_json(out.read_text())


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ({"segmenter": "unetr"}, "segmenter unet_bayes (case p00); unetr (case q00)"),
        ({"estimator": "deterministic"}, "estimator deterministic (case q00); mcdropout"),
        ({"measure": "entropy"}, "measure entropy (case q00); variance (case p00)"),
        ({"aggregation": "interior"}, "aggregation interior (case q00); mean (case p00)"),
        ({"draws": 3}, "draws 10 (case p00); 3 (case q00)"),
    ],
)
def test_methods_are_not_mixed(results, tmp_path, method, told):
    other = write_run(tmp_path / "other", names(2, "q"), seed=1, **method)
    shown = mskt(results, other, "-o", tmp_path / "c.json", code=2)
    assert told in shown.stderr


def test_a_case_counts_once(results, tmp_path):
    assert (
        "in two of the folders" in mskt(results, results, "-o", tmp_path / "c.json", code=1).stderr
    )
    renamed = write_run(tmp_path / "renamed", names(2, "q"), seed=1)
    facts = json.loads((results / "p03" / "run.json").read_text())
    (renamed / "q01" / "run.json").write_text(json.dumps(facts))
    shown = mskt(results, renamed, "-o", tmp_path / "c.json", code=1)
    assert "cases 'p03' and 'q01': are the same image" in shown.stderr


def test_folders_that_hold_no_results(results, tmp_path):
    out = tmp_path / "c.json"
    assert "is no folder" in mskt(tmp_path / "nowhere", "-o", out, code=2).stderr
    (tmp_path / "empty").mkdir()
    assert "has no results.csv" in mskt(tmp_path / "empty", "-o", out, code=1).stderr
    unlabelled = write_run(tmp_path / "unlabelled", names(12), dice=False)
    assert "have no Dice" in mskt(unlabelled, "-o", out, code=1).stderr
    (results / "p05" / "run.json").unlink()
    assert "study/p05/run.json: is missing" in mskt(results, "-o", out, code=1).stderr
    (results / "p05" / "run.json").write_text(json.dumps({"case_id": "p05"}))
    assert "p05/run.json: lacks 'segmenter'" in mskt(results, "-o", out, code=1).stderr
    assert not out.exists()


def test_unknown_metric_and_impossible_coverage(results, tmp_path):
    out = tmp_path / "c.json"
    wrong = mskt(results, "-o", out, "--metric", "uncertainty:entropy_inner", code=2)
    assert "Did you mean uncertainty:entropy_interior" in wrong.stderr.replace("\n", " ")
    assert "not between 0 and 1" in mskt(results, "-o", out, "--coverage", 90, code=2).stderr


def test_too_few_cases(tmp_path):
    few = write_run(tmp_path / "few", names(9))
    shown = mskt(few, "-o", tmp_path / "c.json", code=1)
    assert "needs at least 10 patients" in shown.stderr


@pytest.mark.usefixtures("fake_plugin")
def test_a_real_run_is_read(scan, tmp_path):
    """The files that ``mskt run`` writes today are those that are read here."""
    done = CliRunner().invoke(
        app,
        ["run", "--segmenter", "fake", "--samples", "2", "--threads", "1", str(scan), "-q",
         "-o", str(tmp_path / "out")],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = read_finished([tmp_path / "out"])
    method = found.methods["leg"]
    assert (method.segmenter, method.estimator, method.draws) == ("fake", "mcdropout", 2)
    assert method.label_set == "msk22"
    assert len(found.inputs["leg"]) == 64
    assert {row.metric for row in found.records} >= {"uncertainty", "volume"}


def test_pages_list_the_options():
    options = [
        name
        for parameter in get_command(app).commands["calibrate"].params
        for name in parameter.opts
        if name.startswith("--")
    ]
    section = (PAGES / "commands.md").read_text("utf-8").split("## mskt calibrate")[1]
    section = section.split("\n## ")[0]
    assert [name for name in options if name not in section] == []
    assert "mskt calibrate" in (PAGES / "calibration.md").read_text("utf-8")


def test_numbers_of_the_page_are_those_of_the_code():
    page = " ".join((PAGES / "calibration.md").read_text("utf-8").split())
    assert "with 20 patients, one calibration in twenty covers less than 78 %" in page
    assert "with 100 less than 85 %" in page
    assert [round(100 * lowest_by_chance(0.9, n)) for n in (20, 100)] == [78, 85]
    assert f"at least {MIN_CASES} patients are needed" in page.lower()
    assert f"fewer than {MIN_PAIRS} pairs" in page
    assert "at least 9 patients" in page and "0.95 at least 19" in page
    assert [patients_needed(part) for part in (0.9, 0.95)] == [9, 19]

"""``mskt run`` from end to end, with a segmenter that takes no time."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from mskt.cli import app
from mskt.core.records import read_csv

pytestmark = pytest.mark.usefixtures("fake_plugin")
FAKE = ["--segmenter", "fake", "--samples", "2", "--threads", "1"]
OUTPUTS = {
    "leg_dseg.nii.gz",
    "leg_dseg.tsv",
    "leg_uncertainty.nii.gz",
    "leg_uncertainty.json",
    "results.csv",
    "statistics.json",
    "run.json",
    "preview.png",
}


def mskt(*arguments, code=0):
    result = CliRunner().invoke(app, ["run", *FAKE, *map(str, arguments)])
    assert result.exit_code == code, result.output + str(result.exception)
    return result


def test_one_case_writes_every_file_and_keeps_the_grid(scan, tmp_path):
    out = tmp_path / "out"
    result = mskt(scan, "-o", out)
    assert {path.name for path in (out / "leg").iterdir()} == OUTPUTS
    assert "open" in result.stdout and "preview.png" in result.stdout
    assert "leg: done" in result.stderr
    before = nib.load(scan)
    for name in ("leg_dseg.nii.gz", "leg_uncertainty.nii.gz"):
        after = nib.load(out / "leg" / name)
        assert after.shape == before.shape
        np.testing.assert_array_equal(after.affine, before.affine)
        assert int(after.header["sform_code"]) == 2
        assert int(after.header["qform_code"]) == 1
        np.testing.assert_allclose(after.header.get_qform(), before.header.get_qform(), atol=1e-5)
    labels = nib.load(out / "leg" / "leg_dseg.nii.gz")
    assert labels.get_data_dtype() == np.uint8
    assert set(np.unique(labels.dataobj)) == {0, 10, 21}
    doubt = nib.load(out / "leg" / "leg_uncertainty.nii.gz")
    assert doubt.get_data_dtype() == np.float32
    table = (out / "leg" / "leg_dseg.tsv").read_text().splitlines()
    assert table[0].split("\t") == ["index", "name", "abbreviation", "side", "color", "snomed"]
    assert len(table) == 24


def test_tables_agree_and_hold_no_path(scan, tmp_path):
    out = tmp_path / "out"
    mskt(scan, "-o", out, "--height", "1.8")
    rows = {(r.structure, r.side, r.metric): r for r in read_csv(out / "results.csv")}
    density = rows["adductors", "right", "mean_hu"]
    statistics = json.loads((out / "leg" / "statistics.json").read_text())
    assert statistics["adductors_right"]["intensity"] == pytest.approx(density.value, abs=0.01)
    # The legs of the test scan go on beyond it: a part in view has no volume.
    assert rows["adductors", "right", "volume"].status == "truncated"
    assert statistics["adductors_right"]["volume"] is None
    assert statistics["gracilis_left"] == {"volume": None, "intensity": None}
    assert rows["adductors", "right", "normalized_volume"].status == "truncated"
    run = json.loads((out / "leg" / "run.json").read_text())
    assert run["settings"]["segmenter_provider"] == "mskt-fake 0.1"
    assert run["input"]["name"] == "leg.nii.gz" and len(run["input"]["sha256"]) == 64
    assert run["uncertainty"]["draws"] == 2
    for path in out.rglob("*"):
        if path.suffix in {".json", ".csv", ".tsv"}:
            assert str(tmp_path) not in path.read_text()


def test_results_are_the_same_bytes_again(scan, tmp_path):
    for name in ("first", "second"):
        mskt(scan, "-o", tmp_path / name, "--seed", "7")
    for file in (
        "results.csv",
        "leg/results.csv",
        "leg/leg_dseg.nii.gz",
        "leg/leg_uncertainty.nii.gz",
        "leg/statistics.json",
        "leg/preview.png",
    ):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_run_id_follows_what_decides_the_numbers(scan, tmp_path):
    def run_id(name, *more):
        mskt(scan, "-o", tmp_path / name, *more)
        return json.loads((tmp_path / name / "leg" / "run.json").read_text())["run_id"]

    first = run_id("a")
    assert run_id("b", "--device", "cpu", "-q") == first
    assert run_id("c", "--seed", "1") != first
    assert run_id("d", "--weights", "other") != first


def test_a_case_that_fails_does_not_stop_the_others(scans, tmp_path):
    out = tmp_path / "out"
    result = mskt(scans, "-o", out, "--option", "refuse_below=10", code=1)
    table = [line.split("\t") for line in (out / "cases.tsv").read_text().splitlines()]
    assert [row[:2] for row in table[1:]] == [
        ["case0", "done"],
        ["case1", "done"],
        ["case2", "failed"],
        ["case3", "done"],
    ]
    assert "too few slices" in table[3][2]
    assert "case2" in result.stdout and "cases.tsv" in result.stdout
    assert {row.case_id for row in read_csv(out / "results.csv")} == {"case0", "case1", "case3"}
    assert not (out / "case2" / "run.json").exists()


def test_finished_work_is_never_lost_by_accident(scan, tmp_path):
    out = tmp_path / "out"
    mskt(scan, "-o", out)
    before = (out / "leg" / "run.json").read_bytes()
    refused = mskt(scan, "-o", out, code=2)
    assert "--resume" in refused.stderr and "--overwrite" in refused.stderr
    other = mskt(scan, "-o", out, "--resume", "--seed", "5", code=2)
    assert "seed 0, now 5" in other.stderr
    assert (out / "leg" / "run.json").read_bytes() == before
    assert "done already" in mskt(scan, "-o", out, "--resume").stdout
    assert (out / "leg" / "run.json").read_bytes() == before
    mskt(scan, "-o", out, "--overwrite", "--seed", "5")
    assert (out / "leg" / "run.json").read_bytes() != before


def test_resume_does_a_changed_input_again(scan, tmp_path, write_scan):
    out = tmp_path / "out"
    mskt(scan, "-o", out)
    write_scan(scan, 20)
    mskt(scan, "-o", out, "--resume")
    assert nib.load(out / "leg" / "leg_dseg.nii.gz").shape[2] == 20


def test_parts_share_the_cases(scans, tmp_path):
    out = tmp_path / "out"
    mskt(scans, "-o", out, "--num-parts", "2", "--part-id", "1")
    assert {path.name for path in out.iterdir() if path.is_dir()} == {"case1", "case3"}
    mskt(scans, "-o", out, "--num-parts", "2", "--part-id", "0")
    assert {row.case_id for row in read_csv(out / "results.csv")} == {f"case{n}" for n in range(4)}
    whole = tmp_path / "whole"
    mskt(scans, "-o", whole)
    assert (whole / "results.csv").read_bytes() == (out / "results.csv").read_bytes()


def test_roi_subset(scan, tmp_path):
    out = tmp_path / "out"
    mskt(scan, "-o", out, "--roi-subset", "femur")
    assert set(np.unique(nib.load(out / "leg" / "leg_dseg.nii.gz").dataobj)) == {0, 21}
    assert {row.structure for row in read_csv(out / "results.csv")} == {"femur"}
    wrong = mskt(scan, "-o", tmp_path / "no", "--roi-subset", "femurr", code=2)
    assert "Did you mean 'femur'?" in wrong.stderr
    assert not (tmp_path / "no" / "leg").exists()


def test_split_sides(scan, tmp_path):
    out = tmp_path / "out"
    mskt(scan, "-o", out, "--split-sides")
    labels = nib.load(out / "leg" / "leg_dseg.nii.gz")
    assert set(np.unique(labels.dataobj)) == {0, 10, 21, 110, 121}
    # The first array axis points to the patient's right: the left leg has the small indices.
    assert np.argwhere(np.asarray(labels.dataobj) == 110)[:, 0].max() < 20
    table = (out / "leg" / "leg_dseg.tsv").read_text()
    assert "110\tadductors_left\tAdds\tleft" in table and "10\tadductors_right" in table


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--resume", "--overwrite"], "contradict"),
        (["--num-parts", "2", "--part-id", "2"], "is not below"),
        (["--segmenter", "fakke"], "Did you mean 'fake'?"),
        (["--uncertainty", "mcdropuot"], "Did you mean 'mcdropout'"),
        (["--backbone", "resnet18"], "It takes: device, weights, pause, refuse_below"),
        (["--precision", "bfloat16"], "It takes: device, weights, pause, refuse_below"),
        (["--fast", "-u", "deterministic"], "has no quicker way"),
        (["--uncertainty", "deterministic"], "has no option 'samples'"),
        (["--option", "pause"], "is no NAME=VALUE"),
        (["--device", "cuda"], "was asked for"),
        (["--device", "toaster"], "is no device"),
        (["--measure", "varience"], "Did you mean"),
    ],
)
def test_wrong_calls_are_refused_before_anything_is_written(scan, tmp_path, arguments, text):
    if "cuda" in arguments:
        torch = pytest.importorskip("torch")
        if torch.cuda.is_available():
            pytest.skip("there is a GPU here")
    out = tmp_path / "out"
    result = mskt(scan, "-o", out, *arguments, code=2)
    assert text in result.stderr
    assert "Traceback" not in result.output
    assert not out.exists()


def test_missing_input_is_named(scan, tmp_path):
    result = mskt(scan.with_name("lag.nii.gz"), "-o", tmp_path / "out", code=1)
    assert "Did you mean 'leg.nii.gz'?" in result.stderr


def test_height_is_one_persons(scans, tmp_path):
    result = mskt(scans, "-o", tmp_path / "out", "--height", "1.7", code=2)
    assert "there are 4 cases" in result.stderr


def test_json_is_the_only_thing_on_stdout(scan, tmp_path):
    result = mskt(scan, "-o", tmp_path / "out", "--json")
    content = json.loads(result.stdout)
    assert content["cases"][0]["status"] == "done"
    assert content["cases"][0]["statistics"]["femur_left"]["intensity"] > 0
    assert result.stderr == ""


def test_a_reference_beside_the_scan_is_compared(scan, tmp_path):
    image = nib.load(scan)
    labels = np.where(np.asarray(image.dataobj) > 150, 21, 0).astype(np.uint8)
    nib.Nifti1Image(labels, image.affine).to_filename(scan.with_name("leg_dseg.nii.gz"))
    out = tmp_path / "out"
    mskt(scan.parent, "-o", out, "--label-set", "msk22")
    rows = {(r.structure, r.side): r for r in read_csv(out / "results.csv") if r.metric == "dice"}
    assert rows["femur", "right"].value == pytest.approx(1.0, abs=0.02)


def test_a_comparison_that_is_impossible_leaves_the_segmentation(scan, tmp_path):
    image = nib.load(scan)
    nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), image.affine).to_filename(
        scan.with_name("leg_dseg.nii.gz")
    )
    out = tmp_path / "out"
    result = mskt(scan.parent, "-o", out, "--label-set", "msk22")
    assert "not evaluated" in result.stderr
    assert (out / "leg" / "run.json").exists()


def test_killed_at_any_moment_no_half_file_and_resume_ends_the_work(scans, tmp_path, environment):
    out = tmp_path / "out"
    call = [sys.executable, "-m", "mskt", "run", *FAKE, str(scans), "-o", str(out)]
    with subprocess.Popen(
        [*call, "--option", "pause=0"],
        env=environment,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    ) as process:
        _wait_for(out / "case0" / "case0_dseg.nii.gz")
        process.send_signal(signal.SIGKILL)
    for path in out.rglob("*.nii.gz"):
        if not path.name.startswith("."):
            assert nib.load(path).get_fdata().size  # whole: gzip's checksum is read
    for path in out.rglob("run.json"):
        json.loads(path.read_text())
    mskt(scans, "-o", out, "--resume", "--option", "pause=0")
    assert {row.case_id for row in read_csv(out / "results.csv")} == {f"case{n}" for n in range(4)}
    assert not [path for path in out.rglob(".*.part")]


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_interrupt_keeps_what_is_finished(scans, tmp_path, environment):
    out = tmp_path / "out"
    call = [
        sys.executable,
        "-m",
        "mskt",
        "run",
        *FAKE,
        str(scans),
        "-o",
        str(out),
        "--option",
        "pause=0.2",
    ]
    with subprocess.Popen(
        call,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background has interrupts switched off, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as process:
        _wait_for(out / "case0" / "run.json")
        process.send_signal(signal.SIGINT)
        _, text = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in text and "Traceback" not in text
    assert (out / "results.csv").exists()


def test_a_gpu_that_fails_stops_the_run_and_keeps_what_is_finished(scans, tmp_path):
    out = tmp_path / "out"
    fault = [
        "--option",
        "refuse_below=10",
        "--option",
        "fault=CUDA error: unspecified launch failure",
    ]
    result = mskt(scans, "-o", out, *fault, code=1)
    assert "the GPU failed" in result.stderr and "--resume" in result.stderr
    assert "Traceback" not in result.stderr
    table = {line.split("\t")[0]: line for line in (out / "cases.tsv").read_text().splitlines()}
    assert "done" in table["case0"] and "done" in table["case1"]
    assert "CUDA error" in table["case2"] and "case3" not in table
    assert not (out / "case3").exists()


def test_memory_that_runs_out_is_one_case_and_not_the_run(scans, tmp_path):
    out = tmp_path / "out"
    fault = [
        "--option",
        "refuse_below=10",
        "--option",
        "fault=DefaultCPUAllocator: can't allocate memory",
    ]
    mskt(scans, "-o", out, *fault, code=1)
    table = {line.split("\t")[0]: line for line in (out / "cases.tsv").read_text().splitlines()}
    assert "a scan of 40 × 30 × 6 voxels takes about" in table["case2"]
    assert "done" in table["case3"]


def _wait_for(path: Path, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path.name} never came"
        time.sleep(0.01)


def test_rows_of_doubt_are_the_same_for_every_estimator(scan, tmp_path):
    """No estimator adds or drops a kind of row; what one pass cannot say is undefined, not missing."""

    def rows(*arguments):
        out = tmp_path / arguments[1]
        mskt(scan, "-o", out, *arguments)
        with (out / "results.csv").open() as file:
            return list(csv.DictReader(file))

    several = rows("-u", "mcdropout", "--measure", "entropy")
    names = {row["metric"] for row in several}
    assert {"volume_lower", "mean_hu_upper", "uncertainty", "uncertainty:soft_dice"} <= names
    assert {
        f"uncertainty:predictive_entropy_{a}" for a in ("mean", "interior", "boundary")
    } <= names
    present = [r for r in several if r["structure"] == "femur" and r["side"] == "left"]
    assert all(row["value"] for row in present if "uncertainty" in row["metric"])

    augmented = rows("-u", "tta", "--measure", "entropy", "--measures", "margin,variance")
    assert names < {row["metric"] for row in augmented}
    for name in ("one_minus_margin", "predictive_variance_mean"):
        assert any(row["metric"] == f"uncertainty:{name}_boundary" for row in augmented)


def test_one_pass_has_no_interval(scan, tmp_path):
    out = tmp_path / "out"
    result = CliRunner().invoke(
        app, ["run", str(scan), "-s", "fake", "-u", "deterministic", "-o", str(out)]
    )
    assert result.exit_code == 0, result.stderr
    with (out / "results.csv").open() as file:
        rows = {(r["structure"], r["side"], r["metric"]): r for r in csv.DictReader(file)}
    spread = rows["femur", "left", "uncertainty:pairwise_dice"]
    assert spread["value"] == "" and spread["status"] != "ok"
    assert float(rows["femur", "left", "uncertainty:soft_dice"]["value"]) >= 0
    absent = rows["sacrum", "both", "uncertainty:soft_dice"]
    assert (absent["value"], absent["status"]) == ("", "absent_prediction")


def test_an_ensemble_of_weights_and_pairs_that_do_not_fit(scan, tmp_path):
    out = tmp_path / "out"
    mskt(scan, "-o", out, "-u", "ensemble+mcdropout", "--weights", "a,b,c")
    run = json.loads((out / "leg" / "run.json").read_text())
    assert [m["sha256"] for m in run["segmenter"]["members"]] == ["a", "b", "c"]
    assert run["uncertainty"]["draws"] == run["draws_mean"] == 3, "at least one of each member"
    refused = mskt(scan, "-o", tmp_path / "no", "-u", "ensemble+mcdropout", code=2)
    assert "These fit: deterministic, mcdropout, tta, tta+mcdropout" in refused.stderr
    planes = mskt(scan, "-o", tmp_path / "no", "-u", "planes+mcdropout", code=2)
    assert "members=planes" in planes.stderr and "unet25d" in planes.stderr
    counts = mskt(scan, "-o", tmp_path / "no", "-s", "fake,fake", "--weights", "a,b,c", code=2)
    assert "names 3, --segmenter 2" in counts.stderr
    assert not (tmp_path / "no" / "leg").exists()

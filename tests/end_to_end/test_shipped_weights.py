"""The main job with the weights that are shipped: on a phantom never trained on, and on a real CT."""

import csv
import importlib.util
import os
import statistics
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mskt.cli import app

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("MSKT_SHARED", ROOT.parent / "shared"))
REAL = SHARED / "ct" / "vhf_pelvis"


def mskt(*arguments: object) -> None:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output


@pytest.mark.slow
def test_sensible_labels_on_a_phantom_never_trained_on(tmp_path):
    mskt(
        "phantom",
        "--count",
        1,
        "--seed",
        9101,
        "--spacing",
        "2.5,2.5,5",
        "--out",
        tmp_path / "in",
        "-q",
    )
    mskt("run", tmp_path / "in", "--out", tmp_path / "out", "--samples", 2, "-q")
    with (tmp_path / "out" / "results.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["metric"] == "dice" and r["side"] == "both"]
    assert len(rows) == 22
    assert all(row["dataset"] == "synthetic phantom" for row in rows)
    dice = {row["structure"]: float(row["value"]) for row in rows}
    assert statistics.mean(dice.values()) >= 0.80, dice
    assert min(dice.values()) >= 0.5, dice


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.skipif(not REAL.exists(), reason=f"the real CT is not at {REAL} (set MSKT_SHARED)")
def test_real_ct_of_a_person_left_out_of_training(tmp_path):
    weights = "unet_bayes-compact-vhf"
    mskt("run", REAL / "ct.nii.gz", "--weights", weights, "--out", tmp_path, "--samples", 2, "-q")
    spec = importlib.util.spec_from_file_location("score", ROOT / "scripts" / "score_real_ct.py")
    score = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(score)
    found = score.scores(tmp_path / "vhf_pelvis" / "vhf_pelvis_dseg.nii.gz", REAL)
    # What was measured when the weights were made, less 0.05.
    for name, least in {
        "gluteus_maximus": 0.86,
        "gluteus_medius": 0.83,
        "gluteus_minimus": 0.76,
        "iliacus + psoas_major": 0.83,
        "pelvis": 0.87,
    }.items():
        assert found[name] >= least, found

"""``mskt evaluate`` on files, as a user calls it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from mskt.cli.console import Group
from mskt.cli.evaluate import evaluate_command
from mskt.core.anatomy import LabelSet, label_set
from mskt.core.records import read_csv

nib = pytest.importorskip("nibabel")
MSK22, TOTALSEG = label_set("msk22"), label_set("totalseg")
AFFINE = np.diag([5.0, 5.0, 5.0, 1.0])
SHAPE = (40, 12, 14)
LEGS = (("femur", 6, 10), ("femur", 30, 34))
app = typer.Typer(cls=Group)
app.command("evaluate")(evaluate_command)
app.command("other")(lambda: None)  # with one command typer leaves its name out


def save(
    path: Path,
    *what: tuple[str, int, int],
    names: LabelSet = MSK22,
    table: bool = False,
    affine: np.ndarray = AFFINE,
) -> Path:
    data = np.zeros(SHAPE, np.uint8)
    for name, start, stop in what:
        data[start:stop, 3:9, 3:11] = names[name].index
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)
    if table:
        lines = "".join(f"{s.index}\t{s.name}\t{s.side}\n" for s in names.structures)
        path.with_name(path.name.replace(".nii.gz", ".tsv")).write_text(
            "index\tname\tside\n" + lines
        )
    return path


def run(tmp_path: Path, *args: Any) -> Any:
    return CliRunner().invoke(app, ["evaluate", "-o", str(tmp_path / "out"), *map(str, args)])


def summary(tmp_path: Path) -> dict[tuple[str, str, str], dict[str, str]]:
    with (tmp_path / "out" / "summary.tsv").open(encoding="utf-8", newline="") as file:
        return {
            (r["structure"], r["side"], r["metric"]): r
            for r in csv.DictReader(file, delimiter="\t")
        }


def test_two_files_with_tables_beside_them(tmp_path: Path) -> None:
    p = save(tmp_path / "p" / "x_dseg.nii.gz", LEGS[0], ("femur", 31, 35), table=True)
    r = save(tmp_path / "r" / "gt.nii.gz", *LEGS, table=True)
    result = run(tmp_path, "-p", p, "-r", r, "--dataset", "mine", "--segmenter", "tool")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    rows = {(x.structure, x.side, x.metric): x for x in read_csv(tmp_path / "out" / "results.csv")}
    assert rows["femur", "right", "dice"].value == pytest.approx(0.75)
    assert rows["femur", "left", "volume"].value == pytest.approx(4 * 6 * 8 * 0.125)
    assert rows["pelvis", "left", "dice"].status == "absent_both"
    assert (rows["femur", "left", "dice"].dataset, rows["femur", "left", "dice"].segmenter) == (
        "mine",
        "tool",
    )
    assert (tmp_path / "out" / "x" / "results.csv").read_text() == (
        tmp_path / "out" / "results.csv"
    ).read_text()
    assert summary(tmp_path)["femur", "right", "dice"]["mean"] == "0.75"
    assert "femur" in result.stderr


def test_folders_are_matched_by_case_and_a_lacking_prediction_is_a_failure(tmp_path: Path) -> None:
    for case in ("a", "b"):
        save(tmp_path / "p" / f"{case}.nii.gz", LEGS[0], *(LEGS[1:] if case == "a" else ()))
        save(tmp_path / "r" / f"{case}.nii.gz", *LEGS)
    save(tmp_path / "r" / "c.nii.gz", *LEGS)
    save(tmp_path / "p" / "d.nii.gz", *LEGS)
    result = run(
        tmp_path, "-p", tmp_path / "p", "-r", tmp_path / "r", "--label-set", "msk22", "--json"
    )
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["cases"] == 2
    assert told["failed"] == {"c": "has a reference but no prediction"}
    assert told["notes"] == ["d: has no reference, left out"]
    assert "c: FAILED" in result.stderr
    row = summary(tmp_path)["femur", "right", "assd"]
    diagonal = 5 * np.linalg.norm(SHAPE)
    assert (row["cases"], row["defined"], row["absent_prediction"], row["mean"]) == (
        "2",
        "1",
        "1",
        "0",
    )
    assert float(row["mean_misses_as_diagonal"]) == pytest.approx(diagonal / 2)
    (listed,) = [
        x
        for x in told["summary"]
        if (x["structure"], x["side"], x["metric"]) == ("femur", "right", "assd")
    ]
    assert listed["statuses"] == {"absent_prediction": 1}


def test_other_tool_with_one_mask_a_structure(tmp_path: Path) -> None:
    for name, start, stop in (("femur_left", 6, 10), ("femur_right", 30, 34)):
        save(tmp_path / "s1" / "segmentations" / f"{name}.nii.gz", ("gluteus_maximus", start, stop))
    r = save(tmp_path / "r" / "s1.nii.gz", *LEGS, ("gracilis", 18, 20))
    result = run(
        tmp_path, "-p", tmp_path / "s1" / "segmentations", "-r", r, "--reference-label-set", "msk22"
    )
    assert result.exit_code == 0, result.stderr
    found = summary(tmp_path)
    assert found["femur", "left", "dice"]["mean"] == found["femur", "both", "dice"]["mean"] == "1"
    assert found["gracilis", "both", "dice"]["not_in_label_set"] == "1"


def test_masks_without_names(tmp_path: Path) -> None:
    p, r = (save(tmp_path / x / "m.nii.gz", *LEGS) for x in "pr")
    assert run(tmp_path, "-p", p, "-r", r).exit_code == 0
    assert {key[:2] for key in summary(tmp_path)} == {(f"label_{MSK22['femur'].index}", "both")}


def test_names_on_one_side_only_are_a_wrong_call(tmp_path: Path) -> None:
    p = save(tmp_path / "p" / "m.nii.gz", *LEGS)
    r = save(tmp_path / "r" / "m.nii.gz", *LEGS, table=True)
    result = run(tmp_path, "-p", p, "-r", r)
    assert result.exit_code == 2
    assert "--label-set" in result.stderr


def test_nothing_in_common_is_a_wrong_call(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / "p" / f"{name}.nii.gz", *LEGS)
    r = save(tmp_path / "r" / "z.nii.gz", *LEGS)
    result = run(tmp_path, "-p", tmp_path / "p", "-r", r)
    assert result.exit_code == 2
    assert "a, b against z" in result.stderr.replace("\n", " ")


def test_other_grid_fails_the_case_unless_resampling_is_asked_for(tmp_path: Path) -> None:
    moved = AFFINE.copy()
    moved[0, 3] = 5.0
    p = save(tmp_path / "p" / "m.nii.gz", ("femur", 5, 9), ("femur", 29, 33), affine=moved)
    r = save(tmp_path / "r" / "m.nii.gz", *LEGS)
    refused = run(tmp_path, "-p", p, "-r", r, "--label-set", "msk22")
    assert refused.exit_code == 1
    assert "--resample-prediction" in refused.stderr
    assert read_csv(tmp_path / "out" / "results.csv") == []
    taken = run(tmp_path, "-p", p, "-r", r, "--label-set", "msk22", "--resample-prediction")
    assert taken.exit_code == 0, taken.stderr
    assert summary(tmp_path)["femur", "both", "dice"]["mean"] == "1"


def test_image_adds_density(tmp_path: Path) -> None:
    p, r = (save(tmp_path / x / "m.nii.gz", *LEGS) for x in "pr")
    hu = np.random.default_rng(0).integers(-1000, 1500, SHAPE).astype(np.int16)
    nib.save(nib.Nifti1Image(hu, AFFINE), tmp_path / "m.nii.gz")
    result = run(
        tmp_path, "-p", p, "-r", r, "--label-set", "msk22", "--image", tmp_path / "m.nii.gz", "-q"
    )
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    found = summary(tmp_path)
    inside = hu[6:10, 3:9, 3:11].astype(float)
    assert float(found["femur", "left", "mean_hu"]["mean"]) == pytest.approx(inside.mean())
    assert float(found["femur", "left", "fat_fraction"]["mean"]) == pytest.approx(
        (inside < -30).mean()
    )
    assert found["femur", "left", "aie"]["mean"] == "0"

"""``mskt reproduce`` as a user calls it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mskt.analysis.reproduction.catalogue import EXPERIMENTS
from mskt.cli import app
from mskt.core.records import Record, to_csv


def mskt(*arguments, code=0):
    result = CliRunner().invoke(app, ["reproduce", *map(str, arguments)])
    assert result.exit_code == code, result.output + str(result.exception)
    return result


@pytest.fixture
def results(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for k in range(12):
        for side in ("left", "right"):
            doubt = float(rng.gamma(3, 1e-4))
            for metric, value, unit in (
                ("dice", 0.95 - 200 * doubt + rng.normal(0, 0.01), "1"),
                ("assd", 0.5 + 1000 * doubt, "mm"),
                ("uncertainty", doubt, "1"),
            ):
                rows.append(
                    Record(
                        f"p{k:02}", "synthetic phantom", "unet", "mcdropout", "r", "gluteus_medius",
                        side, metric, value, unit, "ok",
                    )
                )  # fmt: skip
    folder = tmp_path / "unet"
    folder.mkdir()
    (folder / "results.csv").write_text(to_csv(rows))
    return folder


def test_the_list_and_the_help_name_every_experiment():
    shown = mskt("list").stdout
    told = " ".join(mskt("--help").stdout.replace("│", " ").split())
    for one in EXPERIMENTS:
        assert one.name in shown and one.name in told, one.name
    assert {e["name"] for e in json.loads(mskt("list", "--json").stdout)} == {
        e.name for e in EXPERIMENTS
    }


def test_a_table_beside_the_published_values(results, tmp_path):
    shown = mskt("uncertainty", "-r", results, "-o", tmp_path / "out", "--draws", 100)
    assert "Hiasa*" in shown.stdout and "-0.784" in shown.stdout
    assert "another population" in shown.stdout and "10.1109/TMI.2019.2940555" in shown.stdout
    assert "synthetic phantoms" in shown.stderr and "uncertainty.md" in shown.stderr
    with (tmp_path / "out" / "uncertainty.csv").open() as file:
        rows = list(csv.DictReader(file))
    doubts = {row["structure"]: row for row in rows}
    assert float(doubts["gluteus_medius"]["r"]) < -0.8


def test_json_is_all_that_is_on_stdout(results, tmp_path):
    shown = mskt(
        "accuracy", "-r", f"mine={results}", "-o", tmp_path / "out", "--json", "--format", "svg,pdf"
    )
    told = json.loads(shown.stdout)
    assert told["tables"]["main"][0]["model"] == "mine"
    assert told["tables"]["main"][0]["published_kim_mean"] == 0.909
    assert {Path(file).suffix for file in told["files"]} == {".md", ".csv", ".svg", ".pdf"}
    assert "Kim 2024" in told["published"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("acuracy",), "Did you mean 'accuracy'"),
        (("dropout-samples",), "mskt run CASES --samples 10"),
        (("side", "-r", "nowhere"), "does not exist"),
        (("accuracy", "-r", "{results}", "--format", "bmp"), "none of the formats"),
        (("accuracy", "-r", "{results}", "-r", "{results}"), "same table twice"),
        (("failure-detection", "-r", "{results}", "--doubt", "uncertainty:y"), "no value of uncertainty:y"),
        (("external", "-r", "{results}", "--structure", "gluteus"), "Did you mean 'gluteus_medius'"),
        (("sarcopenia", "-r", "{results}"), "no value of volume"),
    ],
)  # fmt: skip
def test_wrong_calls_say_what_to_do(arguments, said, results, tmp_path):
    out = tmp_path / "out"
    call = [str(a).format(results=results) for a in arguments]
    shown = mskt(*call, "-o", out, code=2)
    assert said in shown.stderr and "Traceback" not in shown.output
    assert not out.exists()


def test_one_case_ends_with_1_where_there_is_no_figure(results, tmp_path):
    table = results / "results.csv"
    head, *rows = table.read_text().splitlines()
    table.write_text("\n".join([head, *(row for row in rows if row.startswith("p00,"))]) + "\n")
    shown = mskt("failure-detection", "-r", results, "-o", tmp_path / "out", code=1)
    assert "gluteus_medius" in shown.stdout
    with (tmp_path / "out" / "failure-detection.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["auroc_failed"] == "" and rows[0]["reason_failed"] == "none is bad"

"""``mskt stats`` on tables as other commands leave them."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from mskt.cli import app
from mskt.core.records import Record, to_csv


def mskt(*arguments, code=0):
    result = CliRunner().invoke(app, ["stats", *map(str, arguments)])
    assert result.exit_code == code, result.output + str(result.exception)
    return result


def write(folder, segmenter="unet", *, shift=0.0, seed=0, cases=14, first=0, **keys):
    """Dice, its distance, uncertainty, volume and ravd of three structures with two sides."""
    rng, noise = np.random.default_rng(0), np.random.default_rng(seed + 1)
    dataset = keys.get("dataset", "")
    rows = []
    for k in range(first, first + cases):
        for structure in ("femur", "gracilis", "sartorius"):
            for side in ("left", "right"):
                doubt, volume = rng.gamma(3, 1e-4), rng.uniform(100, 300)
                dice = 0.93 - 100 * doubt + shift + noise.normal(0, 0.01)
                ravd = noise.normal(0, 4)
                status = "truncated" if structure == "sartorius" and k == 3 else "ok"
                own = None if status == "truncated" else volume * (1 + ravd / 100)
                if keys.get("misses") == k and structure == "femur":
                    status, dice, own = "absent_prediction", 0.0, None
                missed = status == "absent_prediction"
                values = {
                    "dice": (dice, "1"),
                    "assd": (None if missed else 10 * (1 - dice), "mm"),
                    "uncertainty": (None if missed else doubt, "1"),
                    "volume": (own, "cm3"),
                    "ravd": (-100.0 if missed else ravd, "%"),
                }
                rows += [
                    Record(
                        f"p{k:02}", dataset, segmenter, "mcdropout", "r", structure, side, metric,
                        value, unit, status,
                    )
                    for metric, (value, unit) in values.items()
                ]  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.csv").write_text(to_csv(rows))
    return folder


@pytest.fixture
def one(tmp_path):
    return write(tmp_path / "one")


@pytest.fixture
def two(tmp_path):
    return write(tmp_path / "two", "unetr", shift=0.02, seed=5)


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_compare_shows_a_table_and_writes_one(one, two, tmp_path):
    out = tmp_path / "new" / "stats.csv"
    shown = mskt("compare", one, two / "results.csv", "--by", "structure", "--out", out)
    assert "unet (A) against unetr (B)" in shown.stdout and "Holm, 4 tests" in shown.stdout
    assert "2 rows left out: 2 truncated" in shown.stderr
    rows = read(out)
    assert [row["structure"] for row in rows] == [
        "femur", "gracilis", "sartorius", "all structures",
    ]  # fmt: skip
    assert [row["patients"] for row in rows] == ["14", "14", "13", "14"]
    last = rows[-1]
    assert float(last["difference"]) == pytest.approx(-0.02, abs=0.01)
    assert float(last["difference_low"]) < float(last["difference"]) < 0
    assert float(last["p_adjusted"]) >= float(last["p"])
    assert last["test"] and last["effect_name"] and not last["reason"]


def test_json_has_the_same_figures_and_what_was_left_out(one, tmp_path):
    fewer = write(tmp_path / "two", "unetr", seed=5, cases=10, first=2)
    told = json.loads(mskt("compare", one, fewer, "--json").stdout)
    (pairing,) = told["pairings"]
    assert pairing["only_first"] == ["p00", "p01", "p12", "p13"] and pairing["only_second"] == []
    assert pairing["left_out"] == {"truncated": 2} and pairing["patients"] == 10
    assert told["tests"] == 1 and told["rows"][0]["patients"] == 10
    assert any("4 cases only in unet, left out: p00, p01" in note for note in told["notes"])


def test_truncated_structures_count_when_asked_for(one, two):
    arguments = ("compare", one, two, "--by", "structure", "--json")
    rows = [
        json.loads(mskt(*arguments, *more).stdout)["rows"]
        for more in ((), ("--include-truncated",))
    ]
    assert (rows[0][2]["patients"], rows[1][2]["patients"]) == (13, 14)


def test_misses_are_counted_as_dice_0_and_told_of_distances(two, tmp_path):
    misses = write(tmp_path / "one", misses=5)
    dice = json.loads(mskt("compare", misses, two, "--by", "structure", "--json").stdout)
    assert dice["rows"][0]["patients"] == 14 and dice["pairings"][0]["missed_first"] == 2
    assd = json.loads(
        mskt("compare", misses, two, "--metric", "assd", "--by", "structure", "--json").stdout
    )
    assert assd["rows"][0]["patients"] == 13
    assert any("flatters" in note and "missed 2" in note for note in assd["notes"])


def test_correction_changes_p_adjusted_only(one, two):
    found = {
        name: json.loads(
            mskt("compare", one, two, "--by", "structure", "--correction", name, "--json").stdout
        )["rows"]
        for name in ("none", "holm", "bonferroni")
    }
    for k, row in enumerate(found["none"]):
        assert row["p_adjusted"] == row["p"] == found["holm"][k]["p"]
        assert found["bonferroni"][k]["p_adjusted"] == pytest.approx(min(1, 4 * row["p"]))
        assert row["p"] <= found["holm"][k]["p_adjusted"] <= found["bonferroni"][k]["p_adjusted"]


def test_folds_of_one_name_are_one_method(tmp_path, two):
    folds = [write(tmp_path / f"fold{k}", cases=7, first=7 * k) for k in range(2)]
    told = json.loads(mskt("compare", *(f"mine={f}" for f in folds), two, "--json").stdout)
    assert [(p["first"], p["second"], p["patients"]) for p in told["pairings"]] == [
        ("mine", "two", 14)
    ]
    apart = mskt("compare", *folds, code=2)  # without a name they are two methods
    assert "in common" in apart.stderr


def test_tables_in_folders_of_one_name_are_kept_apart(tmp_path):
    folders = [write(tmp_path / name / "results", seed=k) for k, name in enumerate("ab")]
    told = json.loads(mskt("compare", *folders, "--json").stdout)
    assert told["rows"][0]["first"] != told["rows"][0]["second"]
    assert told["rows"][0]["patients"] == 14


def test_too_few_patients_is_a_reason_and_exit_code_1(tmp_path):
    few = [write(tmp_path / n, n, seed=k, cases=5) for k, n in enumerate("ab")]
    shown = mskt("compare", *few, code=1)
    assert re.search(r"no test: .*: 5 patients;", " ".join(shown.stdout.split()))
    row = json.loads(mskt("compare", *few, "--json", code=1).stdout)["rows"][0]
    assert row["p"] is None and row["difference"] is None and "at least 6" in row["reason"]


def test_phantoms_are_called_phantoms(tmp_path):
    made = [write(tmp_path / n, n, seed=k, dataset="synthetic phantom") for k, n in enumerate("ab")]
    assert "All of 14 cases are synthetic phantoms" in mskt("compare", *made).stderr
    assert "synthetic phantoms" in mskt("bins", made[0]).stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compare", "ONE"], "one method only: unet"),
        (["compare", "ONE", "ONE"], "same table twice"),
        (["compare", "ONE", "gone"], "gone: does not exist"),
        (["compare", "ONE", "TWO", "--metric", "dise"], "Did you mean dice"),
        (["compare", "ONE", "TWO", "--correction", "sidak"], "holm, bonferroni, none"),
        (["compare", "ONE", "TWO", "--by", "side"], "--by"),
        (["compare", "ONE", "TWO", "--side", "both"], "in common"),
        (["compare", "ONE", "TWO", "--side", "up"], "--side"),
        (["compare", "ONE", "TWO", "--out", "ONE/results.csv"], "exists already"),
        (["agreement", "ONE", "--metric", "dice"], "--reference"),
        (["agreement", "ONE", "--sides", "--side", "left"], "excludes"),
        (["bins", "ONE", "--metric", "doubt"], "Did you mean uncertainty"),
    ],
)
def test_wrong_calls_are_refused_with_what_to_do(one, two, arguments, said):
    called = [a.replace("ONE", str(one)).replace("TWO", str(two)) for a in arguments]
    shown = mskt(*called, code=2)
    assert said in " ".join(shown.stderr.split())
    assert "Traceback" not in shown.output


def test_a_file_that_is_no_table_is_refused(tmp_path, one):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    assert "lacks the columns" in mskt("compare", one, tmp_path / "other.csv", code=1).stderr


def test_agreement_with_the_reference_of_the_labels_and_with_a_table(one, tmp_path):
    out = tmp_path / "agreement.csv"
    shown = mskt("agreement", one, "--out", out)
    assert "volume (cm3): unet against reference (from ravd)" in shown.stdout
    rows = {row["structure"]: row for row in read(out)}
    assert list(rows) == ["femur", "gracilis", "sartorius", "all structures"]
    for row in rows.values():
        assert 0.9 < float(row["ccc_low"]) < float(row["ccc"]) < float(row["ccc_high"]) <= 1
        assert float(row["loa_lower"]) < float(row["bias"]) < float(row["loa_upper"])
    assert rows["sartorius"]["patients"] == "13"
    assert "2 truncated" in shown.stderr
    other = write(tmp_path / "reader", "reader", seed=8)
    told = json.loads(mskt("agreement", one, "--reference", other, "--json").stdout)
    assert told["rows"][0]["reference"] == "reader" and told["rows"][0]["spearman"] > 0.8


def test_left_against_right_and_few_patients(one, tmp_path):
    told = json.loads(mskt("agreement", one, "--sides", "--metric", "dice", "--json").stdout)
    assert (told["rows"][0]["measured"], told["rows"][0]["reference"]) == ("left", "right")
    few = write(tmp_path / "few", cases=3)
    shown = mskt("agreement", few, code=1)
    assert "at least 4" in " ".join(shown.stdout.replace("│", " ").split())


def test_bins_on_the_terminal_and_in_a_file(tmp_path):
    results = write(tmp_path / "r", cases=60)
    out = tmp_path / "bins.csv"
    shown = mskt("bins", results, "--by", "structure", "--out", out)
    assert "all structures, pooled" in shown.stdout
    assert "2 structures cut by the field of view" in shown.stderr
    rows = read(out)
    assert len(rows) == 5 * 10
    pooled = [row for row in rows if row["structure"] == "all structures, pooled"]
    assert sum(int(row["n"]) for row in pooled) == 60 * 6 - 2
    assert all(not row["p"] for row in pooled) and float(pooled[0]["larger_than_next_low"]) > 0.5
    assert any(row["p"] for row in rows)


def test_bins_of_several_methods_are_refused(one, two, tmp_path):
    both = one / "results.csv"
    body = (two / "results.csv").read_text().split("\n", 1)[1]
    both.write_text(both.read_text() + body)
    assert "several methods" in mskt("bins", both, code=2).stderr
    told = json.loads(mskt("compare", both, "--json").stdout)  # but one table may be compared
    assert told["rows"][0]["first"] == "unet" and told["rows"][0]["second"] == "unetr"


@pytest.mark.parametrize("arguments", [["compare"], ["agreement"], ["bins"]])
def test_no_output_has_nan(one, two, arguments):
    tables = [one, two] if arguments == ["compare"] else [one]
    text = mskt(*arguments, *tables, "--json").stdout
    json.loads(text, parse_constant=pytest.fail)


def test_quiet_says_nothing_and_same_seed_same_bytes(one, two, tmp_path):
    made = []
    for name in ("a", "b"):
        out = tmp_path / f"{name}.csv"
        shown = mskt("compare", one, two, "--seed", "3", "--out", out, "-q")
        assert shown.output == ""
        made.append(out.read_bytes())
    assert made[0] == made[1]

"""``mskt run --calibration`` from end to end: what fits, what is refused, what is written and shown."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from leg_scans import PLUGIN, leg_scan, save_scan
from typer.main import get_command
from typer.testing import CliRunner

from mskt.analysis import shipped_calibrations
from mskt.analysis.assessment import metrics_of_run
from mskt.analysis.calibration import Provenance
from mskt.analysis.fitting import calibrate
from mskt.analysis.pairs import pairs_of
from mskt.cli import app
from mskt.core.records import Record, read_csv, to_csv
from mskt.core.registry import registry

pytestmark = pytest.mark.usefixtures("fake_plugin")
PAGES = Path(__file__).parents[2] / "docs"
SUBSET = "adductors,femur,gracilis"  # the fake finds the first two
FAKE = ["--segmenter", "fake", "--samples", "4", "--threads", "1", "--roi-subset", SUBSET]
METHOD = {
    "segmenter": "fake", "weights": (), "weights_sha256": (), "estimator": "mcdropout",
    "measure": "predictive_variance_mean", "aggregation": "mean", "draws": 4, "label_set": "msk22",
}  # fmt: skip


def call(*arguments, code=0):
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == code, result.output + str(result.exception)
    return result


def mskt(*arguments, code=0):
    return call("run", *FAKE, *arguments, code=code)


def doubtful_scan(path):
    """The patient's right leg has muscle near the fake's threshold, where its draws disagree."""
    data = leg_scan()
    right = data[20:]
    right[(right > -500) & (right < 500)] -= 55
    save_scan(path, data)


def calibration(path, *, metric="uncertainty", synthetic=0, **method):
    """Twenty patients with noise: Dice falls with the doubt of adductors, and rises with the femur's."""
    rng = np.random.default_rng(0)
    rows = []
    for case in range(20):
        for structure, top, slope in (("adductors", 0.95, -100), ("femur", 0.9, 20)):
            for side in ("left", "right"):
                doubt = rng.gamma(3.0, 1e-4)
                dice = top + slope * doubt + rng.normal(0, 0.005)
                for name, value in ((metric, doubt), ("dice", dice)):
                    rows.append(
                        Record(f"c{case}", "", "", "", "", structure, side, name, value, "1", "ok")
                    )  # fmt: skip
    known = Provenance(
        **{**METHOD, **method}, cases=0, patients=0, pairs=0, synthetic_cases=synthetic,
        rows_sha256="", date="2026-01-01", mskt="0",
    )  # fmt: skip
    path.write_text(calibrate(pairs_of(rows, metric), metric, 0.9, known).to_json())
    return path


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """One judged case: its folder, the calibration, and what stood on the terminal."""
    root = tmp_path_factory.mktemp("judged")
    doubtful_scan(root / "leg.nii.gz")
    file = calibration(root / "hips.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PLUGIN))
        registry.cache_clear()
        shown = mskt(root / "leg.nii.gz", "-o", root / "out", "--calibration", file)
    registry.cache_clear()
    return root / "out", file, shown


def flags_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def rows_of(path):
    return {(r.structure, r.side, r.metric): r for r in read_csv(path)}


def run_json(out):
    return json.loads((out / "leg" / "run.json").read_text())


@pytest.fixture
def leg(tmp_path):
    doubtful_scan(tmp_path / "leg.nii.gz")
    return tmp_path / "leg.nii.gz"


# What is written


def test_rows_and_flags_of_a_case(done):
    out, _, _ = done
    rows = rows_of(out / "leg" / "results.csv")
    flags = {(f["structure"], f["side"]): f for f in flags_of(out / "leg" / "flags.tsv")}
    assert [(*key, f["flag"]) for key, f in flags.items()] == [
        ("adductors", "left", "ok"), ("adductors", "right", "failed"),
        ("gracilis", "left", "failed"), ("gracilis", "right", "failed"),
        ("femur", "left", "unknown"), ("femur", "right", "unknown"),
    ]  # fmt: skip
    for (structure, side), flag in flags.items():
        for metric, column in (
            ("predicted_dice", "predicted_dice"),
            ("predicted_dice_lower", "lower_bound"),
        ):
            row = rows[structure, side, metric]
            found = None if flag[column] == "" else pytest.approx(float(flag[column]), rel=1e-5)
            assert row.value == found
            assert (row.unit, row.run_id) == ("1", rows["femur", "left", "mean_hu"].run_id)
    assert float(flags["adductors", "right"]["doubt"]) > 1e-3
    assert "probably wrong" in flags["adductors", "right"]["reason"]
    assert flags["gracilis", "left"]["reason"] == "not found"
    assert "larger doubt did not mean a lower Dice" in flags["femur", "left"]["reason"]
    assert ("femur", "both", "predicted_dice") not in rows
    assert rows["gracilis", "left", "predicted_dice"].status == "absent_prediction"


def test_tables_of_the_run(done):
    out, _, _ = done
    assert rows_of(out / "results.csv") == rows_of(out / "leg" / "results.csv")
    own = (out / "leg" / "flags.tsv").read_text().splitlines()
    union = (out / "flags.tsv").read_text().splitlines()
    assert union == [f"case_id\t{own[0]}", *(f"leg\t{line}" for line in own[1:])]
    assert len(own) == 7


def test_where_nearly_nothing_is_found_the_scan_itself_is_in_question(leg, tmp_path, done):
    shown = call(
        "run", leg, "-s", "fake", "--samples", 4, "--threads", 1, "-o", tmp_path / "out",
        "--calibration", calibration(tmp_path / "hips.json"),
    )  # fmt: skip
    (hint,) = (note for note in run_json(tmp_path / "out")["notes"] if "probably wrong" in note)
    assert "front, back, right and left" in hint and hint in " ".join(shown.output.split())
    out, _, _ = done
    assert not any("probably wrong" in note for note in run_json(out)["notes"]), "3 of 6 failed"


def test_run_json_says_which_calibration(done):
    out, file, _ = done
    run = run_json(out)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert run["calibration"] == {
        "file": "hips.json", "sha256": digest, "metric": "uncertainty", "coverage": 0.9,
        "cases": 20, "patients": 20, "synthetic": False, "synthetic_cases": 0, "forced": False,
    }  # fmt: skip
    assert run["settings"]["calibration"] == "hips.json"
    assert run["settings"]["calibration_sha256"] == digest
    assert str(file.parent) not in (out / "leg" / "run.json").read_text()


def test_the_table_on_the_terminal(done):
    _, _, shown = done
    lines = [line.split("│") for line in shown.stdout.splitlines() if line.startswith("│")]
    told = [
        (line[1].strip(), line[2].strip(), line[8].strip(), line[-2].split(",")[0].strip())
        for line in lines
    ]
    assert [row[:2] for row in told] == [
        ("adductors", "right"), ("femur", "left"), ("femur", "right"), ("adductors", "left"),
    ]  # fmt: skip
    assert [row[3] for row in told] == ["failed", "unknown", "unknown", "cut by the field of view"]
    assert told[3][2] == "0.95" and float(told[0][2]) < 0.9
    text = " ".join(shown.stdout.split())
    assert "Dice*" in text and "≥: lower bound that 90 % of structures" in text
    assert "predicted from the uncertainty, not measured (hips.json, 20 calibration cases)" in text
    assert "Flags: 3 failed, 0 inaccurate, 2 unknown, 1 ok." in text
    assert "synthetic" not in text and "another method" not in shown.output


def test_without_the_option_nothing_changes(done, leg, tmp_path):
    out, _, _ = done
    shown = mskt(leg, "-o", tmp_path / "plain", "--json")
    plain = tmp_path / "plain"
    assert not list(plain.rglob("flags.tsv"))
    run = run_json(plain)
    assert "calibration" not in run
    assert not [name for name in run["settings"] if "calibration" in name]
    content = json.loads(shown.stdout)
    assert "calibration" not in content and "flags" not in content["cases"][0]
    # What a run is expected to have before its first case is what it has.
    assert {key[2] for key in rows_of(plain / "results.csv")} == metrics_of_run(
        "predictive_variance_mean", {}
    )
    with_it = rows_of(out / "results.csv")
    for key, row in rows_of(plain / "results.csv").items():
        assert (row.value, row.status) == (with_it[key].value, with_it[key].status)
    assert {key[2] for key in with_it.keys() - rows_of(plain / "results.csv").keys()} == {
        "predicted_dice", "predicted_dice_lower",
    }  # fmt: skip
    assert (plain / "leg" / "statistics.json").read_bytes() == (
        out / "leg" / "statistics.json"
    ).read_bytes()
    assert (plain / "leg" / "preview.png").read_bytes() != (
        out / "leg" / "preview.png"
    ).read_bytes()


def test_json_has_the_flags_of_each_case_and_phantoms_are_named(leg, tmp_path):
    file = calibration(tmp_path / "c.json", synthetic=20)
    out = tmp_path / "out"
    content = json.loads(mskt(leg, "-o", out, "--calibration", file, "--json").stdout)
    flags = content["cases"][0]["flags"]
    assert [f["flag"] for f in flags].count("failed") == 3
    assert flags[0].keys() == {
        "structure", "side", "flag", "predicted_dice", "lower_bound", "doubt", "reason",
    }  # fmt: skip
    assert content["calibration"]["synthetic"] is True
    assert run_json(out)["calibration"]["synthetic_cases"] == 20
    assert "All calibration cases were synthetic phantoms" in content["calibration"]["warnings"][0]
    again = mskt(leg, "-o", out, "--calibration", file, "--overwrite")
    assert "All calibration cases were synthetic phantoms" in again.stdout


# What fits


@pytest.mark.parametrize(
    "method", [["--samples", "auto"], ["--fast"], ["-u", "ensemble", "--weights", "a,b"]]
)
def test_what_calibrate_reads_is_what_run_asks(leg, tmp_path, method):
    """A run of the very method whose results were calibrated is never refused."""
    own = ["run", "-s", "fake", "--threads", "1", "--roi-subset", SUBSET, *method, leg, "-q"]
    call(*own, "-o", tmp_path / "first")
    rows = [r for r in read_csv(tmp_path / "first" / "results.csv") if r.metric == "uncertainty"]
    rows = [r for r in rows if r.structure != "gracilis" and r.side != "both"]
    study, table, rng = tmp_path / "study", [], np.random.default_rng(0)
    facts = run_json(tmp_path / "first")
    for case in range(12):
        doubts = rng.gamma(3.0, 1e-4, len(rows))
        for metric, values in (("uncertainty", doubts), ("dice", 0.9 - 100 * doubts)):
            table += [
                Record(f"c{case}", "", "", "", "", r.structure, r.side, metric, v, "1", "ok")
                for r, v in zip(rows, values, strict=True)
            ]
        (study / f"c{case}").mkdir(parents=True)
        (study / f"c{case}" / "run.json").write_text(
            json.dumps({**facts, "case_id": f"c{case}", "input": {"sha256": f"{case}"}})
        )
    (study / "results.csv").write_text(to_csv(table))
    call("calibrate", study, "-o", tmp_path / "c.json", "-q")
    call(*own, "-o", tmp_path / "second", "--calibration", tmp_path / "c.json")
    assert run_json(tmp_path / "second")["calibration"]["forced"] is False
    assert (tmp_path / "second" / "flags.tsv").exists()
    # The check looks at something: with other draws or weights it is another method.
    other = ["--samples", "7"] if "--weights" not in method else ["--weights", "a,c"]
    refused = call(
        *own, *other, "-o", tmp_path / "no", "--calibration", tmp_path / "c.json", code=2
    )
    assert "was made for another method" in refused.stderr


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ({"segmenter": "unet_bayes"}, "segmenter unet_bayes, here fake"),
        ({"weights_sha256": ("a" * 64,)}, "weights aaaaaaaaaaaa, here none"),
        ({"draws": 10}, "draws 10, here 4"),
        ({"label_set": "thigh10"}, "label set thigh10, here msk22"),
        ({"aggregation": "interior"}, "aggregation interior, here mean"),
        ({"measure": "predictive_entropy"}, "measure predictive_entropy, here predictive_variance"),
        ({"metric": "uncertainty:predictive_entropy_interior"}, "Add --measures all"),
        ({"metric": "uncertainty:best"}, "No option of this uncertainty adds it"),
        ({"metric": "dice_of_a_friend"}, "which this run would not have"),
    ],
)
def test_a_calibration_that_does_not_fit_is_refused_before_any_case(leg, tmp_path, method, told):
    file = calibration(tmp_path / "c.json", **method)
    refused = mskt(leg, "-o", tmp_path / "out", "--calibration", file, code=2)
    assert told in refused.stderr and "c.json: " in refused.stderr
    assert ("--force-calibration" in refused.stderr) == ("metric" not in method)
    assert "Traceback" not in refused.output
    assert not (tmp_path / "out").exists()


def test_a_forced_calibration_marks_every_case(leg, tmp_path):
    file = calibration(tmp_path / "c.json", draws=10)
    out = tmp_path / "out"
    shown = mskt(leg, "-o", out, "--calibration", file, "--force-calibration")
    note = "The calibration was made for another method (draws 10, here 4)"
    assert shown.stderr.count(note) == 1 and note in shown.stdout
    run = run_json(out)
    assert run["calibration"]["forced"] is True
    assert [text for text in run["notes"] if note in text]
    assert (out / "flags.tsv").exists()


def test_what_the_run_lacks_cannot_be_forced_but_asked_for(leg, tmp_path):
    file = calibration(tmp_path / "c.json", metric="uncertainty:predictive_entropy_interior")
    out = tmp_path / "out"
    refused = mskt(leg, "-o", out, "--calibration", file, "--force-calibration", code=2)
    assert "Add --measures all" in refused.stderr
    mskt(leg, "-o", out, "--calibration", file, "--measures", "entropy", "-q")
    doubts = {(f["structure"], f["side"]): f["doubt"] for f in flags_of(out / "flags.tsv")}
    row = rows_of(out / "results.csv")["femur", "left", "uncertainty:predictive_entropy_interior"]
    assert float(doubts["femur", "left"]) == pytest.approx(row.value, rel=1e-5)


# Files and names


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "does not exist"),
        (b"", "is no JSON"),
        (b"\xff\xfe", "is no text"),
        (b"{}", "lacks schema"),
        ("cut", "is no JSON"),
        ("schema", "this mskt reads 2"),
        ("range", "has a curve but no doubt_range"),
    ],
)
def test_unusable_files_are_refused_before_anything_is_written(leg, tmp_path, content, told):
    file = tmp_path / "c.json"
    text = calibration(file).read_text()
    file.unlink()
    if isinstance(content, str):
        made = json.loads(text)
        made["schema"] = 1 if content == "schema" else 2
        made["pooled"]["doubt_range"] = None if content == "range" else [0.0, 1.0]
        content = json.dumps(made)[: 500 if content == "cut" else None].encode()
    if content is not None:
        file.write_bytes(content)
    refused = mskt(leg, "-o", tmp_path / "out", "--calibration", file, code=2)
    assert told in refused.stderr and "c.json" in refused.stderr
    assert "Traceback" not in refused.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--force-calibration"], "needs a calibration to force"),
        (["--calibration", "auto", "--force-calibration"], "takes none but one that fits"),
        (["--calibration", "."], "is a folder"),
    ],
)
def test_wrong_calls(leg, tmp_path, arguments, told):
    refused = mskt(leg, "-o", tmp_path / "out", *arguments, code=2)
    assert told in refused.stderr
    assert not (tmp_path / "out").exists()


def test_shipped_calibrations(leg, tmp_path, monkeypatch):
    shipped = tmp_path / "shipped"
    monkeypatch.setattr(shipped_calibrations, "folder", lambda: shipped)
    assert shipped_calibrations.names() == ()
    none = mskt(leg, "-o", tmp_path / "no", "--calibration", "auto", code=2)
    assert "None comes with this version" in none.stderr
    shipped.mkdir()
    calibration(shipped / "hips.json")
    calibration(shipped / "thighs.json", draws=10)
    calibration(shipped / "entropy.json", metric="uncertainty:predictive_entropy_mean")
    assert shipped_calibrations.names() == ("entropy", "hips", "thighs")
    misspelt = mskt(leg, "-o", tmp_path / "no", "--calibration", "hipps", code=2)
    assert "Did you mean 'hips'?" in misspelt.stderr
    out = tmp_path / "out"
    mskt(leg, "-o", out, "--calibration", "auto", "-q")
    assert run_json(out)["calibration"]["file"] == "hips.json"
    # By its name it is the same calibration, so the finished case may stay.
    assert "done already" in mskt(leg, "-o", out, "--calibration", "hips", "--resume").stdout
    calibration(shipped / "hips2.json")
    several = mskt(leg, "-o", tmp_path / "no", "--calibration", "auto", code=2)
    assert "several fit: hips, hips2" in several.stderr
    other = mskt(leg, "-o", tmp_path / "no", "--samples", "6", "--calibration", "auto", code=2)
    assert "no shipped calibration fits" in other.stderr
    assert "hips was made for another method: draws 4, here 6" in other.stderr
    assert "thighs was made for another method: draws 10, here 6" in other.stderr
    assert not (tmp_path / "no").exists()


# Resuming


def test_resume_and_overwrite(leg, tmp_path):
    out, file = tmp_path / "out", calibration(tmp_path / "c.json")
    other = calibration(tmp_path / "d.json", synthetic=3)
    mskt(leg, "-o", out, "--calibration", file, "-q")
    before = (out / "leg" / "run.json").read_bytes()
    assert "done already" in mskt(leg, "-o", out, "--calibration", file, "--resume").stdout
    refused = mskt(leg, "-o", out, "--calibration", other, "--resume", code=2)
    assert "calibration c.json, now d.json" in refused.stderr
    other.replace(file)  # other bytes under the same name
    changed = mskt(leg, "-o", out, "--calibration", file, "--resume", code=2)
    assert "calibration_sha256" in changed.stderr and "calibration c.json" not in changed.stderr
    assert "now not given" in mskt(leg, "-o", out, "--resume", code=2).stderr
    assert (out / "leg" / "run.json").read_bytes() == before
    # Flags of an older run must not stay beside results that were not judged.
    mskt(leg, "-o", out, "--overwrite", "-q")
    assert not list(out.rglob("flags.tsv"))


def test_pages_name_the_options():
    options = {
        name
        for parameter in get_command(app).commands["run"].params
        for name in parameter.opts
        if "calibration" in name
    }
    assert options == {"--calibration", "--force-calibration"}
    commands = (PAGES / "commands.md").read_text("utf-8").split("## mskt run")[1].split("\n## ")[0]
    page = (PAGES / "calibration.md").read_text("utf-8")
    for option in options:
        assert option in commands and option in page
    for word in ("flags.tsv", "predicted_dice", "predicted_dice_lower"):
        assert word in (PAGES / "outputs.md").read_text("utf-8")

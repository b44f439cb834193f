"""``mskt report`` and ``mskt run --report`` from end to end."""

import json
import re

import pytest
from leg_scans import leg_scan, save_scan
from typer.testing import CliRunner

from mskt.cli import app

pytestmark = pytest.mark.usefixtures("fake_plugin")
FAKE = ["--segmenter", "fake", "--samples", "2", "--threads", "1", "-q"]


def mskt(*arguments, code=0):
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == code, result.output + str(result.exception)
    return result


@pytest.fixture
def done(scan, tmp_path):
    """A finished run without pages, and its scan."""
    mskt("run", scan, *FAKE, "--out", tmp_path / "out")
    return tmp_path / "out", scan


def page(root, case="leg"):
    return (root / case / "report.html").read_text(encoding="utf-8")


def layers(html):
    return set(re.findall(r'id="layer-(\w+)"', html))


def test_a_run_writes_the_page_when_asked(scan, tmp_path):
    mskt("run", scan, *FAKE, "--out", tmp_path / "out", "--report")
    html = page(tmp_path / "out")
    assert layers(html) == {"ct", "labels", "doubt", "tissue"}
    assert "HU histogram of adductors" in html
    run = json.loads((tmp_path / "out" / "leg" / "run.json").read_text())
    assert run["run_id"] in html
    assert str(tmp_path) not in html
    assert 'href="leg/report.html"' in (tmp_path / "out" / "report.html").read_text()


def test_the_command_makes_the_page_that_the_run_makes(done, tmp_path):
    root, scan = done
    mskt("report", root, scan)
    later = page(root)
    mskt("run", scan, *FAKE, "--out", tmp_path / "again", "--report")
    pages = (later, page(tmp_path / "again"))
    pictures = [re.findall(r'id="(?:layer-\w+|payload)">[^<]*', html) for html in pages]
    assert pictures[0] == pictures[1] and len(pictures[0]) == 5


def test_without_the_images_the_page_says_what_is_missing(done):
    root, _ = done
    result = mskt("report", root)
    html = page(root)
    assert layers(html) == {"labels", "doubt"}
    assert "The CT was not given" in html and "HU histogram" not in html
    assert "without the CT" in result.output


def test_another_image_of_that_name_is_refused(done):
    root, scan = done
    save_scan(scan, leg_scan(seed=9))
    result = mskt("report", root, scan, code=1)
    assert "its checksum is another" in result.output
    assert not (root / "leg" / "report.html").exists()
    assert (root / "report.html").exists()


def test_a_damaged_case_is_named_and_the_others_are_done(scans, tmp_path):
    out = tmp_path / "out"
    mskt("run", scans, *FAKE, "--out", out)
    (out / "case1" / "case1_dseg.nii.gz").write_bytes(b"\x1f\x8bnothing")
    (out / "case3" / "case3_uncertainty.nii.gz").unlink()
    result = mskt("report", out, "--json", code=1)
    found = json.loads(result.stdout)
    assert set(found["failed"]) == {"case1", "case3"}
    assert "cannot be read" in found["failed"]["case1"]
    assert "is missing" in found["failed"]["case3"]
    assert found["written"] == ["case0", "case2"]


def test_failed_cases_stand_in_the_overview(scans, tmp_path):
    out = tmp_path / "out"
    (scans / "case2.nii.gz").write_bytes(b"no image")
    mskt("run", scans, *FAKE, "--out", out, "--report", code=1)
    html = (out / "report.html").read_text()
    assert "3 cases, 1 failed" in html
    assert "case2" in html.split("What failed")[1]


def test_pages_of_some_cases_and_of_new_results_only(scans, tmp_path):
    out = tmp_path / "out"
    mskt("run", scans, *FAKE, "--out", out)
    mskt("report", out, scans, "--cases", "case1")
    assert [path.parent.name for path in out.glob("*/report.html")] == ["case1"]
    result = mskt("report", out, scans, "--resume", "--json")
    assert json.loads(result.stdout)["written"] == ["case0", "case2", "case3"]
    mskt("run", scans / "case1.nii.gz", *FAKE, "--out", out, "--overwrite")
    assert not (out / "case1" / "report.html").exists()  # it showed what is no longer there


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "is no folder"),
        (["empty"], "holds no finished case"),
        (["out/leg"], "It is the folder of one case: mskt report"),
        (["out", "--cases", "arm"], "arm: no such finished case"),
        (["out", "--cases", ","], "nothing: no such finished case"),
    ],
)
def test_wrong_calls_are_explained(done, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert words in mskt("report", *arguments, code=2).output


def test_text_from_elsewhere_cannot_bring_a_script_into_the_page(done):
    root, _ = done
    path = root / "leg" / "run.json"
    run = json.loads(path.read_text())
    evil = "</script><script>alert(1)</script>"
    path.write_text(json.dumps({**run, "notes": [evil], "label_set": evil}))
    mskt("report", root)
    assert evil not in page(root)
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in page(root)

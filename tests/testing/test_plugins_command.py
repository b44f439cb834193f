"""``mskt plugins``: list, info, check, new."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from typer.testing import CliRunner

import mskt.core.registry
from mskt.cli import app
from mskt.core.registry import Registry
from mskt.testing.scaffold import write_project

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "mskt-tinynet"
PARTS = """
from mskt import MetricSpec, SegmenterSpec, UncertaintySpec, hookimpl

@hookimpl
def mskt_uncertainty():
    yield UncertaintySpec("variance", "kit_reference:GoodVariance", "predictive [variance]")
    yield UncertaintySpec("narrow", "kit_mutants:NarrowRange", "wrong range")
    yield UncertaintySpec("both", "kit_reference:GoodEntropy", "one of two")

@hookimpl
def mskt_metric():
    yield MetricSpec("both", "kit_reference:GoodDistances", "two of two")

@hookimpl
def mskt_segmenter():
    yield SegmenterSpec("good", "kit_reference:Good", "smoothing")
    yield SegmenterSpec("weightless", "mskt_parts:unbuildable", "needs weights")

def unbuildable(weights="none"):
    raise FileNotFoundError("no weights at 'none'")
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command with two plugins, one of them broken."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mskt_parts.py").write_text(PARTS)
    (tmp_path / "mskt_broken.py").write_text("import acme_ops")
    found = Registry([EntryPoint(name, f"mskt_{name}", "mskt") for name in ("parts", "broken")])
    monkeypatch.setattr(mskt.core.registry, "registry", lambda: found)
    return lambda *words: CliRunner().invoke(app, ["plugins", *words])


def test_list_shows_all_and_the_broken_ones(run):
    result = run("list")
    assert result.exit_code == 0
    words = " ".join(result.stdout.split())
    assert "predictive [variance]" in words and "No module named 'acme_ops'" in words
    listed = json.loads(run("list", "--json").stdout)
    assert {(p["name"], p["kind"]) for p in listed["plugins"]} >= {
        ("good", "segmenter"),
        ("both", "metric"),
        ("both", "uncertainty"),
    }
    assert listed["broken"][0]["plugin"] == "broken"


def test_info_of_a_segmenter(run):
    facts = json.loads(run("info", "good", "--json").stdout)
    assert facts["labels"][0] == "background" and facts["classes"] == 4
    assert facts["parameters"] == 27 and facts["tags"]["stochastic"] is False
    assert "bone_left" in run("info", "good").stdout


def test_info_of_an_estimator_and_of_a_metric(run):
    facts = json.loads(run("info", "variance", "--json", "--option", "samples=7").stdout)
    assert facts["range"] == [0.0, 0.25] and facts["draws"] == 7
    assert facts["options"] == {"samples": 10} and facts["needs"] == "any"
    facts = json.loads(run("info", "both", "--kind", "metric", "--json").stdout)
    assert facts["metric assd"] == "unit mm, lower is better, perfect 0.0"


def test_info_of_what_cannot_be_built_says_why(run):
    result = run("info", "weightless", "--json")
    assert result.exit_code == 0
    assert "no weights" in json.loads(result.stdout)["not built"]


def test_check_passes_and_fails(run):
    good = run("check", "variance")
    assert good.exit_code == 0 and "checks passed" in good.stdout
    bad = run("check", "narrow")
    assert bad.exit_code == 1
    words = " ".join(bad.stdout.split())
    assert "Declare the range" in words and "narrow: 1 of 17 checks failed" in words


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("check", "varianse"), 2, "Did you mean 'variance'"),
        (("info", "varianse"), 2, "Note: plugin 'broken' is installed but failed to load"),
        (("info", "variance", "--kind", "metric"), 2, "no metric named 'variance'"),
        (("info", "variance", "--kind", "metrik"), 2, "Did you mean 'metric'"),
        (("check", "both"), 2, "Add --kind uncertainty"),
        (("check", "broken"), 1, "acme_ops"),
        (("check", "variance", "--option", "samples"), 2, "KEY=VALUE"),
        (("info", "variance", "--option", "sample=3"), 2, "has no option 'sample'"),
        (("check", "variance", "--option", "sample=3"), 2, "has no option 'sample'"),
        (("check", "weightless"), 1, "no weights"),
        (("new", "Tiny Net"), 2, "cannot be the name"),
    ],
)
def test_wrong_calls_are_explained(run, words, code, text):
    result = run(*words)
    assert result.exit_code == code, result.output
    assert text in result.stderr


def test_new_writes_a_project_that_passes_every_check(run, tmp_path, monkeypatch):
    result = run("new", "my-net", "--out", str(tmp_path))
    assert result.exit_code == 0 and "pip install -e" in result.stderr
    project = tmp_path / "mskt-my-net"
    assert str(project / "mskt_my_net" / "model.py") in result.stdout.split()
    assert run("new", "my-net", "--out", str(tmp_path)).exit_code == 1
    monkeypatch.syspath_prepend(project)
    found = Registry([EntryPoint("my-net", "mskt_my_net", "mskt")])
    monkeypatch.setattr(mskt.core.registry, "registry", lambda: found)
    checked = run("check", "my-net", "--json")
    assert checked.exit_code == 0, checked.stdout
    passed = [r["name"] for r in json.loads(checked.stdout) if r["status"] == "passed"]
    assert {"check_segmenter_spawn", "check_announcement_is_light"} <= set(passed)


def test_example_is_what_new_writes(tmp_path):
    """The example differs from the template by nothing but the spelling of its class."""
    for path in write_project("tinynet", tmp_path):
        place = path.relative_to(tmp_path / "mskt-tinynet")
        text = path.read_text(encoding="utf-8").replace("Tinynet", "TinyNet")
        assert (EXAMPLE / place).read_text(encoding="utf-8") == text

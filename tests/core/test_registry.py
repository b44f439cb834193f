"""One broken plugin never takes the tool down, and every failure is explained where one looks."""

from __future__ import annotations

import sys
from importlib.metadata import distributions

import pytest

from mskt.core.errors import PluginError, UsageError
from mskt.core.registry import DISABLE, KINDS, Registry, _installed

GOOD = """
from mskt import LoaderSpec, MetricSpec, SegmenterSpec, UncertaintySpec, hookimpl

@hookimpl
def mskt_segmenter():
    yield SegmenterSpec(name="{name}", factory="{module}:make", summary="one convolution")

def make(width=8, *, depth=3):
    return (width, depth)
"""
MISSPELT = """
from mskt import hookimpl

@hookimpl
def mskt_segmentor():
    yield None
"""
WRONG_TYPE = """
from mskt import MetricSpec, hookimpl

@hookimpl
def mskt_segmenter():
    yield MetricSpec(name="iou", factory="acme:Iou", summary="a metric in the wrong hook")
"""
RAISES = """
from mskt import hookimpl

@hookimpl
def mskt_segmenter():
    raise RuntimeError("no licence file")
"""


class Packages:
    """Makes distributions in a folder on sys.path, as pip would leave them."""

    def __init__(self, folder):
        self.folder = folder
        self.modules = []

    def add(self, module, code, *, entry=None, version="1.0"):
        (self.folder / f"{module}.py").write_text(code)
        info = self.folder / f"mskt_{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: mskt-{module}\nVersion: {version}\n"
        )
        (info / "entry_points.txt").write_text(f"[mskt]\n{entry or module} = {module}\n")
        self.modules.append(module)

    def good(self, module="acme", name="tinynet", **kwargs):
        self.add(module, GOOD.format(name=name, module=module), **kwargs)

    def points(self):
        return [
            point
            for found in distributions(path=[str(self.folder)])
            for point in found.entry_points
            if point.group == "mskt"
        ]

    def registry(self):
        return Registry(self.points())


@pytest.fixture
def packages(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    made = Packages(tmp_path)
    yield made
    for module in made.modules:
        sys.modules.pop(module, None)


def only_broken(registry):
    assert len(registry.broken) == 1
    return registry.broken[0]


def test_success(packages):
    packages.good(version="2.1")
    registry = packages.registry()
    assert registry.names("segmenter") == ("tinynet",) and registry.broken == []
    found = registry.find("segmenter", "tinynet")
    assert (found.distribution, found.version, found.plugin) == ("mskt-acme", "2.1", "acme")
    assert found.module == "acme"
    assert registry.get("segmenter", "tinynet", depth=5) == (8, 5)


def test_empty_registry_answers_for_every_kind():
    registry = Registry([])
    for kind in KINDS:
        assert registry.names(kind) == () and registry.announced(kind) == ()
        with pytest.raises(UsageError, match="Available: none"):
            registry.find(kind, "x")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import acme_ops", "ModuleNotFoundError: No module named 'acme_ops'"),
        ("syntax error", "SyntaxError"),
        (MISSPELT, "there is no hook 'mskt_segmentor'.\nDid you mean 'mskt_segmenter'"),
        (WRONG_TYPE, "mskt_segmenter: TypeError: mskt_segmenter yielded MetricSpec"),
        (RAISES, "mskt_segmenter: RuntimeError: no licence file"),
        (
            "from mskt import hookimpl\n@hookimpl\ndef mskt_segmenter(config): ...",
            "PluginValidationError",
        ),
        ("x = 1", "no function marked @hookimpl"),
        ("raise SystemExit(3)", "SystemExit"),
    ],
)
def test_a_broken_plugin_is_reported_and_the_good_one_still_works(packages, code, reason):
    packages.good()
    packages.add("broken", code)
    registry = packages.registry()
    assert registry.names("segmenter") == ("tinynet",)
    broken = only_broken(registry)
    assert (broken.plugin, broken.distribution) == ("broken", "mskt-broken")
    assert reason in broken.reason


def test_hook_that_yields_nothing_iterable(packages):
    packages.add("broken", MISSPELT.replace("segmentor", "segmenter").replace("yield", "return"))
    assert "TypeError" in only_broken(packages.registry()).reason


def test_unknown_name_says_what_there_is_and_what_is_broken(packages):
    packages.good()
    packages.good("other", "unet_bayes")
    packages.add("broken", "import acme_ops")
    with pytest.raises(UsageError) as error:
        packages.registry().get("segmenter", "unet_bayse")
    assert str(error.value) == (
        "no segmenter named 'unet_bayse'.\n"
        "Did you mean 'unet_bayes'?\n"
        "Available: tinynet, unet_bayes.\n"
        "Note: plugin 'broken' is installed but failed to load "
        "(ModuleNotFoundError: No module named 'acme_ops')."
    )


def test_name_announced_twice_is_refused_only_when_asked_for(packages):
    packages.good("first", "tinynet")
    packages.good("second", "tinynet", version="3.0")
    packages.good("third", "other")
    registry = packages.registry()
    assert registry.names("segmenter") == ("other", "tinynet")
    assert len(registry.announced("segmenter")) == 3
    assert registry.get("segmenter", "other") == (8, 3)
    with pytest.raises(PluginError) as error:
        registry.get("segmenter", "tinynet")
    assert "mskt-first 1.0 (first:make), mskt-second 3.0 (second:make)" in str(error.value)
    assert DISABLE in str(error.value)


def test_two_entry_points_of_one_name_are_both_loaded(packages):
    packages.good("first", "one", entry="net")
    packages.good("second", "two", entry="net")
    registry = packages.registry()
    assert registry.names("segmenter") == ("one", "two") and not registry.broken


def test_unknown_option_is_refused_with_those_that_exist(packages):
    packages.good()
    with pytest.raises(UsageError) as error:
        packages.registry().get("segmenter", "tinynet", dpeth=2)
    assert "has no option 'dpeth'" in str(error.value)
    assert "It takes: width, depth" in str(error.value)


def test_factory_with_keyword_arguments_takes_any_option(packages):
    packages.add(
        "acme",
        GOOD.format(name="tinynet", module="acme").replace(
            "def make(width=8, *, depth=3):\n    return (width, depth)",
            "def make(**options):\n    return options",
        ),
    )
    assert packages.registry().get("segmenter", "tinynet", width=2) == {"width": 2}


def test_address_that_leads_nowhere_is_explained(packages):
    packages.add("acme", GOOD.format(name="tinynet", module="acme_gone"))
    with pytest.raises(PluginError) as error:
        packages.registry().get("segmenter", "tinynet")
    assert "cannot be imported from 'acme_gone:make'" in str(error.value)


def test_entry_points_can_be_left_out(monkeypatch):
    everything = {point.name for point in _installed()}
    monkeypatch.setenv(DISABLE, "third-party, metrics")
    assert {point.name for point in _installed()} <= everything - {"metrics"}

"""Specs refuse, where their author sees it, what could not be used later."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from mskt.core.errors import PluginError
from mskt.core.specs import LoaderSpec, MetricSpec, SegmenterSpec, Spec, UncertaintySpec

ALL = (SegmenterSpec, UncertaintySpec, MetricSpec, LoaderSpec)


@pytest.mark.parametrize("spec", ALL)
def test_spec_is_frozen_equal_by_value_and_can_be_sent_to_a_worker(spec):
    made = spec("net", "acme.model:Net", "one line")
    assert made == spec("net", "acme.model:Net", "one line")
    assert pickle.loads(pickle.dumps(made)) == made
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.name = "other"
    assert made.kind


def test_kinds_differ():
    assert len({spec.kind for spec in ALL}) == len(ALL)


@pytest.mark.parametrize("name", ["TinyNet", "", "1net", "tiny net", "täny", "net\n"])
def test_bad_name(name):
    with pytest.raises(PluginError, match="no valid name"):
        SegmenterSpec(name, "acme:Net", "")


@pytest.mark.parametrize("factory", ["acme", "acme.Net", "acme:", ":Net", "acme:Net()", "a:b:c"])
def test_bad_address(factory):
    with pytest.raises(PluginError, match=r"Write 'package\.module:Name'"):
        SegmenterSpec("net", factory, "")


def test_load_follows_dots():
    assert Spec("name", "pathlib:Path.home", "").load().__name__ == "home"


@pytest.mark.parametrize(
    ("factory", "fault"),
    [("no_such_package:Net", "ModuleNotFoundError"), ("pathlib:Net", "AttributeError")],
)
def test_load_explains(factory, fault):
    with pytest.raises(PluginError, match=fault):
        SegmenterSpec("net", factory, "").load()

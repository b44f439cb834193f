"""Starting must stay fast: no heavy package is imported before something needs it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest

from mskt.testing.announcement import HEAVY

WATCHED = (*HEAVY, "SimpleITK", "nibabel", "torch._dynamo", "sympy")
ANNOUNCEMENTS = ("loaders", "metrics", "uncertainty", "unet_bayes")
HELP = """
import contextlib, io
from mskt.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    sys.argv = ["mskt", "--help"]
    main()
"""
LISTING = """
from importlib.metadata import EntryPoint
from mskt.core.registry import Registry
points = [EntryPoint(name, f"mskt.plugins.{name}", "mskt") for name in NAMES]
found = Registry(points)
assert not found.broken, found.broken
[found.announced(kind) for kind in ("segmenter", "uncertainty", "metric", "loader")]
"""


def heavy_after(code):
    """Heavy packages in sys.modules of a fresh interpreter after ``code``."""
    watched = (
        f"import json, sys\n{code}\nprint(json.dumps(sorted(set({WATCHED!r}) & set(sys.modules))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", watched], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "code",
    [
        "import mskt; dir(mskt); mskt.__version__",
        "from mskt import SegmenterSpec, hookimpl",
        "import mskt.core.registry",
        "import mskt.testing, mskt.testing.pytest_markers; dir(mskt.testing)",
        "import mskt.testing.runner",
    ],
    ids=["package", "announcing", "registry", "kit", "runner"],
)
def test_import_is_light(code):
    assert heavy_after(code) == []


@pytest.mark.skipif(importlib.util.find_spec("mskt.cli") is None, reason="no command line")
def test_help_is_light():
    assert heavy_after(HELP) == []


def test_built_in_announcements_are_light():
    names = [
        n
        for n in ANNOUNCEMENTS
        if importlib.util.find_spec(f"mskt.plugins.{n}") is not None
        and importlib.util.find_spec(f"mskt.plugins.{n}").origin
    ]
    assert names
    assert heavy_after(f"NAMES = {names!r}\n{LISTING}") == []


@pytest.mark.parametrize("name", ["unet_bayes", "unet25d"])
def test_a_network_is_ready_without_the_compiler_of_torch(name):
    """It takes seconds to load, in every run. (unetr needs it: timm imports torchvision.)"""
    loaded = heavy_after(
        f"from mskt.core.registry import registry\nregistry().get('segmenter', {name!r})"
    )
    assert "torch" in loaded
    assert not {"torch._dynamo", "sympy"} & set(loaded)


def test_every_public_name_can_be_loaded_and_no_other():
    import mskt
    import mskt.testing

    for package in (mskt, mskt.testing):
        for name in package.__all__:
            assert getattr(package, name) is not None
        with pytest.raises(AttributeError, match="no_such_name"):
            package.no_such_name  # noqa: B018

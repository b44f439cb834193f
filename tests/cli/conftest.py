"""A run in a second: a small scan, and a segmenter of another distribution, found as users' are."""

import os
from pathlib import Path

import pytest
from leg_scans import PLUGIN, leg_scan, save_scan

from mskt.core.registry import registry


@pytest.fixture
def fake_plugin(monkeypatch):
    """Install ``mskt-fake`` for this test: its entry point is found on ``sys.path``."""
    monkeypatch.syspath_prepend(str(PLUGIN))
    registry.cache_clear()
    yield
    registry.cache_clear()


@pytest.fixture
def environment():
    """For subprocesses: the same plugin, one thread."""
    source = Path(__file__).parents[2] / "src"
    paths = [str(source), str(PLUGIN), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def scan(tmp_path):
    """One scan in a folder of its own."""
    path = tmp_path / "in" / "leg.nii.gz"
    path.parent.mkdir()
    save_scan(path, leg_scan(), codes=(2, 1))
    return path


@pytest.fixture
def scans(tmp_path):
    """Four scans; the third has only six slices."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(4):
        depth = 6 if number == 2 else 24
        save_scan(folder / f"case{number}.nii.gz", leg_scan((40, 30, depth), number))
    return folder


@pytest.fixture
def write_scan():
    """Write a scan of so many slices."""
    return lambda path, depth: save_scan(path, leg_scan((40, 30, depth)))

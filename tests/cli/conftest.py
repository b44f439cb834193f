"""A run in a second: a small scan, and a segmenter of another distribution, found as users' are."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mskt.core.registry import registry

PLUGIN = Path(__file__).parent / "plugin"


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


def leg_scan(shape=(40, 30, 24), seed=0):
    """Two thighs: a muscle with a bone in each, the patient's right one twice as thick."""
    i, j, _ = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    hu = np.full(shape, -1000.0)
    for centre, radius in ((11, 5), (28, 10)):
        distance = np.hypot(i - centre, j - 15)
        hu[distance < radius] = 50
        hu[distance < 2.5] = 700
    inside = hu > -500
    hu[inside] += np.random.default_rng(seed).normal(0, 5, int(inside.sum()))
    return hu.astype(np.int16)


def save_scan(path, data, *, codes=(1, 1), flip=False):
    """NIfTI with spacing 4 × 4 × 5 mm; ``flip``: the first array axis points to the patient's left."""
    affine = np.diag([-4.0 if flip else 4.0, 4.0, 5.0, 1.0])
    affine[:3, 3] = [10.0, -20.0, 30.0]
    image = nib.Nifti1Image(data[::-1] if flip else data, affine)
    image.set_sform(affine, codes[0])
    image.set_qform(affine, codes[1])
    image.to_filename(path)
    return affine


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

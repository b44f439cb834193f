"""``scripts/disturb_real_ct.py``: image and reference stay together and in place."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def disturb():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))  # it shares what score_real_ct.py knows
        spec = importlib.util.spec_from_file_location("disturb", SCRIPTS / "disturb_real_ct.py")
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, "disturb", module)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def scan(disturb):
    """A body of water with two femoral heads of 300 HU, 2 mm, not at the origin."""
    at = np.indices((70, 50, 24)) - np.array([0, 25, 8]).reshape(3, 1, 1, 1)
    hu = np.where(np.hypot((at[0] - 35) / 32, at[1] / 22) < 1, 0.0, -1000.0).astype(np.float32)
    classes = np.zeros(hu.shape, np.uint8)
    for x in (18, 52):
        head = (at[0] - x) ** 2 + at[1] ** 2 + at[2] ** 2 < 64
        hu[head], classes[head] = 300, disturb.LABELS["femur"].index
    return disturb.Scan(hu, classes, _affine())


def _affine():
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (-63, -40, 900)
    return affine


def centre_mm(one):
    where = np.argwhere(one.classes > 0).mean(axis=0)
    return (one.affine @ [*where, 1])[:3]


def test_every_variant_keeps_image_and_reference_together(disturb, scan):
    found = dict(disturb.variants(scan))
    assert len(found) == 23
    for name, one in found.items():
        assert one.hu.shape == one.classes.shape, name
        inside, outside = one.hu[one.classes > 0].mean(), one.hu[one.classes == 0].mean()
        assert inside > outside + 150, name
        assert np.isfinite(one.hu).all(), name


def test_resampling_and_padding_leave_it_where_it_was(disturb, scan):
    for one in (disturb.thick(scan, 2), disturb.thick(scan, 3), disturb.padded(scan, 9)):
        np.testing.assert_allclose(centre_mm(one), centre_mm(scan), atol=1.0)
    box = scan.cut(slice(5, 66), slice(3, None))
    np.testing.assert_allclose(centre_mm(box), centre_mm(scan), atol=1e-9)


def test_metal_is_seen_far_from_itself(disturb, scan):
    """Streaks reach across the body in the slices of the metal, and no other slice changes."""
    marred = disturb.with_metal(scan, np.random.default_rng(0))
    metal = marred.hu == 3071
    slices = metal.any(axis=(0, 1))
    np.testing.assert_array_equal(marred.hu[:, :, ~slices], scan.hu[:, :, ~slices])
    assert 0 < slices.sum() < scan.hu.shape[2]
    far = marred.hu[45:60, 20:30][:, :, slices] - scan.hu[45:60, 20:30][:, :, slices]
    assert far.std() > 5

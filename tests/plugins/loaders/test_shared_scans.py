"""Real scans, where they are at hand: geometry and HU of each as its source states them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from mskt.core.interfaces import LoadOptions
from mskt.plugins.loaders.dicom import DicomLoader
from mskt.plugins.loaders.nifti import NiftiLoader

SHARED = Path(os.environ.get("MSKT_SHARED", Path(__file__).parents[3].parent / "shared"))
SCANS = SHARED / "ct"
PLAIN = LoadOptions()
pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not SCANS.is_dir(), reason="the shared scans are not here (MSKT_SHARED)"),
]


def test_visible_human_pelvis():
    scan = NiftiLoader().load(SCANS / "vhf_pelvis" / "ct.nii.gz", PLAIN)
    assert scan.data.shape == (444, 371, 150) and scan.spacing_mm == (1.0, 1.0, 1.0)
    assert (scan.data.min(), scan.data.max()) == (-1024, 1531)
    assert scan.notes == () and scan.source["sform_code"] == 2
    labels, affine = NiftiLoader().load_labels(SCANS / "vhf_pelvis" / "labels.nii.gz", PLAIN)
    assert labels.shape == scan.data.shape and np.array_equal(affine, scan.affine)
    inside = scan.data[(labels > 0) & (labels < 20)]
    assert 20 < np.median(inside) < 90  # muscle


def test_visible_human_dicom_is_the_same_scan():
    scan = DicomLoader().load(SCANS / "vhf_pelvis" / "dicom_excerpt", PLAIN)
    assert scan.data.shape == (512, 512, 24) and scan.spacing_mm == (1.0, 1.0, 1.0)
    assert scan.notes == () and (scan.data.min(), scan.data.max()) == (-1024, 1481)
    whole = NiftiLoader().load(SCANS / "vhf_pelvis" / "ct.nii.gz", PLAIN)
    # the same place in the world has the same value in both files
    points = np.random.default_rng(0).integers((100, 100, 2), (300, 260, 22), (500, 3))
    world = points @ scan.affine[:3, :3].T + scan.affine[:3, 3]
    index = np.rint((world - whole.affine[:3, 3]) @ np.linalg.inv(whole.affine[:3, :3]).T).astype(
        int
    )
    inside = ((index >= 0) & (index < whole.data.shape)).all(axis=1)
    assert inside.sum() > 200
    assert np.array_equal(scan.data[tuple(points[inside].T)], whole.data[tuple(index[inside].T)])


def test_clinical_series():
    """Anonymised by emptying identifiers, JPEG 2000, no SOP class: as archives hand them out."""
    scan = DicomLoader().load(SCANS / "siemens_dicom", PLAIN)
    assert scan.data.shape == (512, 512, 20)
    np.testing.assert_allclose(scan.spacing_mm, (0.9765625, 0.9765625, 2.0))
    np.testing.assert_allclose(scan.affine[:3, 3], (249.51171875, 437.51171875, -804.5))
    assert scan.data.min() == -1024 and 1500 < scan.data.max() < 3072
    assert scan.subject.weight_kg == 79 and scan.notes == ()

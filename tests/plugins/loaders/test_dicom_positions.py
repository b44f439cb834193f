from __future__ import annotations

import numpy as np
import pytest

from mskt.core.errors import GeometryError
from mskt.core.interfaces import LoadOptions
from mskt.plugins.loaders.dicom_positions import plan

PLAIN = LoadOptions()


def places(*gaps: float, start: float = -100.0) -> np.ndarray:
    return start + np.concatenate([[0.0], np.cumsum(gaps)])


def test_uniform_with_jitter_is_taken_as_it_is():
    jitter = np.random.default_rng(0).uniform(-0.01, 0.01, 41)
    scheme = plan(places(*[2.0] * 40) + jitter, "scan", PLAIN, 1)
    assert not scheme.resampled and len(scheme.places_mm) == 41 and scheme.notes == ()
    assert scheme.step_mm == pytest.approx(2.0, abs=1e-3)


@pytest.mark.parametrize(
    "gaps",
    [
        [2.0] * 10 + [6.0] * 12 + [1.0] * 8,
        [2.0] * 10 + [4.0] + [6.0] * 12,
        [2.0] * 10 + [0.7] + [6.0] * 3,
        [1.0] * 3 + [5.0] * 3,
    ],
)
def test_changed_intervals_are_resampled(gaps):
    scheme = plan(places(*gaps), "scan", PLAIN, 1)
    smallest = min(gap for gap in gaps if gaps.count(gap) >= 3)
    assert scheme.resampled and scheme.step_mm == pytest.approx(smallest)
    assert np.allclose(np.diff(scheme.places_mm), smallest)
    assert scheme.places_mm[-1] <= places(*gaps)[-1] + 0.01
    assert "interval changes inside the series" in scheme.notes[-1]


@pytest.mark.parametrize(
    ("gaps", "words"),
    [
        (
            [2.0] * 10 + [4.0] + [2.0] * 10,
            "1 slice is missing: no slice between -80.00 and -76.00 mm (interval there 2 mm)",
        ),
        ([2.0] * 10 + [6.0] + [2.0] * 10, "2 slices are missing"),
        ([2.0] * 5 + [4.0, 4.0] + [2.0] * 5, "2 slices are missing"),
        ([4.0] + [2.0] * 6, "1 slice is missing"),
        ([2.0] * 6 + [4.0], "1 slice is missing"),
        ([2.0] * 4 + [12.0] + [6.0] * 4, "no slice between -92.00 and -80.00 mm"),
        ([1.0, 2.0], "1 slice is missing"),
    ],
)
def test_missing_slices_are_refused(gaps, words):
    with pytest.raises(GeometryError) as caught:
        plan(places(*gaps), "scan", PLAIN, 1)
    assert words in str(caught.value)
    assert "--allow missing-slices" in str(caught.value)
    scheme = plan(places(*gaps), "scan", LoadOptions(allow=frozenset({"missing-slices"})), 1)
    assert scheme.resampled and "interpolated" in scheme.notes[0]


def test_duplicates_are_refused():
    with pytest.raises(GeometryError, match=r"2 of 8 slices lie where another one lies") as caught:
        plan(places(2, 0, 2, 2, 0.0, 2, 2), "scan", PLAIN, 1)
    assert "-98.00, -94.00 mm" in str(caught.value)


def test_resampling_is_bounded():
    fine = plan(places(*[0.2] * 20 + [3.0] * 20), "scan", PLAIN, 1)
    assert fine.step_mm == 0.5
    small = plan(places(*[1.0] * 50 + [3.0] * 50), "scan", PLAIN, (2 << 30) // 51)
    assert len(small.places_mm) <= 52 and "to save memory" in small.notes[0]


def test_thin_uniform_series_stay_thin():
    assert plan(places(*[0.3] * 30), "scan", PLAIN, 1).step_mm == pytest.approx(0.3)

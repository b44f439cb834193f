from __future__ import annotations

import numpy as np
import pytest
from bodies import thigh

from mskt.core.errors import HounsfieldError, InputError
from mskt.core.interfaces import LoadOptions
from mskt.plugins.loaders.hounsfield import settle_values

PLAIN = LoadOptions()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((thigh() + 1024) / 4095, "looks normalised"),
        (thigh() / 1000, "looks normalised"),
        (np.clip((thigh() + 160) / 400 * 255, 0, 255), "looks like an 8-bit picture"),
        (thigh() + 1024, "stored values without the offset of −1024"),
        (np.where(thigh() < -900, -2000, thigh() + 1024), "apart from padding"),
        (thigh() * 0.1, "none is above 150"),
        (np.where(thigh() > 0, thigh() * 200, thigh()), "above 4000"),
    ],
)
def test_values_that_are_not_hu(values, words):
    values = values.astype(np.float32)
    with pytest.raises(HounsfieldError) as caught:
        settle_values(values.copy(), "scan.nii", PLAIN)
    text = str(caught.value)
    assert text.startswith("scan.nii: its values are not Hounsfield units: they lie in")
    assert words in text and "--allow not-hu" in text
    before = values.copy()
    notes = settle_values(values, "scan.nii", LoadOptions(allow=frozenset({"not-hu"})))
    assert np.array_equal(values, before) and "taken as they are" in notes[-1]


def test_ct_is_accepted_without_a_note():
    assert settle_values(thigh(), "scan.nii", PLAIN) == []


def test_a_crop_inside_the_body_is_accepted():
    inside = thigh((60, 60, 12))[13:47, 13:47]
    assert inside.min() > -200
    assert settle_values(inside.copy(), "scan.nii", PLAIN) == []


def test_extended_scale_is_accepted():
    data = thigh()
    data[12:14, 9:11] = 15000
    assert settle_values(data, "scan.nii", PLAIN) == []


@pytest.mark.parametrize("padding", [-3024, -2000, -32768])
def test_padding_becomes_air(padding):
    data = thigh()
    data[:3] = padding
    notes = settle_values(data, "scan.nii", PLAIN)
    assert data.min() == -1024 and (data[:3] == -1024).all()
    assert notes == [
        f"12 % of the voxels were below −1024 HU (lowest {padding:g}: padding outside "
        "the scanned circle) and were set to −1024 HU."
    ]


def test_noise_in_air_is_left_alone():
    data = thigh()
    data[0] = -1040
    before = data.copy()
    assert settle_values(data, "scan.nii", PLAIN) == [] and np.array_equal(data, before)


def test_windowed_values_are_noted():
    (note,) = settle_values(np.clip(thigh(), -160, 240), "scan.nii", PLAIN)
    assert "windowed" in note and "-160 HU" in note


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(value):
    data = thigh()
    data[0, 0, :5] = value
    with pytest.raises(InputError) as caught:
        settle_values(data.copy(), "scan.nii", PLAIN)
    assert "5 voxels (0.087 %) are NaN or infinite" in str(caught.value)
    assert "--allow not-finite" in str(caught.value)
    notes = settle_values(data, "scan.nii", LoadOptions(allow=frozenset({"not-finite"})))
    assert (data[0, 0, :5] == -1024).all() and "5 voxels" in notes[0]


def test_a_constant_image():
    with pytest.raises(InputError, match="every voxel has the value 7"):
        settle_values(np.full((5, 5, 5), 7, np.float32), "scan.nii", PLAIN)

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from bodies import rotation, thigh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mskt.core.errors import GeometryError, InputError
from mskt.core.interfaces import LoadOptions
from mskt.plugins.loaders.itk import ItkLoader

PLAIN = LoadOptions()
LOADER = ItkLoader()
LPS = np.diag([-1.0, -1.0, 1.0])


def save(path: Path, data, axes=LPS, spacing=(0.8, 0.9, 2.0), origin=(5.0, -6.0, 700.0)) -> Path:
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.transpose(2, 1, 0)))
    image.SetDirection((LPS @ axes).ravel().tolist())
    image.SetSpacing([float(value) for value in spacing])
    image.SetOrigin((LPS @ np.asarray(origin)).tolist())
    sitk.WriteImage(image, str(path))
    return path


def refusal(path: Path, kind=InputError) -> str:
    with pytest.raises(kind) as caught:
        LOADER.load(path, PLAIN)
    text = str(caught.value)
    assert text.startswith(path.name + ":") and str(path.parent) not in text and "\n" in text
    return text


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    mirror=st.booleans(),
    spacing=st.tuples(*[st.floats(0.3, 6.0)] * 3),
    origin=st.tuples(*[st.floats(-900, 900)] * 3),
    suffix=st.sampled_from([".nrrd", ".nhdr", ".mha", ".mhd"]),
    dtype=st.sampled_from([np.int16, np.float32, np.int32]),
)
def test_any_orientation_comes_back(tmp_path, angles, mirror, spacing, origin, suffix, dtype):
    axes = rotation(*angles) * ([-1, 1, 1] if mirror else [1, 1, 1])
    data = thigh((12, 9, 7))
    path = save(tmp_path / f"x{suffix}", data.astype(dtype), axes, spacing, origin)
    assert LOADER.accepts(path)
    volume = LOADER.load(path, PLAIN)
    assert volume.data.dtype == np.float32 and np.array_equal(volume.data, data)
    np.testing.assert_allclose(volume.affine[:3, :3], axes * spacing, atol=1e-6)
    np.testing.assert_allclose(volume.affine[:3, 3], origin, atol=1e-6)
    assert volume.notes == ()


def test_ras_space_and_negative_directions(tmp_path):
    data = thigh((12, 9, 7)).astype("<i2")
    header = (
        "NRRD0004\ntype: int16\ndimension: 3\nspace: right-anterior-superior\nsizes: 12 9 7\n"
        "space directions: (-0.8,0,0) (0,0.9,0) (0,0,-2)\nendian: little\nencoding: raw\n"
        "space origin: (10,20,30)\n\n"
    )
    path = tmp_path / "x.nrrd"
    path.write_bytes(header.encode() + data.tobytes(order="F"))
    volume = LOADER.load(path, PLAIN)
    np.testing.assert_allclose(
        volume.affine[:3], [[-0.8, 0, 0, 10], [0, 0.9, 0, 20], [0, 0, -2, 30]], atol=1e-9
    )
    assert np.array_equal(volume.data, data)


@pytest.mark.parametrize(("suffix", "line"), [(".nrrd", "space:"), (".mha", "TransformMatrix")])
def test_without_orientation(tmp_path, suffix, line):
    path = save(tmp_path / f"x{suffix}", thigh().astype(np.int16), np.eye(3))
    raw = path.read_bytes()
    start = raw.index(line.encode())
    less = b"space dimension: 3\n" if suffix == ".nrrd" else b""
    path.write_bytes(raw[:start] + less + raw[raw.index(b"\n", start) + 1 :])
    text = refusal(path, GeometryError)
    assert line.rstrip(":") in text and "--allow no-orientation" in text
    allowed = LOADER.load(path, LoadOptions(allow=frozenset({"no-orientation"})))
    assert "Left and right may be exchanged" in allowed.notes[0]


def test_shear_is_repaired(tmp_path):
    axes = np.eye(3)
    axes[:, 2] = [0, np.sin(0.01), np.cos(0.01)]
    volume = LOADER.load(save(tmp_path / "x.mha", thigh().astype(np.int16), axes), PLAIN)
    assert "turned by up to 0.29°" in volume.notes[0]


def test_vectors_and_dimensions(tmp_path):
    colours = sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True)
    sitk.WriteImage(colours, str(tmp_path / "x.mha"))
    assert "holds 3 numbers a voxel" in refusal(tmp_path / "x.mha")
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((5, 6), np.int16)), str(tmp_path / "y.mha"))
    assert "2-dimensional" in refusal(tmp_path / "y.mha")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_truncated(tmp_path, suffix, capfd):
    path = save(tmp_path / f"x{suffix}", thigh().astype(np.int16))
    path.write_bytes(path.read_bytes()[:3000])
    assert "truncated" in refusal(path)
    shown = capfd.readouterr()
    assert str(tmp_path) not in shown.out + shown.err


def test_values_are_checked(tmp_path):
    assert "without the offset" in refusal(
        save(tmp_path / "x.nrrd", (thigh() + 1024).astype(np.uint16))
    )


def test_labels(tmp_path):
    labels = np.arange(24 * 20 * 12).reshape(24, 20, 12) % 11
    data, affine = LOADER.load_labels(save(tmp_path / "x.nrrd", labels.astype(np.uint8)), PLAIN)
    assert np.array_equal(data, labels)
    np.testing.assert_allclose(affine[:3, :3], LPS * (0.8, 0.9, 2.0))

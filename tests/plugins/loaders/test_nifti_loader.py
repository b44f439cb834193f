from __future__ import annotations

import gzip
import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bodies import rotation, thigh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mskt.core.errors import GeometryError, InputError
from mskt.core.interfaces import LoadOptions
from mskt.plugins.loaders.nifti import NiftiLoader

PLAIN = LoadOptions()
LOADER = NiftiLoader()
AXES = [
    np.eye(3)[list(order)].T * signs
    for order in itertools.permutations(range(3))
    for signs in itertools.product((-1, 1), repeat=3)
]


def save(path: Path, data, affine=None, *, sform=1, qform=1, unit="mm", kind=nib.Nifti1Image):
    affine = np.diag([0.8, 0.9, 2.0, 1.0]) if affine is None else affine
    image = kind(data, None)  # with an affine, nibabel would set codes of its own
    image.header.set_xyzt_units(unit)
    if data.ndim == 3:
        image.header.set_zooms(np.linalg.norm(affine[:3, :3], axis=0))
    image.header.set_sform(affine, sform)
    if qform is not None:
        image.header.set_qform(affine if qform else None, qform, strip_shears=True)
    path.write_bytes(
        image.to_bytes() if path.suffix != ".gz" else gzip.compress(image.to_bytes(), 1)
    )
    return path


def refusal(path: Path, options: LoadOptions = PLAIN, kind=InputError) -> str:
    with pytest.raises(kind) as caught:
        LOADER.load(path, options)
    text = str(caught.value)
    assert text.startswith(path.name + ":"), text
    assert str(path.parent) not in text
    assert "\n" in text, "a refusal needs a remedy"
    return text


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    axes=st.sampled_from(AXES),
    angles=st.tuples(*[st.floats(-0.6, 0.6)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 6.0)] * 3),
    origin=st.tuples(*[st.floats(-900, 900)] * 3),
    dtype=st.sampled_from([np.int16, ">i2", np.int32, np.float32, np.float64]),
    code=st.sampled_from([(1, 0), (0, 1), (2, 1)]),
    kind=st.sampled_from([nib.Nifti1Image, nib.Nifti2Image]),
)
def test_any_orientation_comes_back(tmp_path, axes, angles, spacing, origin, dtype, code, kind):
    affine = np.eye(4)
    affine[:3, :3] = rotation(*angles) @ axes * spacing
    affine[:3, 3] = origin
    data = thigh((12, 9, 7)).astype(dtype)
    sform, qform = code
    path = save(tmp_path / "x.nii", data, affine, sform=sform, qform=qform, kind=kind)

    volume = LOADER.load(path, PLAIN)

    assert volume.data.dtype == np.float32
    assert np.array_equal(volume.data, data.astype(np.float32))
    # a qform keeps float32 quaternions: a hair less exact than the sform
    np.testing.assert_allclose(volume.affine, affine, atol=2e-3 if sform else 5e-3)
    assert volume.notes == ()
    assert (volume.source["sform_code"], volume.source["qform_code"]) == code


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "X.NII.GZ"])
def test_plain_and_compressed(tmp_path, name):
    path = tmp_path / name
    image = nib.Nifti1Image(thigh().astype(np.int16), np.eye(4))
    path.write_bytes(gzip.compress(image.to_bytes()) if "gz" in name.lower() else image.to_bytes())
    assert LOADER.accepts(path)
    assert np.array_equal(LOADER.load(path, PLAIN).data, thigh())


def test_a_plain_file_with_a_gz_name_is_read(tmp_path):
    path = tmp_path / "x.nii.gz"
    path.write_bytes(nib.Nifti1Image(thigh().astype(np.int16), np.eye(4)).to_bytes())
    assert LOADER.load(path, PLAIN).data.shape == (24, 20, 12)


@pytest.mark.parametrize(
    ("stored", "slope", "inter"), [(np.uint16, 1.0, -1024.0), (np.int16, 0.5, -24.0)]
)
def test_scaled_integers(tmp_path, stored, slope, inter):
    hu = thigh()
    image = nib.Nifti1Image(((hu - inter) / slope).astype(stored), np.eye(4))
    raw = bytearray(image.to_bytes())
    header = nib.Nifti1Header(bytes(raw[:348]))
    header["scl_slope"], header["scl_inter"] = slope, inter
    raw[:348] = header.binaryblock
    path = tmp_path / "x.nii"
    path.write_bytes(bytes(raw))
    np.testing.assert_allclose(LOADER.load(path, PLAIN).data, hu, atol=1e-3)


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1e-3), ("micron", 1e3), ("mm", 1.0)])
def test_units_become_mm(tmp_path, unit, factor):
    affine = np.diag([0.8 * factor, 0.9 * factor, 2.0 * factor, 1.0])
    volume = LOADER.load(
        save(tmp_path / "x.nii", thigh().astype(np.int16), affine, unit=unit), PLAIN
    )
    np.testing.assert_allclose(volume.spacing_mm, (0.8, 0.9, 2.0), rtol=1e-6)
    np.testing.assert_allclose(volume.source["affine"], affine, rtol=1e-6)


def test_implausible_spacing_is_refused(tmp_path):
    path = save(tmp_path / "x.nii", thigh().astype(np.int16), np.diag([8e-4, 9e-4, 2e-3, 1]))
    text = refusal(path, kind=GeometryError)
    assert "0.0008 × 0.0009 × 0.002 mm is not plausible" in text and "unit" in text


def test_neither_sform_nor_qform(tmp_path):
    path = save(tmp_path / "x.nii", thigh().astype(np.int16), sform=0, qform=0)
    text = refusal(path, kind=GeometryError)
    assert "sform_code 0, qform_code 0" in text and "--allow no-orientation" in text
    allowed = LOADER.load(path, LoadOptions(allow=frozenset({"no-orientation"})))
    assert any("Left and right may be exchanged" in note for note in allowed.notes)
    np.testing.assert_allclose(allowed.spacing_mm, (0.8, 0.9, 2.0), rtol=1e-6)


def test_sform_wins_and_the_difference_is_noted(tmp_path):
    image = nib.Nifti1Image(thigh().astype(np.int16), None)
    image.header.set_sform(np.diag([-1.0, 1, 2, 1]), 2)
    image.header.set_qform(np.diag([1.0, 1, 2, 1]), 1)
    path = tmp_path / "x.nii"
    path.write_bytes(image.to_bytes())
    volume = LOADER.load(path, PLAIN)
    assert volume.affine[0, 0] == -1
    assert volume.notes == (
        "sform and qform of the file differ by 2 (relative); the sform was used.",
    )


def test_a_small_shear_is_repaired_and_measured(tmp_path):
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[1, 2] = 2 * np.tan(np.radians(0.4))
    path = save(tmp_path / "x.nii", thigh().astype(np.int16), affine)
    volume = LOADER.load(path, PLAIN)
    directions = volume.affine[:3, :3] / np.asarray(volume.spacing_mm)
    np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-9)
    (note,) = [note for note in volume.notes if "perpendicular" in note]
    assert "up to 0.2°" in note and "mm" in note
    np.testing.assert_allclose(volume.source["affine"], affine, atol=1e-6)


def test_a_large_shear_is_refused(tmp_path):
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[1, 2] = 2 * np.tan(np.radians(12))
    path = save(tmp_path / "x.nii", thigh().astype(np.int16), affine, qform=None)
    text = refusal(path, kind=GeometryError)
    assert "6.0" in text and "tilted gantry" in text and "--allow sheared" in text
    assert LOADER.load(path, LoadOptions(allow=frozenset({"sheared"}))).notes


def test_singular_affine(tmp_path):
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[:3, 2] = affine[:3, 1]
    text = refusal(
        save(tmp_path / "x.nii", thigh().astype(np.int16), affine, qform=None), kind=GeometryError
    )
    assert "not invertible" in text and "original DICOM" in text


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.zeros((8, 8, 4, 3), np.int16), ["holds 3 volumes", "file of its own"]),
        (np.zeros((8, 8), np.int16), ["2-dimensional (shape (8, 8))", "whole series"]),
        (np.zeros((4, 4, 4), np.complex64), ["complex64", "Give the CT itself"]),
        (np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")]), ["RGB colours"]),
    ],
)
def test_not_one_volume_of_numbers(tmp_path, data, words):
    text = refusal(save(tmp_path / "x.nii", data))
    assert all(word in text for word in words), text


def test_one_volume_in_four_dimensions(tmp_path):
    path = save(tmp_path / "x.nii", thigh()[..., None].astype(np.int16))
    assert LOADER.load(path, PLAIN).data.shape == (24, 20, 12)


def test_no_voxels(tmp_path):
    path = save(tmp_path / "x.nii", thigh().astype(np.int16))
    raw = bytearray(path.read_bytes())
    header = nib.Nifti1Header(bytes(raw[:348]), check=False)
    header["dim"][3] = 0
    raw[:348] = header.binaryblock
    path.write_bytes(bytes(raw))
    assert "no voxels" in refusal(path)


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_truncated_gzip(tmp_path, keep):
    path = save(tmp_path / "scan.nii.gz", thigh((40, 40, 20)).astype(np.int16))
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    text = refusal(path)
    assert "truncated" in text and "again" in text


def test_damaged_gzip(tmp_path):
    path = save(tmp_path / "scan.nii.gz", thigh((40, 40, 20)).astype(np.int16))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 20] = b"\xff" * 20
    path.write_bytes(bytes(raw))
    assert "damaged" in refusal(path)


def test_truncated_plain_file(tmp_path):
    path = save(tmp_path / "scan.nii", thigh().astype(np.int16))
    path.write_bytes(path.read_bytes()[:4000])
    text = refusal(path)
    assert "ends after" in text and "truncated" in text


@pytest.mark.parametrize(
    ("content", "word"), [(b"", "0 bytes"), (b"<!DOCTYPE html>" * 50, "no NIfTI")]
)
def test_what_is_no_nifti(tmp_path, content, word):
    path = tmp_path / "x.nii.gz"
    path.write_bytes(content)
    assert word in refusal(path)


def test_a_header_that_promises_too_much(tmp_path):
    path = save(tmp_path / "x.nii", thigh().astype(np.int16))
    raw = bytearray(path.read_bytes())
    header = nib.Nifti1Header(bytes(raw[:348]), check=False)
    header["dim"][1:4] = 30000
    raw[:348] = header.binaryblock
    path.write_bytes(bytes(raw))
    assert "promises" in refusal(path)


def test_a_path_that_cannot_be_read(tmp_path):
    text = refusal(tmp_path / "nothing.nii")
    assert "No such file" in text


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, ">i2", np.float32, np.float64])
def test_label_maps(tmp_path, dtype):
    labels = np.arange(24 * 20 * 12).reshape(24, 20, 12) % 23
    stored = nib.Nifti1Image(labels.astype(dtype), np.eye(4), dtype=dtype)
    path = tmp_path / "x_dseg.nii.gz"
    path.write_bytes(gzip.compress(stored.to_bytes()))
    data, affine = LOADER.load_labels(path, PLAIN)
    assert data.dtype.kind in "iu" and np.array_equal(data, labels)
    np.testing.assert_array_equal(affine, np.eye(4))


@pytest.mark.parametrize("dtype", [np.uint8, ">i2", np.uint16])
@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_label_maps_are_read_slab_by_slab(tmp_path, monkeypatch, dtype, name):
    monkeypatch.setattr("mskt.plugins.loaders.nifti.SLAB_BYTES", 3 * 24 * 20)
    labels = np.random.default_rng(0).integers(0, 200, (24, 20, 13))
    path = tmp_path / name
    content = nib.Nifti1Image(labels.astype(dtype), np.eye(4), dtype=dtype).to_bytes()
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    data, _ = LOADER.load_labels(path, PLAIN)
    np.testing.assert_array_equal(data, labels)
    assert data.flags.f_contiguous
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError):
        LOADER.load_labels(path, PLAIN)


@pytest.mark.parametrize("wrong", [0.25, np.nan])
def test_label_maps_must_be_whole(tmp_path, wrong):
    labels = np.zeros((6, 6, 6), np.float32)
    labels[0, 0, :2] = wrong
    path = save(tmp_path / "x.nii", labels)
    with pytest.raises(InputError) as caught:
        LOADER.load_labels(path, PLAIN)
    assert "2 voxels hold no whole number" in str(caught.value)
    assert "nearest neighbour" in str(caught.value)

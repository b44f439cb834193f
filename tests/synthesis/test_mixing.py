"""Mixing of persons: registration recovers a known deformation, and shares of it do not fold."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from mskt.synthesis.labelmap import ATOM_NAMES, MIDLINE, LabelMap, find_landmarks
from mskt.synthesis.mixing import (
    LATTICE_MM,
    Correspondence,
    correspond,
    exponential,
    jacobian,
    logarithm,
)
from mskt.training import synthetic

SHARED = Path(os.environ.get("MSKT_SHARED", Path(__file__).parents[3] / "shared"))
QUICK = ((16.0, 12), (10.0, 10))


def deformed(person: LabelMap) -> LabelMap:
    """Another person: shorter, wider, muscles bent by some millimetres."""
    grid = np.indices(person.labels.shape).astype(float)
    x, y, z = (grid[k] * 4.0 + person.affine[k, 3] for k in range(3))
    back = [
        x / 1.08 + 7 * np.sin(z / 60) * np.sign(x),
        y / 1.05 + 9 * np.cos(z / 70),
        z / 0.94 + 5 * np.sin(y / 40),
    ]
    index = [(v - person.affine[k, 3]) / 4.0 for k, v in enumerate(back)]
    labels = ndimage.map_coordinates(person.labels, index, order=0)
    return LabelMap(labels, person.affine, find_landmarks(labels, person.affine)[0])


def dice(one: LabelMap, two: LabelMap) -> dict[int, float]:
    """Dice of each structure of ``two``, on its voxels 4 mm apart or wider."""
    every = max(1, round(4.0 / float(two.spacing_mm[0])))
    grid = np.stack(np.meshgrid(*(np.arange(0, n, every) for n in two.labels.shape)), -1)
    index = grid.reshape(-1, 3)
    world = index * np.diag(two.affine)[:3] + two.affine[:3, 3]
    there = np.rint((world - one.affine[:3, 3]) / np.diag(one.affine)[:3]).astype(int)
    held = ((there >= 0) & (there < one.labels.shape)).all(1)
    there[~held] = 0
    b = two.labels[tuple(index.T)]
    a = np.where(held, one.labels[tuple(there.T)], 0)
    sizes = np.bincount(a, minlength=256) + np.bincount(b, minlength=256)
    both = np.bincount(a[a == b], minlength=256)
    return {int(i): 2 * float(both[i]) / float(sizes[i]) for i in np.unique(b) if i}


def mean(scores: dict[int, float]) -> float:
    return float(np.mean(list(scores.values())))


def only_laid(found: Correspondence) -> LabelMap:
    """The base brought to the other's landmarks, without the registration."""
    return replace(found, velocity=np.zeros_like(found.velocity)).mixed(1.0)


@pytest.fixture(scope="module")
def other(ellipsoid_person: LabelMap) -> LabelMap:
    return deformed(ellipsoid_person)


@pytest.fixture(scope="module")
def found(ellipsoid_person: LabelMap, other: LabelMap) -> Correspondence:
    return correspond(ellipsoid_person, other, pyramid=QUICK)


def test_nothing_of_the_way_is_the_base(found: Correspondence, ellipsoid_person: LabelMap) -> None:
    assert min(dice(found.mixed(0.0), ellipsoid_person).values()) > 0.97


def test_all_of_the_way_is_nearly_the_other(found: Correspondence, other: LabelMap) -> None:
    before, after = dice(only_laid(found), other), dice(found.mixed(1.0), other)
    assert mean(after) > 0.85
    assert 1 - mean(after) < 0.6 * (1 - mean(before))


def test_between_and_beyond(found: Correspondence) -> None:
    """Sizes change steadily with the share, also outside the two; nobody loses a structure."""
    people = [found.mixed(share) for share in (-0.3, 0.0, 0.5, 1.0, 1.3)]
    legs = [p.landmarks["hip_right"][2] - p.landmarks["knee_right"][2] for p in people]
    assert np.all(np.diff(legs) < -2)
    assert all(set(np.unique(p.labels)) == set(np.unique(found.base.labels)) for p in people)


def test_the_deformation_does_not_fold(found: Correspondence) -> None:
    for share in (-0.3, 0.5, 1.0, 1.3):
        field = exponential(np.float32(share) * found.velocity, LATTICE_MM)
        assert jacobian(field, LATTICE_MM).min() > 0


def test_the_same_again(found: Correspondence, ellipsoid_person: LabelMap, other: LabelMap) -> None:
    again = correspond(ellipsoid_person, other, pyramid=QUICK)
    np.testing.assert_array_equal(again.velocity, found.velocity)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**31), st.floats(2.0, 12.0))
def test_logarithm_undoes_the_exponential(seed: int, size_mm: float) -> None:
    noise = np.random.default_rng(seed).standard_normal((16, 14, 18, 3))
    noise = ndimage.gaussian_filter(noise, (2.5, 2.5, 2.5, 0))
    velocity = (size_mm * noise / np.abs(noise).max()).astype(np.float32)
    again = exponential(logarithm(exponential(velocity, 8.0), 8.0), 8.0)
    inner = (slice(3, -3),) * 3
    assert np.abs(again - exponential(velocity, 8.0))[inner].max() < 0.06 * size_mm


@pytest.mark.parametrize("share", [-0.6, 1.6, float("nan")])
def test_shares_far_outside_are_refused(found: Correspondence, share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        found.mixed(share)


def test_strangers_are_refused(ellipsoid_person: LabelMap) -> None:
    shifted = np.where(ellipsoid_person.labels > 0, ellipsoid_person.labels + 40, 0)
    stranger = replace(ellipsoid_person, labels=shifted.astype(np.uint8))
    with pytest.raises(ValueError, match="no structure in common"):
        correspond(ellipsoid_person, stranger)


@pytest.mark.shared
@pytest.mark.skipif(not (SHARED / "anatomy").exists(), reason=f"no anatomy maps at {SHARED}")
def test_one_real_person_towards_another() -> None:
    folder = SHARED / "anatomy"
    base, other = (
        LabelMap.from_file(folder / f"{name}_labels_2mm.nii.gz", folder / "labels.json")
        for name in ("vh_female", "bp3d_male")
    )
    found = correspond(base, other, pyramid=((16.0, 15), (10.0, 12)))
    before, after = dice(only_laid(found), other), dice(found.mixed(1.0), other)
    big = (1, 2, 17, 22, 24, 33, 34, 101, 102, 117, 122, 124, 133, 134)
    assert np.mean([after[i] for i in big]) > 0.65
    assert np.mean([after[i] - before[i] for i in big]) > 0.2
    field = exponential(found.velocity, LATTICE_MM)
    assert (jacobian(field, LATTICE_MM) > 0).mean() > 0.999


def test_training_draws_mixtures(
    ellipsoid_person: LabelMap, other: LabelMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, person in (("a", ellipsoid_person), ("b", other)):
        nib.save(nib.Nifti1Image(person.labels, person.affine), tmp_path / f"{name}.nii.gz")
    names = {
        str(i): ATOM_NAMES[i % 100]
        + ("" if i % 100 in MIDLINE else "_left" if i > 100 else "_right")
        for i in np.unique(other.labels).tolist()
        if i
    }
    (tmp_path / "table.json").write_text(json.dumps(names))
    monkeypatch.setattr(synthetic, "correspond", partial(correspond, pyramid=((16.0, 6),)))
    stream = synthetic.SyntheticStream(
        maps=(str(tmp_path / "a.nii.gz"), str(tmp_path / "b.nii.gz")),
        table=str(tmp_path / "table.json"),
        p_mixed=1.0,
        mixtures=1,
        spacing_mm=(6.0, 6.0, 6.0),
        shape=(64, 48, 40),
    )
    case = stream.case(0)
    assert case.image.shape == (64, 48, 40)
    assert case.known is not None and "femur" in case.known  # ellipsoids are not everything
    assert len(np.unique(case.target)) > 3
    np.testing.assert_array_equal(stream.case(0).target, case.target)
    assert stream.describe()["p_mixed"] == 1.0

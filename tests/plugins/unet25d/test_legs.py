"""Femurs, legs and fields of view on scans that are exactly known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from legs_scan import grid, scan

from mskt.core.regions import LEVELS_MM, SliceLevels, standard_mm
from mskt.core.volume import Grid, Volume
from mskt.plugins.unet25d.alignment import LOWEST, FieldOfView, in_image, leg_grid, lower_end_mm
from mskt.plugins.unet25d.femur import shafts
from mskt.plugins.unet25d.legs import LEFT, RIGHT, separated
from mskt.plugins.unet25d.thigh import NO_FEMUR, NO_THIGH, Finder

VIEW = FieldOfView((64, 64, 90), (4.0, 4.0, 4.0))
FINDER = Finder(VIEW)


def femurs(image: Volume):
    return shafts(image.data, image.grid, image.mask, np.ones(image.data.shape[2], bool))


@settings(max_examples=8, deadline=None)
@given(st.floats(75, 105), st.floats(-0.1, 0.25))
def test_the_shafts_are_found_to_a_millimetre_and_a_degree(apart: float, lean: float) -> None:
    left, right = femurs(scan(apart=apart, lean=lean))
    for shaft, sign in ((left, -1), (right, 1)):
        assert shaft.at(0.0)[:2] == pytest.approx([sign * apart, 6], abs=1.0)
        want = np.array([sign * lean, 0, 1]) / np.hypot(lean, 1)
        assert np.degrees(np.arccos(min(1.0, shaft.direction @ want))) < 1.0


def test_a_metal_stem_belongs_to_the_femur() -> None:
    plain, implanted = femurs(scan()), femurs(scan(stem=True))
    for before, after in zip(plain, implanted, strict=True):
        np.testing.assert_allclose(before.point, after.point, atol=0.5)
        assert before.direction @ after.direction > np.cos(np.radians(0.5))


def test_thin_cortex_is_found_at_the_second_threshold() -> None:
    assert len(femurs(scan(bone=210.0))) == 2


def test_no_bone_no_femur() -> None:
    image = scan(bone=60.0)
    assert femurs(image) == ()
    (nothing,) = FINDER.thighs(image)
    assert nothing.mask is not None
    assert not nothing.mask.any()
    assert any(NO_FEMUR in note for note in nothing.notes)


@settings(max_examples=6, deadline=None)
@given(st.floats(60, 95), st.floats(0.0, 0.1))
def test_legs_that_touch_are_cut_at_the_neck(apart: float, lean: float) -> None:
    """Legs of 70 mm radius: from well apart to a broad contact."""
    image = scan(apart=apart, lean=lean)
    assert image.mask is not None
    found = separated(image.mask, image.grid, femurs(image))
    assert [leg.side for leg in found] == [RIGHT, LEFT]
    assert not (found[0].mask & found[1].mask).any()
    np.testing.assert_array_equal(found[0].mask | found[1].mask, image.mask)
    x = image.affine[0, 3] + image.affine[0, 0] * np.arange(image.data.shape[0])
    wrong = (found[0].mask & (x < 0)[:, None, None]).sum()
    wrong += (found[1].mask & (x > 0)[:, None, None]).sum()
    assert wrong < 0.02 * image.mask.sum()


@pytest.mark.parametrize(("sign", "side"), [(1, RIGHT), (-1, LEFT)])
def test_a_leg_alone_knows_its_side_and_is_said_to_be_alone(sign: int, side: str) -> None:
    image = scan(legs=(sign,))
    (leg,) = separated(image.mask, image.grid, femurs(image))
    assert leg.side == side
    (thigh,) = FINDER.thighs(image)
    assert any(f"only the {side} femur" in note for note in thigh.notes)


def test_the_left_leg_looks_like_the_right_one() -> None:
    right, left = FINDER.thighs(scan())
    assert np.linalg.det(right.affine[:3, :3]) > 0 > np.linalg.det(left.affine[:3, :3])
    assert np.abs(right.data - left.data).mean() < 2.0
    assert (right.mask == left.mask).mean() > 0.995


def test_air_lies_around_the_leg_and_where_the_other_is() -> None:
    for thigh in FINDER.thighs(scan(apart=72)):
        assert thigh.mask is not None
        assert (thigh.data[~thigh.mask] == -1024).all()
        columns = thigh.mask.any(axis=(1, 2))
        assert columns.sum() * 4 < 175  # one leg: the other would make it 280 mm


def test_the_field_of_view_is_rigid_and_the_shaft_is_upright() -> None:
    image = scan(lean=0.2)
    for shaft, side in zip(femurs(image)[::-1], (RIGHT, LEFT), strict=True):
        made = leg_grid(shaft, side, -150.0, VIEW)
        assert made.shape == VIEW.shape
        scaled = made.affine[:3, :3] / 4
        np.testing.assert_allclose(scaled.T @ scaled, np.eye(3), atol=1e-9)
        ends = np.c_[shaft.at(np.array([-100.0, 100.0])), [1, 1]] @ np.linalg.inv(made.affine).T
        np.testing.assert_allclose(ends[0, :2], ends[1, :2], atol=1e-6)


def test_only_slices_that_the_image_has_are_kept() -> None:
    whole = leg_grid(femurs(scan())[1], RIGHT, -150.0, VIEW)
    short = grid(shape=(112, 64, 20))  # 100 mm of 360
    kept = in_image(whole, short)
    assert 25 <= kept.shape[2] <= 30
    np.testing.assert_allclose(kept.affine[:3, :3], whole.affine[:3, :3])


def levels(coordinates: np.ndarray) -> SliceLevels:
    """Certain levels of slices with these body coordinates."""
    mm = standard_mm(coordinates)
    out = np.zeros((len(mm), len(LEVELS_MM)))
    out[np.arange(len(mm)), np.abs(mm[:, None] - LEVELS_MM).argmin(axis=1)] = 1
    return SliceLevels(out)


@pytest.mark.parametrize("first", [-0.2, 0.1, 0.4])
def test_the_lower_end_lies_above_the_knee_in_view_or_not(first: float) -> None:
    on = Grid((4, 4, 60), np.diag([2.0, 2.0, 5.0, 1.0]))
    u = first + np.arange(60) * 5 / 440
    want = (LOWEST - first) * 440
    assert lower_end_mm(levels(u), on, 360.0) == pytest.approx(want, abs=20)


def test_a_scan_without_thigh_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    image = scan()
    belly = levels(np.linspace(2.1, 3.0, 134))
    monkeypatch.setattr("mskt.plugins.unet25d.thigh.slice_levels", lambda *_: belly)
    (nothing,) = Finder(VIEW, levels=object()).thighs(image)
    assert not nothing.mask.any()
    assert any(NO_THIGH in note and "abdomen" in note for note in nothing.notes)


@pytest.mark.parametrize(
    ("step", "shape"), [((3.0, 3.0, 6.0), (112, 64, 1)), ((0.8, 0.8, 0.4), (400, 230, 6))]
)
def test_a_single_slice_and_a_thin_stack_have_upright_femurs(step, shape) -> None:
    found = FINDER.thighs(scan(on=grid(np.array(step), shape)))
    assert len(found) == 2
    for thigh in found:
        assert thigh.mask is not None
        assert thigh.mask.any()
        np.testing.assert_allclose(np.abs(thigh.affine[:3, 2]), [0, 0, 4], atol=1e-6)

"""Grids and interpolation: exact where mathematics says so."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mskt.core.resample import (
    AIR_HU,
    axis_coordinates,
    interpolation_matrix,
    parallel,
    resample_image,
    working_grid,
)
from mskt.core.volume import Grid


def grid(shape, spacing, flips=(1, 1, 1), order=(0, 1, 2)) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, world in enumerate(order):
        affine[world, axis] = spacing[axis] * flips[axis]
    affine[:3, 3] = (3.0, -7.0, 11.0)
    return Grid(shape, affine)


def ramp(g: Grid) -> np.ndarray:
    """HU that rise linearly in world coordinates."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in g.shape), indexing="ij"), -1)
    world = index @ g.affine[:3, :3].T + g.affine[:3, 3]
    return (world @ (1.0, 2.0, -0.5)).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(*[st.integers(8, 14)] * 3),
    st.tuples(*[st.floats(0.6, 4)] * 3),
    st.permutations([0, 1, 2]),
    st.tuples(*[st.sampled_from([-1, 1])] * 3),
)
def test_linear_images_stay_linear_inside(shape, spacing, order, flips):
    source = grid(shape, spacing, flips, order)
    target = working_grid(source, (2.0, 1.5, 3.0))
    got, want = resample_image(ramp(source), source, target), ramp(target)
    along = axis_coordinates(target, source.canonical())
    canonical = source.canonical()
    keep = []
    for axis, coordinate in enumerate(along):
        width = max(1.0, target.spacing_mm[axis] / canonical.spacing_mm[axis])
        last = canonical.shape[axis] - 1
        keep.append(np.flatnonzero((coordinate >= width) & (coordinate <= last - width)))
    # A widened triangle sampled on integers is exact for ramps only where its width is whole.
    slack = sum(
        0.0 if t <= c else abs(w) * c
        for t, c, w in zip(target.spacing_mm, canonical.spacing_mm, (1.0, 2.0, -0.5), strict=True)
    )
    block = np.ix_(*keep)
    assert np.abs(got[block] - want[block]).max(initial=0) <= slack + 1e-3


def test_target_covers_the_source_from_the_same_face():
    source = grid((100, 80, 60), (0.7, 0.7, 1.0), (-1, 1, -1))
    target = working_grid(source, (2.0, 2.0, 3.0))
    face = source.canonical().affine @ (-0.5, -0.5, -0.5, 1)
    np.testing.assert_allclose(target.affine @ (-0.5, -0.5, -0.5, 1), face, atol=1e-9)
    assert target.shape == (35, 28, 20)
    assert parallel(source, target)


@given(st.integers(1, 30), st.floats(0.2, 6.0), st.floats(-3, 3))
def test_weights_sum_to_one_or_zero(length, step, start):
    weights = interpolation_matrix(start + step * np.arange(12), length)
    sums = weights.sum(axis=1)
    assert np.all(np.isclose(sums, 1, atol=1e-5) | (sums == 0))
    assert (weights >= 0).all()


def test_outside_is_air():
    source = grid((10, 10, 10), (1, 1, 1))
    shifted = Grid((10, 10, 10), source.affine.copy())
    shifted.affine[0, 3] += 6
    got = resample_image(np.zeros((10, 10, 10), np.float32), source, shifted)
    assert (got[:4] == 0).all()
    assert (got[4:] == AIR_HU).all()


def test_oblique_images_get_a_grid_along_the_world_axes():
    angle = np.deg2rad(25)
    source = grid((40, 40, 20), (1, 1, 2))
    rotation = np.eye(4)
    rotation[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    source = Grid(source.shape, rotation @ source.affine)
    assert source.obliquity_deg == pytest.approx(25)
    target = working_grid(source, (1.0, 1.0, 2.0))
    assert not parallel(source, target)
    got = resample_image(ramp(source), source, target)
    inside = got > AIR_HU
    assert inside.mean() > 0.4
    middle = tuple(n // 2 for n in target.shape)
    assert got[middle] == pytest.approx(ramp(target)[middle], abs=1e-2)


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 3.0), (0.7, 0.7, 1.0), (1.0, 1.0, 1.0)])
def test_resampling_does_not_shift_hounsfield_units(spacing):
    """A cast to integers on the way would take half a unit from every mean."""
    rng = np.random.default_rng(0)
    source = Grid((40, 36, 30), np.diag([1.1, 0.9, 1.3, 1.0]))
    data = rng.normal(50, 20, source.shape).astype(np.float32).round()
    target = working_grid(source, spacing)
    moved = resample_image(data, source, target)
    inside = moved[moved > -500]
    assert abs(float(inside.mean()) - float(data.mean())) < 0.25
    assert len(np.unique(moved)) > 1000  # not whole numbers
    constant = resample_image(np.full(source.shape, 54.5, np.float32), source, target)
    np.testing.assert_allclose(constant[constant > -500], 54.5, atol=1e-4)

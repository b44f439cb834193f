"""Geometry never lies: properties over random affines, shapes and orders of axes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mskt.core.errors import GeometryError, InputError
from mskt.core.volume import Grid, Volume, repair_affine, to_canonical
from mskt.testing.phantoms import centred_affine, phantom, stored_as, tissue, world_mm

FEW = settings(max_examples=60, deadline=None)
ORDERS = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
angles = st.floats(-180, 180)
spacings = st.tuples(*[st.floats(0.3, 6)] * 3)
shapes = st.tuples(*[st.integers(1, 6)] * 3)


def rotation(x, y, z):
    matrix = np.eye(3)
    for axis, degrees in enumerate((x, y, z)):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[a, a], turn[a, b], turn[b, a], turn[b, b] = c, -s, s, c
        matrix = turn @ matrix
    return matrix


@st.composite
def grids(draw):
    directions = rotation(draw(angles), draw(angles), draw(angles))
    if draw(st.booleans()):
        directions[:, 0] *= -1
    shape = draw(shapes)
    affine = centred_affine(shape, draw(spacings), directions)
    affine[:3, 3] += draw(st.tuples(*[st.floats(-500, 500)] * 3))
    return Grid(shape, affine)


@given(grids())
@FEW
def test_canonical_moves_no_voxel(grid):
    canonical = grid.canonical()
    places = np.moveaxis(world_mm(grid), 0, -1)
    turned = np.stack([to_canonical(places[..., a], grid) for a in range(3)])
    assert turned.shape[1:] == canonical.shape
    assert np.allclose(turned, world_mm(canonical), atol=1e-6)


@given(grids())
@FEW
def test_canonical_is_idempotent_and_a_view(grid):
    canonical = grid.canonical()
    assert canonical.axis_order == (0, 1, 2)
    assert canonical.canonical().same_as(canonical)
    data = np.arange(np.prod(grid.shape)).reshape(grid.shape)
    view = to_canonical(data, grid)
    assert np.shares_memory(view, data) and sorted(view.ravel()) == sorted(data.ravel())
    assert np.array_equal(to_canonical(view, canonical), view)


@given(grids())
@FEW
def test_axis_order_is_a_permutation_and_volume_is_kept(grid):
    assert sorted(grid.axis_order) == [0, 1, 2]
    assert grid.canonical().voxel_volume_cm3 == pytest.approx(grid.voxel_volume_cm3)
    assert sorted(grid.canonical().spacing_mm) == pytest.approx(sorted(grid.spacing_mm))
    assert 0 <= grid.obliquity_deg <= 90


@given(grids(), st.integers(0, 2), st.floats(-1, 1))
@FEW
def test_same_as_sees_any_shift_beyond_its_tolerance(grid, axis, shift):
    moved = grid.affine.copy()
    moved[axis, 3] += shift
    assert grid.same_as(grid)
    if abs(abs(shift) - 1e-3) > 1e-9:
        assert grid.same_as(Grid(grid.shape, moved)) == (abs(shift) < 1e-3)
    longer = (grid.shape[0] + 1, *grid.shape[1:])
    assert not grid.same_as(Grid(longer, grid.affine))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("flips", [(False,) * 3, (True, False, True), (True,) * 3])
def test_any_storage_of_an_image_has_the_same_canonical_form(order, flips):
    image = phantom((9, 7, 5), (8.0, 9.0, 10.0))
    stored = stored_as(image, order, flips)
    assert np.array_equal(to_canonical(stored.data, stored.grid), image.data)
    assert stored.grid.canonical().same_as(image.grid)
    assert np.array_equal(tissue(stored.grid) > 0, stored.mask)


@given(grids())
@FEW
def test_repair_leaves_orthogonal_affines_alone(grid):
    repaired, degrees = repair_affine(grid.affine)
    assert repaired is grid.affine and degrees == 0
    rounded = grid.affine.astype(np.float32).astype(float)
    assert repair_affine(rounded)[1] == 0


@given(grids(), st.tuples(*[st.floats(-0.08, 0.08)] * 3))
@FEW
def test_repair_makes_axes_orthogonal_and_keeps_spacing_and_origin(grid, shear):
    skewed = np.eye(3)
    skewed[0, 1], skewed[0, 2], skewed[1, 2] = shear
    affine = grid.affine.copy()
    # in mm: in voxels, a small share of a long axis would be a large one of a short axis
    affine[:3, :3] = skewed @ affine[:3, :3]
    repaired, degrees = repair_affine(affine)
    axes = repaired[:3, :3] / np.linalg.norm(repaired[:3, :3], axis=0)
    assert np.abs(axes.T @ axes - np.eye(3)).max() < 2e-4
    assert np.allclose(
        np.linalg.norm(affine[:3, :3], axis=0), np.linalg.norm(repaired[:3, :3], axis=0)
    )
    assert np.array_equal(repaired[:3, 3], affine[:3, 3])
    assert 0 <= degrees < 20
    before = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    turned = np.degrees(np.arccos(np.clip((before * axes).sum(axis=0), -1, 1))).max()
    assert turned <= degrees + 1e-3 or degrees == 0


def test_handedness_is_kept_by_repair():
    affine = np.diag([-1.0, 1.0, 2.0, 1.0])
    affine[0, 1] = 0.05
    assert np.linalg.det(repair_affine(affine)[0][:3, :3]) < 0


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4, 1), (3,)])
def test_other_dimensions_are_refused(shape):
    with pytest.raises(InputError, match="dimensions"):
        Volume(np.zeros(shape, np.float32), np.eye(4))


def test_no_voxels_are_refused():
    with pytest.raises(InputError, match="no voxels"):
        Volume(np.zeros((3, 0, 2), np.float32), np.eye(4))


@pytest.mark.parametrize(
    "affine",
    [
        np.eye(3),
        np.zeros((4, 4)),
        np.diag([1.0, np.nan, 1, 1]),
        np.diag([1.0, np.inf, 1, 1]),
        np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
    ],
)
def test_affines_that_place_nothing_are_refused(affine):
    with pytest.raises(GeometryError, match="invertible"):
        Volume(np.zeros((2, 2, 2), np.float32), affine)

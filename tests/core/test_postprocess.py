"""Left and right, one piece a structure, what the field of view cuts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from mskt.core.anatomy import LabelSet, Structure, label_set
from mskt.core.components import Components
from mskt.core.foreground import foreground_box, slabs
from mskt.core.midplane import Midplane, beside_the_scan, estimate_midplane
from mskt.core.postprocess import keep_largest, truncated, without_voxels
from mskt.core.sides import LEFT, RIGHT, separate_sides
from mskt.core.volume import Grid

MSK22 = label_set("msk22")
STEP = 4.0
SHAPE = (104, 56, 76)
ORIGIN = np.array([-206.0, -130.0, -200.0])
NAMES = MSK22.by_name
BOTH = [s.index for s in MSK22.structures if s.side == "both"]
# name, |x|, y, radius, z from, z to: one leg as cylinders, mm
LEG = (
    ("femur", 100, 0, 15, -200, 0),
    ("vastus_lateralis_intermedius", 142, 20, 20, -200, 0),
    ("vastus_medialis", 72, 26, 13, -200, -60),
    ("gracilis", 30, -10, 9, -200, -10),
    ("adductors", 62, -16, 16, -150, 0),
    ("biceps_femoris", 110, -36, 13, -200, -30),
    ("gluteus_maximus", 90, -85, 36, -40, 60),
    ("pelvis", 75, 10, 35, 12, 80),
)


def affine(step: float = STEP) -> np.ndarray:
    matrix = np.diag([step, step, step, 1.0])
    matrix[:3, 3] = ORIGIN
    return matrix


GRID = Grid(SHAPE, affine())


def body(
    *, roll_deg: float = 0.0, shift_mm: float = 0.0, bridge: bool = True, neck_mm: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Two legs with a bony pelvis, and the true side of every voxel."""
    right, front, up = (np.arange(n) * STEP + o for n, o in zip(SHAPE, ORIGIN, strict=True))
    cos, sin = np.cos(np.radians(roll_deg)), np.sin(np.radians(roll_deg))
    x = (right - shift_mm)[:, None] * cos + front * sin
    y = (shift_mm - right)[:, None] * sin + front * cos
    labels = np.zeros(SHAPE, np.uint8)

    def fill(name: str, section: np.ndarray, levels: np.ndarray) -> None:
        labels[section[:, :, None] & levels] = NAMES[name].index

    for name, across, forward, radius, low, high in LEG:
        for sign in (1, -1):
            grown = radius + (3 if sign > 0 else 0)  # never quite symmetric
            inside = (x - sign * across) ** 2 + (y - forward) ** 2 <= grown**2
            fill(name, inside, (up >= low) & (up <= high))
    if bridge:  # pubic rami that meet in a narrow symphysis
        neck = np.abs(x - neck_mm) <= 5
        for thick, where in ((14, ~neck), (6, neck)):
            ramus = where & (np.abs(x) <= 70) & (np.abs(y - 40) <= thick)
            fill("pelvis", ramus, np.abs(up - 20) <= thick)
    fill("sacrum", (np.abs(x) <= 30) & (np.abs(y + 50) <= 14), up >= 62)
    true = np.where(x[:, :, None] > neck_mm * (labels == NAMES["pelvis"].index), RIGHT, LEFT)
    return labels, np.where(np.isin(labels, BOTH), true, 0).astype(np.uint8)


def wrong(sides: np.ndarray, true: np.ndarray) -> int:
    return int(np.count_nonzero(sides != true))


def test_two_legs_are_told_apart_without_a_bridge() -> None:
    labels, true = body(bridge=False)
    before = labels.copy()
    sides = separate_sides(labels, GRID, MSK22)
    np.testing.assert_array_equal(sides, true)
    np.testing.assert_array_equal(labels, before)


@settings(max_examples=12, deadline=None)
@given(st.floats(-8, 8), st.floats(-25, 25))
def test_symphysis_is_cut_near_the_midplane(roll_deg: float, shift_mm: float) -> None:
    labels, true = body(roll_deg=roll_deg, shift_mm=shift_mm)
    pelvis = labels == NAMES["pelvis"].index
    assert ndimage.label(pelvis, np.ones((3, 3, 3)))[1] == 1
    sides = separate_sides(labels, GRID, MSK22)
    assert wrong(sides[~pelvis], true[~pelvis]) == 0
    # one layer of voxels in the narrow part may fall to either side
    assert wrong(sides, true) <= 2 * 4 * 4


def test_cut_follows_the_neck_and_not_the_plane() -> None:
    labels, true = body(neck_mm=16.0)
    pelvis = labels == NAMES["pelvis"].index
    between = pelvis & (np.indices(SHAPE)[0] * STEP + ORIGIN[0] > 0) & (true == LEFT)
    assert np.count_nonzero(between) > 50
    sides = separate_sides(labels, GRID, MSK22)
    assert np.mean(sides[between] == LEFT) > 0.9


def test_mirrored_body_has_its_sides_swapped() -> None:
    labels, _ = body(bridge=False, shift_mm=2.0)
    sides = separate_sides(labels, GRID, MSK22)
    mirrored = separate_sides(labels[::-1], GRID, MSK22)[::-1]
    np.testing.assert_array_equal(mirrored, np.array([0, LEFT, RIGHT], np.uint8)[sides])
    assert set(np.unique(sides)) == {0, RIGHT, LEFT}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", [(-1, -1, 1), (1, -1, -1)])
def test_array_orientation_does_not_matter(order: tuple[int, ...], flips: tuple[int, ...]) -> None:
    labels, _ = body(shift_mm=3.0)
    expected = separate_sides(labels, GRID, MSK22)
    data, matrix, other = labels, GRID.affine.copy(), expected
    for axis, flip in enumerate(flips):
        if flip < 0:
            data, other = np.flip(data, axis), np.flip(other, axis)
            matrix[:3, 3] += matrix[:3, axis] * (SHAPE[axis] - 1)
            matrix[:3, axis] *= -1
    data, other = data.transpose(order), other.transpose(order)
    matrix = np.c_[matrix[:, list(order)], matrix[:, 3]]
    found = separate_sides(np.asfortranarray(data), Grid(data.shape, matrix), MSK22)
    np.testing.assert_array_equal(found, other)
    assert found.shape == data.shape


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([RIGHT, LEFT]), st.integers(0, 45), st.integers(16, 30))
def test_one_leg_alone_knows_its_side(side: int, low: int, height: int) -> None:
    labels, true = body(bridge=False)
    labels[(true != side) | (labels == NAMES["sacrum"].index)] = 0
    labels[:, :, :low] = 0
    labels[:, :, low + height :] = 0
    sides = separate_sides(labels, GRID, MSK22)
    np.testing.assert_array_equal(sides, np.where(labels > 0, side, 0))


def test_amputated_leg_and_pieces_of_muscle_stay_on_their_side() -> None:
    labels, true = body(bridge=False)
    stump = (true == RIGHT) & (np.indices(SHAPE)[2] < 30)
    labels[stump], true[stump] = 0, 0
    labels[:, :, 20] = 0  # and every muscle of the other leg in two pieces
    true[:, :, 20] = 0
    np.testing.assert_array_equal(separate_sides(labels, GRID, MSK22), true)


def test_pieces_of_a_muscle_beside_each_other_are_no_pair_in_one_leg() -> None:
    labels, true = body(bridge=False)
    labels[(true != RIGHT) | (labels == NAMES["sacrum"].index)] = 0
    femur = labels == NAMES["femur"].index
    x = np.indices(SHAPE)[0] * STEP + ORIGIN[0]
    labels[femur & (np.abs(x - 100) < 5)] = 0
    assert ndimage.label(labels == NAMES["femur"].index)[1] == 2
    sides = separate_sides(labels, GRID, MSK22)
    np.testing.assert_array_equal(sides, np.where(labels > 0, RIGHT, 0))


def test_a_single_blob_is_not_guessed() -> None:
    labels, true = body(bridge=False)
    labels[(labels != NAMES["femur"].index) | (true != LEFT)] = 0
    assert labels.any()
    assert estimate_midplane(labels, GRID, MSK22) is None
    assert not separate_sides(labels, GRID, MSK22).any()
    told = separate_sides(labels, GRID, MSK22, plane=Midplane(0.0))
    np.testing.assert_array_equal(told, np.where(labels > 0, LEFT, 0))


def test_midplane_of_a_rolled_and_shifted_body() -> None:
    labels, _ = body(roll_deg=8.0, shift_mm=20.0, bridge=False)
    plane = estimate_midplane(labels, GRID, MSK22)
    assert plane is not None
    assert plane.offset_mm == pytest.approx(20.0, abs=4.0)
    assert plane.slope_y == pytest.approx(-np.tan(np.radians(8.0)), abs=0.05)


@given(st.floats(0, 200), st.floats(0, 200), st.floats(-30, 30), st.sampled_from([1, -1]))
def test_beside_the_scan_is_what_it_does_not_reach(right, left, shift, flip) -> None:
    """Millimetres to the right and left of the plane; in either order of the voxels."""
    count = int(right + left) + 1
    matrix = np.diag([flip * (right + left + 1e-3) / count, 2.0, 3.0, 1.0])
    first = (shift - left) if flip > 0 else (shift + right)
    matrix[0, 3] = first + matrix[0, 0] / 2  # the centre of the first voxel
    found = beside_the_scan(Midplane(shift), Grid((count, 9, 9), matrix), MSK22)
    for name, usual in (("gracilis", 29), ("femur", 102), ("tensor_fasciae_latae", 145)):
        for side, end in (("right", right), ("left", left)):
            if abs(end - 0.75 * usual) > 0.1:
                assert ((NAMES[name].index, side) in found) == (end < 0.75 * usual)
    assert not {(NAMES["sacrum"].index, side) for side in ("right", "left")} & found
    assert beside_the_scan(None, Grid((count, 9, 9), matrix), MSK22) == frozenset()


def test_sided_and_midline_structures_have_their_side_by_name() -> None:
    names = label_set("totalseg")
    labels = np.zeros((6, 2, 2), np.uint8)
    for place, name in enumerate(("femur_right", "femur_left", "sacrum")):
        labels[2 * place] = names[name].index
    sides = separate_sides(labels, Grid((6, 2, 2), np.eye(4)), names)
    assert sides[:, 0, 0].tolist() == [RIGHT, 0, LEFT, 0, 0, 0]


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        np.uint8, st.tuples(*[st.integers(1, 9)] * 3), elements=st.sampled_from([0, 0, 1, 2])
    ),
    st.permutations(range(3)),
    st.sampled_from([1, -1]),
)
def test_what_runs_tell_is_what_the_voxels_tell(
    labels: np.ndarray, order: list[int], flip: int
) -> None:
    labels = np.flip(labels.transpose(order)) if flip < 0 else labels.transpose(order)
    grid = Grid(labels.shape, np.diag([2.0, 3.0, 4.0, 1.0]))
    found = Components.find(labels, grid)
    if not labels.any():
        assert found is None
        return
    assert found is not None
    values = labels[found.crop]
    image, number = found.image, len(found.voxels) - 1
    assert number == sum(ndimage.label(values == v, np.ones((3, 3, 3)))[1] for v in (1, 2))
    np.testing.assert_array_equal(image != 0, values != 0)
    flat = np.repeat(found.runs.value, found.runs.length)
    np.testing.assert_array_equal(flat, image.transpose(found.runs.order).ravel())
    offset = [part.start for part in found.crop]
    for one in range(1, number + 1):
        places = np.argwhere(image == one)
        assert found.voxels[one] == len(places)
        assert found.index[one] == values[tuple(places[0])]
        np.testing.assert_allclose(
            found.centre_mm[one], (places.mean(axis=0) + offset) * (2, 3, 4), atol=1e-9
        )
        np.testing.assert_array_equal(found.box[one].T, [places.min(axis=0), places.max(axis=0)])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.permutations(range(3)), st.floats(-60, 60), st.floats(-1, 1))
def test_each_component_lies_where_its_voxels_do(
    seed: int, order: list[int], offset_mm: float, slope: float
) -> None:
    """The definition with a known plane: one blob a structure, too small to span the plane."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((60, 8, 12), np.uint8)
    cells = rng.permutation(np.argwhere(np.ones((20, 2, 4), bool)))[: len(BOTH)] * (3, 4, 3)
    for structure, cell in zip(BOTH, cells, strict=True):
        blob = rng.random((3, 3, 3)) < 0.7
        blob[1, 1, 1] = True
        labels[tuple(slice(c, c + 3) for c in cell)] = blob * structure
    matrix = np.diag([3.0, 3.0, 3.0, 1.0])
    matrix[0, 3] = -90.0
    plane = Midplane(offset_mm, slope)
    expected = np.zeros_like(labels)
    for structure in BOTH:
        mm = np.argwhere(labels == structure).mean(axis=0) @ matrix[:3, :3] + matrix[:3, 3]
        away = float(plane.signed_mm(mm[None])[0])
        assume(abs(away) > 1e-6)
        expected[labels == structure] = RIGHT if away > 0 else LEFT
    turned = labels.transpose(order)
    grid = Grid(turned.shape, np.c_[matrix[:, order], matrix[:, 3]])
    sides = separate_sides(turned, grid, MSK22, plane=plane)
    np.testing.assert_array_equal(sides, expected.transpose(order))


@pytest.mark.parametrize("layout", ["C", "F"])
def test_sides_have_the_memory_order_of_the_labels(layout: str) -> None:
    labels = np.array(body()[0], order=layout)  # type: ignore[call-overload]
    for view in (labels, labels.transpose(1, 2, 0)):
        grid = Grid(view.shape, np.c_[GRID.affine[:, [1, 2, 0]], GRID.affine[:, 3]])
        if view is labels:
            grid = GRID
        assert separate_sides(view, grid, MSK22).strides == view.strides


def test_empty_map_has_no_sides() -> None:
    labels = np.zeros((3, 4, 5), np.uint8)
    assert not separate_sides(labels, Grid((3, 4, 5), np.eye(4)), MSK22).any()
    assert estimate_midplane(labels, Grid((3, 4, 5), np.eye(4)), MSK22) is None
    assert keep_largest(labels, labels.copy(), MSK22) == {}
    assert foreground_box(labels) is None


SMALL = LabelSet("small", (Structure(1, "one"), Structure(2, "two"), Structure(200, "far")))
small_maps = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=3, max_dims=3, max_side=6),
    elements=st.sampled_from([0, 0, 1, 2, 200]),
)


@settings(max_examples=60, deadline=None)
@given(small_maps, st.data())
def test_largest_component_of_each_structure_and_side_stays(
    labels: np.ndarray, data: st.DataObject
) -> None:
    sides = data.draw(hnp.arrays(np.uint8, labels.shape, elements=st.integers(0, 2))) * (labels > 0)
    before, sides_before = labels.copy(), sides.copy()
    removed = keep_largest(labels, sides, SMALL)
    assert set(removed) == {s.name for s in SMALL.structures if (before == s.index).any()}
    np.testing.assert_array_equal(labels[labels != 0], before[labels != 0])
    np.testing.assert_array_equal(sides, np.where(labels != 0, sides_before, 0))
    for structure in SMALL.structures:
        gone = np.count_nonzero(before == structure.index) - np.count_nonzero(
            labels == structure.index
        )
        assert removed.get(structure.name, 0) == gone
        for side in range(3):
            pieces, count = ndimage.label(
                (before == structure.index) & (sides_before == side), np.ones((3, 3, 3))
            )
            kept = (labels == structure.index) & (sides == side)
            largest = np.bincount(pieces.ravel())[1:].max() if count else 0
            assert np.count_nonzero(kept) == largest
            assert ndimage.label(kept, np.ones((3, 3, 3)))[1] == min(count, 1)


@settings(max_examples=60, deadline=None)
@given(small_maps, st.data())
def test_truncated_structures_have_a_voxel_on_the_border(
    labels: np.ndarray, data: st.DataObject
) -> None:
    sides = data.draw(hnp.arrays(np.uint8, labels.shape, elements=st.integers(0, 2))) * (labels > 0)
    expected = set()
    for place in np.argwhere(labels):
        if any(i in (0, n - 1) for i, n in zip(place, labels.shape, strict=True)):
            index = int(labels[tuple(place)])
            expected |= {(index, "both"), (index, ("both", "right", "left")[sides[tuple(place)]])}
    assert truncated(labels, sides, SMALL) == expected


@settings(max_examples=40, deadline=None)
@given(
    hnp.array_shapes(min_dims=3, max_dims=3, max_side=7),
    st.permutations(range(3)),
    st.integers(1, 60),
)
def test_slabs_cover_every_voxel_once(
    shape: tuple[int, ...], order: list[int], voxels: int
) -> None:
    array = np.zeros(shape, np.uint8).transpose(order)
    for part in slabs(array, voxels):
        array[part] += 1
    assert (array == 1).all()


@settings(max_examples=40, deadline=None)
@given(small_maps)
def test_foreground_box_is_tight(labels: np.ndarray) -> None:
    box = foreground_box(labels)
    if not labels.any():
        assert box is None
        return
    assert np.count_nonzero(labels[box]) == np.count_nonzero(labels)
    places = np.argwhere(labels)
    assert [(p.start, p.stop) for p in box] == list(
        zip(places.min(axis=0), places.max(axis=0) + 1, strict=True)
    )


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(np.uint8, (5, 4, 6), elements=st.integers(0, 3)),
    hnp.arrays(np.uint8, (5, 4, 6), elements=st.integers(0, 2)),
)
def test_what_has_no_voxels_is_named_by_side(labels, sides) -> None:
    names = LabelSet("three", tuple(Structure(n, f"s{n}") for n in (1, 2, 3)))
    want = set()
    for index in (1, 2, 3):
        here = labels == index
        want |= {
            (index, side)
            for side, n in (("right", 1), ("left", 2))
            if not (here & (sides == n)).any()
        }
        want |= set() if here.any() else {(index, "both")}
    assert without_voxels(labels, sides, names) == want

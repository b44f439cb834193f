"""The parts of the HTML report: what it shows lies where it should, and nothing can break out of it."""

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mskt.analysis.flags import FlagRow
from mskt.core.anatomy import label_set
from mskt.core.records import Record
from mskt.core.volume import Grid
from mskt.report.page import histograms, surfaces, volumes
from mskt.report.page.overview import case_lines, structure_lines
from mskt.report.page.places import places
from mskt.report.page.rendering import script_json, viewer_library
from mskt.report.page.rows import rows

MSK22 = label_set("msk22")
MAXIMUS, FEMUR = MSK22["gluteus_maximus"].index, MSK22["femur"].index


@st.composite
def grids(draw):
    """Grids with any order and direction of axes."""
    shape = tuple(draw(st.integers(4, 24)) for _ in range(3))
    spacing = [draw(st.sampled_from([0.5, 0.8, 1.0, 2.0, 5.0])) for _ in range(3)]
    order = draw(st.permutations(range(3)))
    affine = np.zeros((4, 4))
    for axis, world in enumerate(order):
        affine[world, axis] = spacing[axis] * draw(st.sampled_from([1.0, -1.0]))
    affine[:3, 3] = draw(st.tuples(*[st.floats(-200, 200)] * 3))
    affine[3, 3] = 1
    return Grid(shape, affine)


def world_of(grid):
    """World coordinates of every voxel, (3, i, j, k)."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"))
    return (
        np.einsum("wa,aijk->wijk", grid.affine[:3, :3], index)
        + grid.affine[:3, 3, None, None, None]
    )


@settings(max_examples=40, deadline=None)
@given(grids(), st.integers(0, 2**32 - 1))
def test_what_is_shown_lies_where_it_was(grid, seed):
    labels = (np.random.default_rng(seed).random(grid.shape) < 0.1).astype(np.uint8)
    frame = volumes.Frame.around(labels, grid)
    for world, values in enumerate(world_of(grid)):
        for shown, blocks in (
            (frame.samples(values, grid), False),
            (frame.means(values, grid), True),
        ):
            expected = world_of(Grid(frame.shape, frame.affine(blocks=blocks)))[world]
            np.testing.assert_allclose(shown, expected, atol=2e-3)


def test_a_large_scan_is_shown_coarser(monkeypatch):
    monkeypatch.setattr(volumes, "LARGEST_VOXELS", 30_000)
    labels = np.ones((100, 80, 60), np.uint8)
    frame = volumes.Frame.around(labels, Grid(labels.shape, np.diag([1.0, 1.0, 2.0, 1.0])))
    assert 10_000 < np.prod(frame.shape) <= 30_000
    assert frame.steps[0] == frame.steps[1] > 1


def test_a_packed_ct_keeps_hu_to_two_and_loses_the_noise_of_air():
    hu = np.array([-1024, -995, -701, -699, -33, 0, 41, 1500, 3071], np.float32).reshape(3, 3, 1)
    image = nib.Nifti1Image.from_bytes(gzip.decompress(volumes.ct(hu, np.eye(4))))
    back = np.asarray(image.dataobj)
    assert (back[hu < -700] == -1000).all()
    assert np.abs(back - hu)[hu >= -700].max() <= 2


def test_an_uncertainty_map_keeps_its_values_up_to_the_top():
    values = np.linspace(0, 0.02, 60, dtype=np.float32).reshape(3, 4, 5)
    image = nib.Nifti1Image.from_bytes(gzip.decompress(volumes.doubt(values, 0.01, np.eye(4))))
    np.testing.assert_allclose(image.get_fdata(), np.minimum(values, 0.01), atol=0.01 / 255)


def test_tissues_follow_the_thresholds_and_only_in_muscle():
    hu = np.array([-31.0, -30.0, 30.0, 31.0, 31.0], np.float32).reshape(5, 1, 1)
    labels = np.array([MAXIMUS] * 4 + [FEMUR], np.uint8).reshape(5, 1, 1)
    found = volumes.tissue_map(hu, labels, {MAXIMUS}.__contains__)
    assert found.ravel().tolist() == [volumes.FAT, volumes.MIXED, volumes.MIXED, volumes.LEAN, 0]


def test_histograms_count_every_voxel_of_its_side_once():
    rng = np.random.default_rng(3)
    shape = (20, 15, 10)
    hu = rng.normal(0, 400, shape).astype(np.float32)
    labels = rng.integers(0, 4, shape).astype(np.uint8)
    sides = rng.integers(0, 3, shape).astype(np.uint8)
    counts = histograms.count(np.asfortranarray(hu), labels, sides)
    for label in (1, 3):
        for side in range(3):
            mine = hu[(labels == label) & (sides == side)]
            edges = np.arange(-250, 1501, 5)
            expected = np.histogram(np.clip(mine, -250, 1499.9), edges)[0]
            np.testing.assert_array_equal(counts[label, side], expected)


def test_histograms_are_told_apart_without_colour():
    counts = np.zeros((256, 3, 350), np.int64)
    counts[MAXIMUS, 1, 55], counts[MAXIMUS, 2, 60] = 10, 10
    (picture,) = histograms.pictures(counts, MSK22.structures, {"gluteus_maximus": "muscle"})
    assert picture.title == "gluteus maximus" and picture.sides == ("right", "left")
    assert picture.svg.count("<polyline") == 2 and picture.svg.count("stroke-dasharray") == 1


def ball(shape=(40, 40, 40), centre=(20, 20, 20), radius=12):
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"))
    distance = np.sqrt(np.square(index - np.reshape(centre, (3, 1, 1, 1))).sum(axis=0))
    return distance <= radius


def unpacked(mz3):
    raw = gzip.decompress(mz3)
    magic, attributes, faces, points, skip = struct.unpack("<HHIII", raw[:16])
    assert (magic, attributes, skip) == (23117, 3, 0)
    triangles = np.frombuffer(raw, "<i4", 3 * faces, 16).reshape(-1, 3)
    vertices = np.frombuffer(raw, "<f4", 3 * points, 16 + 12 * faces).reshape(-1, 3)
    return vertices.astype(float), triangles


def test_a_surface_encloses_what_it_shows():
    labels = np.where(ball(), MAXIMUS, 0).astype(np.uint8)
    sides = np.where(labels, 2, 0).astype(np.uint8)
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = [5, -7, 11]
    (surface,) = surfaces.surfaces(labels, sides, affine, MSK22)
    assert (surface.structure, surface.side) == ("gluteus_maximus", "left")
    points, faces = unpacked(surface.mz3)
    a, b, c = (points[faces[:, corner]] for corner in range(3))
    enclosed = np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6
    # Positive: the faces look outwards, or the light would come from inside.
    assert enclosed == pytest.approx(ball().sum() * 12, rel=0.05)
    np.testing.assert_allclose(
        (points.min(axis=0) + points.max(axis=0)) / 2, [45, 33, 71], atol=1.5
    )


def test_a_speck_has_no_surface():
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[4, 4, 4] = MAXIMUS
    assert not list(surfaces.surfaces(labels, labels * 0, np.eye(4), MSK22))


def test_places_lie_in_the_structure_and_where_the_doubt_is():
    labels = np.zeros((30, 30, 30), np.uint8)
    labels[4:24, 4:8, 4:20] = MAXIMUS  # an L: its centre of mass is outside
    labels[4:8, 4:24, 4:20] = MAXIMUS
    doubt = np.zeros(labels.shape, np.float32)
    doubt[20:23, 5:8, 10:13] = 1.0
    doubt[27, 27, 27] = 50.0  # background
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    found = places(labels, np.where(labels, 1, 0).astype(np.uint8), doubt, affine, MSK22)
    place = found["gluteus_maximus", "right"]
    index = np.rint(np.array(place.middle) / [1, 2, 3]).astype(int)
    assert labels[tuple(index)] == MAXIMUS
    np.testing.assert_allclose(np.array(place.doubtful) / [1, 2, 3], [21, 6, 11], atol=1)
    assert ("gluteus_maximus", "left") not in found


def record(case, structure, metric, value, *, side="both", status="ok"):
    return Record(case, "", "s", "u", "r", structure, side, metric, value, "1", status)


def test_rows_put_flagged_structures_first_and_hide_what_is_not_in_view():
    records = [
        record("c", "femur", "volume", 100.0),
        record("c", "femur", "uncertainty", 0.001),
        record("c", "femur", "fat_fraction", 0.1),
        record("c", "gracilis", "volume", 10.0),
        record("c", "gracilis", "volume_lower", 9.0),
        record("c", "gracilis", "volume_upper", 12.0),
        record("c", "gracilis", "uncertainty", 0.001),
        record("c", "sartorius", "volume", None, status="truncated"),
    ]
    judged = [
        FlagRow("femur", "both", "ok", 0.9, 0.8, 0.001, ""),
        FlagRow("gracilis", "both", "failed", 0.2, 0.1, 0.001, "why"),
        FlagRow("sartorius", "both", "unknown", None, None, None, ""),
    ]
    found = rows(records, judged, {}, {"femur": "bone", "gracilis": "muscle"})
    assert [row.line.structure for row in found] == ["gracilis", "sartorius", "femur"]
    assert found[0].intervals == {"volume": (9.0, 12.0)} and found[0].reason == "why"
    assert [row.empty for row in found] == [False, True, False]
    assert found[2].tissue is None  # bone has no composition of muscle


def test_the_overview_orders_by_flags_then_by_what_is_unusual(tmp_path):
    volumes_cm3 = {"a": 100.0, "b": 101.0, "c": 99.0, "d": 100.5, "e": 99.5, "f": 180.0}
    records = [record(case, "femur", "volume", value) for case, value in volumes_cm3.items()]
    records += [record(case, "femur", "uncertainty", 0.001) for case in volumes_cm3]
    runs = {case: {"seconds": {"total": 3.0}} for case in volumes_cm3}
    flags = {case: [] for case in volumes_cm3}
    flags["c"] = [("femur", "both", "failed", 0.1)]
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "preview.png").write_bytes(b"")
    found = case_lines(tmp_path, runs, records, flags)
    assert [case.case_id for case in found][:2] == ["c", "f"]
    assert found[0].preview == "c/preview.png" and found[0].page == ""
    assert found[0].lowest == ("femur", 0.1)
    assert found[1].unusual == ("femur volume high",)
    (line,) = structure_lines(records, flags)
    assert line.n == 6 and line.quantities["cm³"][0] == pytest.approx(100.25)
    assert line.flags == {"failed": 1}


def test_few_cases_have_nothing_unusual(tmp_path):
    records = [record(case, "femur", "volume", value) for case, value in (("a", 1.0), ("b", 9.0))]
    found = case_lines(tmp_path, {"a": {}, "b": {}}, records, {"a": [], "b": []})
    assert all(case.unusual == () for case in found)


def test_json_cannot_end_the_script_that_holds_it():
    text = script_json({"name": "</script><script>alert(1)</script><!--"})
    assert "<" not in text
    assert "\\u003c/script>" in text


def test_the_viewer_comes_with_the_package_and_its_licence():
    library = gzip.decompress(viewer_library())
    assert b"Niivue" in library and len(library) > 1_000_000
    licence = Path(volumes.__file__).parent / "vendor" / "LICENSE-niivue.txt"
    assert "Redistribution" in licence.read_text(encoding="utf-8")

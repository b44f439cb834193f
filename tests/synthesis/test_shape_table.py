"""The shape table: round trips, frames, contours, and what the packaged one must hold."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mskt.synthesis import shape_table
from mskt.synthesis.labelmap import ATOM_IDS
from mskt.synthesis.measure import fit_contour, level_heights
from mskt.synthesis.sections import decode
from mskt.synthesis.shape_table import (
    THIGH_FROM_MM,
    Contour,
    Frame,
    ShapeTable,
    map_height,
    map_plane,
)

CONSTRUCTED = {"abdominal_oblique", "rectus_abdominis", "multifidus", "lumbar_vertebra"}
DISTAL = {"iliacus_distal", "psoas_major_distal"}  # stand whole under their proximal ids


def area_mm2(contour: Contour) -> float:
    """Signed area of a Fourier contour, positive if counter-clockwise."""
    h = np.arange(1, contour.coefficients.shape[1] + 1)
    plus, minus = np.abs(contour.coefficients) ** 2
    return float(np.pi * (h * (plus - minus)).sum())


def test_packaged_table_is_small_and_attributed():
    folder = resources.files("mskt.synthesis") / "data"
    assert len((folder / "anatomy_shapes.npz").read_bytes()) < 400 * 1024
    text = (folder / "anatomy_shapes.txt").read_text()
    for owner in ("Database Center for Life Science", "s41597-022-01905-2", "HRA", "CC BY 4.0"):
        assert owner in text


def test_packaged_table_has_every_measured_structure():
    table = shape_table.packaged()
    expected = {ATOM_IDS[n] for n in set(ATOM_IDS) - CONSTRUCTED - DISTAL}
    assert set(table.structures()) == expected
    assert len(table.persons) == 3


def test_unusable_segmentations_are_left_out():
    table = shape_table.packaged()
    bp3d = table.persons.index("bp3d_male")
    owners = {p for p, atom, _ in table.contours if atom == ATOM_IDS["obturator_internus"]}
    assert owners == {0, 1, 2} - {bp3d}


def test_contour_areas_add_up_to_measured_volumes():
    table = shape_table.packaged()
    reference = table.reference
    for person, frame in enumerate(table.frames):
        heights = map_height(table.levels_mm, reference, frame)
        thickness = np.gradient(heights)
        for name in ("gluteus_maximus", "vastus_lateralis", "femur", "hip_bone"):
            atom = ATOM_IDS[name]
            volume = sum(
                sum(area_mm2(c) for c in loops) * thickness[level]
                for (p, a, level), loops in table.contours.items()
                if (p, a) == (person, atom)
            )
            assert volume / 1000 == pytest.approx(table.volumes_cm3[person, atom], rel=0.06), name


def test_save_and_load_round_trip(tmp_path):
    table = shape_table.packaged()
    shape_table.save(table, tmp_path / "a.npz")
    again = shape_table.load(tmp_path / "a.npz")
    shape_table.save(again, tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert again.contours.keys() == table.contours.keys()
    key = next(iter(table.contours))
    np.testing.assert_allclose(
        again.contours[key][0].coefficients, table.contours[key][0].coefficients, atol=1e-9
    )


def test_load_names_what_is_missing(tmp_path):
    np.savez(tmp_path / "junk.npz", persons=np.array(["a"]))
    with pytest.raises(ValueError, match="contour_heads is missing"):
        shape_table.load(tmp_path / "junk.npz")


def test_fit_contour_keeps_ellipse_and_orientation():
    t = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    ellipse = np.c_[50 + 30 * np.cos(t), -20 + 12 * np.sin(t)]
    contour = fit_contour(ellipse)
    assert area_mm2(contour) == pytest.approx(np.pi * 30 * 12, rel=0.01)
    assert area_mm2(fit_contour(ellipse[::-1])) == pytest.approx(-np.pi * 30 * 12, rel=0.01)
    points, normals = contour.points(100)
    assert (((points - [50, -20]) * normals).sum(1) > 0).all()


def test_hole_is_outside():
    t = np.linspace(0, 2 * np.pi, 300, endpoint=False)
    disc = np.c_[80 + 30 * np.cos(t), 30 * np.sin(t)]
    hole = np.c_[80 + 10 * np.cos(-t), 10 * np.sin(-t)]
    table = shape_table.packaged()
    level = int(np.argmin(np.abs(table.levels_mm - 50)))
    atom = ATOM_IDS["femur"]
    extents = np.full_like(table.extents_mm, np.nan)
    extents[1, atom] = table.levels_mm[level] + [-1.0, 1.0]
    small = ShapeTable(
        table.persons,
        (table.reference,) * 3,
        table.levels_mm,
        table.valid_mm,
        extents,
        table.volumes_cm3,
        {(1, atom, level): (fit_contour(disc), fit_contour(hole))},
    )
    field = decode(small, 1, atom)
    plane = field.distance[level - field.first_level]
    area = np.clip(0.5 - plane / 2, 0, 1).sum() * 4
    assert area == pytest.approx(np.pi * (30**2 - 10**2), rel=0.03)
    middle = np.array(plane.shape) // 2
    assert plane[tuple(middle)] == pytest.approx(10, abs=1.5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2), st.floats(-480, 190))
def test_heights_map_there_and_back(person, z):
    table = shape_table.packaged()
    there = map_height(np.array([z]), table.frames[person], table.reference)
    back = map_height(there, table.reference, table.frames[person])
    assert back[0] == pytest.approx(z, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2), st.floats(-110, 190), st.floats(-120, 110))
def test_thigh_points_map_there_and_back(person, x, y):
    table = shape_table.packaged()
    frame, reference = table.frames[person], table.reference
    level = int(np.argmin(np.abs(table.levels_mm - (THIGH_FROM_MM - 60))))
    height = float(table.levels_mm[level])
    there = map_plane(np.array([x, y]), level, height, frame, reference)
    back = map_plane(there, level, height, reference, frame)
    np.testing.assert_allclose(back, [x, y], atol=1e-6)


def test_landmarks_of_all_persons_meet_in_the_reference_frame():
    table = shape_table.packaged()
    reference = table.reference
    for frame in table.frames:
        np.testing.assert_allclose(
            map_height(frame.knots_mm, frame, reference), reference.knots_mm, atol=1e-9
        )
        hip = map_plane(np.array([frame.half_hip_mm, 0.0]), 80, 0.0, frame, reference)
        np.testing.assert_allclose(hip, [reference.half_hip_mm, 0.0], atol=1e-9)


def test_mixing_frames_is_linear_and_exact_at_a_corner():
    frames = list(shape_table.packaged().frames)
    corner = Frame.mix(frames, np.array([0.0, 1.0, 0.0]))
    np.testing.assert_array_equal(corner.to_vector(), frames[1].to_vector())
    wider = replace(frames[0], half_hip_mm=frames[0].half_hip_mm + 10)
    assert Frame.mix([frames[0], wider], np.array([0.5, 0.5])).half_hip_mm == pytest.approx(
        frames[0].half_hip_mm + 5
    )


def test_levels_ascend_and_are_fine_in_the_pelvis():
    levels = level_heights(np.array([-420.0, -64.0, 0.0, 147.0]))
    assert (np.diff(levels) > 0).all()
    pelvis = np.diff(levels[(levels > -130) & (levels < 150)])
    assert pelvis.max() <= 4.01
    assert np.diff(levels).max() <= 10.01

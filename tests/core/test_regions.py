"""Levels of slices: the coordinate, settling between slices, and what may occur where."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mskt.core import regions
from mskt.core.anatomy import LabelSet, Structure, atoms, label_set
from mskt.core.regions import LEVELS_MM, SliceLevels, coordinate, smooth, standard_mm


def witnesses(heights_mm: np.ndarray, sd_mm: float = 25.0) -> np.ndarray:
    """What a decent network says about slices at these heights."""
    p = np.exp(-0.5 * ((heights_mm[:, None] - LEVELS_MM) / sd_mm) ** 2) + 1e-9
    return p / p.sum(axis=1, keepdims=True)


def certain(heights_mm: np.ndarray) -> SliceLevels:
    return SliceLevels(np.eye(len(LEVELS_MM))[np.abs(heights_mm[:, None] - LEVELS_MM).argmin(1)])


@given(st.floats(-2, 8))
def test_coordinate_and_height_are_inverse(value):
    assert float(coordinate(standard_mm(value))) == pytest.approx(value, abs=1e-9)


def test_coordinate_has_its_landmarks():
    knee, crest = -410.0, 132.0
    got = coordinate(np.array([knee, 0.0, crest, 2 * knee, 2 * crest]), knee, crest)
    np.testing.assert_allclose(got, [0, 1, 2, -1, 3])


@settings(max_examples=25, deadline=None)
@given(
    size=st.floats(0.85, 1.2),
    start=st.floats(-700, 200),
    count=st.integers(12, 70),
    spacing=st.sampled_from([3.0, 5.0, 8.0]),
)
def test_a_person_of_any_size_is_found(size, start, count, spacing):
    truth = start + spacing * np.arange(count) / size
    truth = truth[truth < LEVELS_MM[-1] - 40]
    found = smooth(witnesses(truth), spacing)
    assert np.abs(standard_mm(found.coordinate) - truth).max() < 30
    np.testing.assert_allclose(found.probability.sum(axis=1), 1)


def test_a_few_wrong_slices_are_outvoted():
    truth = -300 + 8.0 * np.arange(60)
    said = witnesses(truth)
    said[20:24] = witnesses(np.full(4, 500.0))  # hardware that looks like a chest
    found = smooth(said, 8.0)
    assert np.abs(standard_mm(found.coordinate) - truth).max() < 30


def test_levels_rise_from_feet_to_head_whatever_arms_look_like():
    truth = np.concatenate([400 + 8.0 * np.arange(50), np.full(30, -700.0)])  # hands: like shins
    found = smooth(witnesses(np.minimum(truth, 800)), 8.0)
    u = found.coordinate
    assert (np.diff(u) > -0.05).all()
    assert u[-1] > 4.5
    assert not regions.in_view(found)


def test_what_says_nothing_refuses_nothing():
    flat = np.full((30, len(LEVELS_MM)), 1 / len(LEVELS_MM))
    for said in (flat, flat[:1]):
        found = smooth(said, 8.0)
        assert regions.permitted(found, label_set("msk22")).all()
        assert regions.in_view(found)


def test_slices_without_body_are_none_and_hold_nothing():
    said = witnesses(8.0 * np.arange(20))
    said[:5] = 0
    found = smooth(said, 8.0)
    assert found.regions()[:5] == [regions.NO_REGION] * 5
    assert np.isnan(found.coordinate[:5]).all()
    allowed = regions.permitted(found, label_set("msk22"))
    assert allowed[:, 0].all()
    assert not allowed[:5, 1:].any()
    np.testing.assert_allclose(found.region_probabilities().sum(axis=1), 1)
    assert not regions.in_view(smooth(np.zeros((4, len(LEVELS_MM))), 8.0))


def test_no_gluteus_in_the_abdomen_and_no_quadriceps_in_the_calf():
    labels = label_set("msk22")
    names = np.array(("background", *labels.names))
    heights = np.array([-600.0, -420.0, -200.0, 0.0, 100.0, 220.0, 450.0])
    calf, knee, thigh, hip, ilium, kidney, chest = (
        set(names[row]) for row in regions.permitted(certain(heights), labels)
    )
    assert calf == chest == {"background"}
    assert "vastus_lateralis_intermedius" in knee
    assert "gluteus_medius" not in thigh
    assert {"femur", "rectus_femoris", "adductors"} <= thigh
    assert {"gluteus_maximus", "femur", "psoas_major", "pelvis", "pectineus"} <= hip
    assert {"gluteus_medius", "iliacus", "sacrum"} <= ilium
    assert "psoas_major" in kidney
    assert "gluteus_maximus" not in kidney


def test_what_a_scan_should_show():
    """From a range of levels: what lies wholly outside is not missed, what lies in it is."""
    labels = label_set("msk22")
    names = np.array(("background", *labels.names))

    def shown(low, high):
        return set(names[regions.expected(certain(np.arange(low, high, 10.0)), labels)])

    abdomen = shown(
        160, 400
    )  # above the crest, 145 mm: the margin of gluteus maximus reaches there
    assert abdomen == {"background", "psoas_major"}
    thigh = shown(-400, -80)
    assert {"femur", "rectus_femoris", "adductors", "gracilis"} <= thigh
    assert not {"gluteus_medius", "sacrum", "iliacus", "piriformis", "pelvis"} & thigh
    hip_to_knee = shown(-460, 160)
    assert hip_to_knee == set(names)
    assert shown(-900, -500) == {"background"}  # lower leg


def test_nothing_is_expected_without_body_and_everything_without_knowledge():
    none = regions.expected(smooth(np.zeros((4, len(LEVELS_MM))), 8.0), label_set("msk22"))
    assert none.sum() == 1
    own = LabelSet("own", (Structure(1, "tumour"),))
    assert regions.expected(certain(np.array([-600.0, 0.0, 700.0])), own).all()


def test_extents_are_known_for_what_the_maps_show():
    known = regions.extents()
    assert set(known) <= set(atoms())
    assert all(low < high for low, high in known.values())
    for structure in label_set("msk22").structures:
        low, high = regions.reach_mm(structure)
        assert -700 < low < high < 500, structure.name


def test_a_structure_of_unknown_extent_may_be_everywhere():
    own = LabelSet("own", (Structure(1, "tumour"),))
    assert regions.permitted(certain(np.array([-600.0, 0.0, 700.0])), own).all()
    low, high = regions.reach_mm(label_set("thigh30")["multifidus"])
    assert np.isfinite(low)
    assert high == np.inf


def test_regions_are_in_order_and_leave_no_gap():
    assert all(
        a.high == b.low for a, b in zip(regions.REGIONS[:-1], regions.REGIONS[1:], strict=True)
    )
    heights = standard_mm(np.array([-1.0, -0.5, 0.5, 1.0, 1.3, 1.8, 2.4, 3.2, 4.2, 5.3, 6.2]))
    assert certain(heights).regions() == [r.name for r in regions.REGIONS]
    assert regions.summary(["none", "thigh", "shin"]) == "shin to thigh"
    assert regions.summary(["none"]) == "no body"

"""The cohort: who its members are, and that their anatomy has the volumes that were drawn."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest

from mskt.core.anatomy import label_set
from mskt.synthesis.calibre import OFFSETS_MM, Build
from mskt.synthesis.cohort import AGE, WOMEN, Patient, atoms_of, draw_patient, volume_table
from mskt.synthesis.labelmap import LEFT_OFFSET, MIDLINE
from mskt.synthesis.parametric import canonical_labels
from mskt.synthesis.phantom import Phantom, make_phantom
from mskt.synthesis.tissue import BONES, mean_hu_table

SEEDS = (4, 9)  # a woman mixed mostly from a heavy man: the furthest to go; and another
COHORT = [draw_patient(seed) for seed in range(1, 401)]


def sides(patient: Patient, name: str) -> tuple[float, float]:
    """cm³/m² on the affected and on the other side."""
    right, left = patient.volumes_cm3[name]
    pair = (right, left) if patient.affected == "right" else (left, right)
    whole = 2 if atoms_of(name) & MIDLINE else 1
    return whole * pair[0] / patient.height_m**2, whole * pair[1] / patient.height_m**2


@functools.cache
def volumes(seed: int) -> dict[str, tuple[float, float]]:
    """Right and left volume (cm³) of each structure in the anatomy of one patient."""
    found = canonical_labels(seed, spacing_mm=4.0, build=draw_patient(seed).build).volumes_cm3()
    measured = {}
    for name in volume_table():
        atoms = atoms_of(name)
        if atoms & MIDLINE:
            half = sum(found[a] for a in atoms) / 2
            measured[name] = (half, half)
        else:
            right = sum(found[a] for a in atoms)
            measured[name] = (right, sum(found[a + LEFT_OFFSET] for a in atoms))
    return measured


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(9, spacing_mm=(5.0, 5.0, 5.0))


def test_the_table_has_every_structure():
    assert list(volume_table()) == [s.name for s in label_set("msk22").structures]


def test_members_are_like_those_of_the_paper():
    women = np.mean([p.sex == "F" for p in COHORT])
    ages = [p.age for p in COHORT]
    assert women == pytest.approx(WOMEN, abs=0.05)
    assert np.mean(ages) == pytest.approx(AGE[0], abs=2.0)
    assert min(ages) >= 30 and max(ages) <= 86
    assert np.mean([p.affected == "right" for p in COHORT]) == pytest.approx(0.5, abs=0.08)
    assert all(6 <= p.fat_mm <= 40 and 1.3 < p.height_m < 1.9 for p in COHORT)


@pytest.mark.parametrize("name", list(volume_table()))
def test_drawn_means_are_those_of_the_table(name):
    affected, unaffected = np.array([sides(p, name) for p in COHORT]).T
    weak, sound = volume_table()[name]
    assert affected.mean() == pytest.approx(weak, rel=0.03)
    assert unaffected.mean() == pytest.approx(sound, rel=0.03)
    assert affected.mean() / unaffected.mean() == pytest.approx(weak / sound, abs=0.015)
    assert unaffected.std() > 0.03 * sound  # a cohort, not one person fifty times


@pytest.mark.parametrize("atom", [1, 8, 21, 33, 34, 36])
def test_drawn_densities_are_those_of_the_table(atom):
    right_is_affected = [p.affected == "right" for p in COHORT]
    right, left = (
        np.array([p.densities.mean_hu[atom + side] for p in COHORT]) for side in (0, LEFT_OFFSET)
    )
    weak, sound = mean_hu_table()[atom]
    tolerance = 4.0 if atom in BONES else 1.0
    assert np.where(right_is_affected, right, left).mean() == pytest.approx(weak, abs=tolerance)
    assert np.where(right_is_affected, left, right).mean() == pytest.approx(sound, abs=tolerance)


def test_same_seed_same_patient():
    assert draw_patient(7) == draw_patient(7) != draw_patient(8)


@pytest.mark.parametrize("seed", SEEDS)
def test_anatomy_has_the_volumes_drawn(seed):
    wanted = draw_patient(seed).build.volumes_cm3
    for name, pair in volumes(seed).items():
        for have, want in zip(pair, wanted[atoms_of(name)], strict=True):
            assert have == pytest.approx(want, rel=0.08), name


def test_without_a_build_the_anatomy_is_far_from_the_paper():
    """What the calibration is for: were it lost, the test above would fail."""
    found = canonical_labels(SEEDS[0], spacing_mm=4.0).volumes_cm3()
    patient = draw_patient(SEEDS[0])
    off = [found[a] / patient.volumes_cm3[n][0] for n, a in (("pectineus", 14), ("gracilis", 19))]
    assert min(off) > 1.5


def test_larger_build_larger_body():
    build = Build(400.0, {frozenset({1}): (500.0, 480.0)}, frozenset())
    twice = build.resized(2.0)
    assert twice.femur_mm == 800.0
    assert twice.volumes_cm3[frozenset({1})] == (4000.0, 3840.0)
    assert 0.0 in OFFSETS_MM


def test_phantom_is_its_patient(phantom):
    patient = draw_patient(9)
    assert phantom.person == {
        "sex": patient.sex,
        "age": patient.age,
        "height_m": patient.height_m,
        "weight_kg": patient.weight_kg,
        "affected_side": patient.affected,
    }
    assert phantom.image.subject.height_m == patient.height_m
    labels, image = phantom.labels.data, phantom.image.data
    for code in (1, 101, 22, 122, 34, 134):
        hu = image[labels == code].mean()
        assert hu == pytest.approx(patient.densities.mean_hu[code], abs=3.0)
    cm3 = (labels == 1).sum() * 0.125, (labels == 101).sum() * 0.125
    assert cm3 == pytest.approx(patient.volumes_cm3["gluteus_maximus"], rel=0.2)  # one pose


def test_femur_has_the_length_that_goes_with_the_height(phantom):
    build = draw_patient(9).build
    femur = np.argwhere(phantom.labels.data == 34) * 5.0
    axis = np.linalg.svd(femur - femur.mean(0), full_matrices=False)[2][0]
    assert np.ptp(femur @ axis) + 5.0 == pytest.approx(build.femur_mm, rel=0.04)


def test_weight_sets_the_fat():
    patient = draw_patient(9)
    heavy = replace(patient, weight_kg=30 * patient.height_m**2)
    light = replace(patient, weight_kg=19 * patient.height_m**2)
    assert heavy.fat_mm > light.fat_mm + 10

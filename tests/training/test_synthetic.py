"""Synthesis as training data: whose anatomy, who is left out, what is known."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from mskt.core.anatomy import label_set
from mskt.core.errors import InputError, UsageError
from mskt.report import nifti
from mskt.report.outputs import label_table
from mskt.synthesis import shape_table
from mskt.synthesis.phantom import atom_label_set
from mskt.training import synthetic
from mskt.training.datasets import open_data
from mskt.training.splits import folds, leave_one_out
from mskt.training.synthetic import SyntheticStream

MSK22, THIGH30 = label_set("msk22"), label_set("thigh30")
SHAPE, SPACING = (32, 28, 24), (12.0, 12.0, 12.0)


@pytest.fixture(scope="module")
def maps(tmp_path_factory, ellipsoid_person):
    """Two people, who are the same, with sided atoms; and a body that is no label map."""
    folder = tmp_path_factory.mktemp("maps")
    for name in ("one_labels_4mm", "vh_male_labels_4mm", "one_body_4mm"):
        nifti.write(
            folder / f"{name}.nii.gz",
            ellipsoid_person.labels,
            ellipsoid_person.affine,
            nifti.Intent("label", "", "", 1.0),
        )
    names = {str(s.index): s.name for s in atom_label_set().structures}
    (folder / "labels.json").write_text(json.dumps({"0": "background", **names}))
    return folder


@pytest.fixture(scope="module", autouse=True)
def prepared_once():
    """The maps of this module are copies of two people: preparing them is most of the work."""
    done, prepare = {}, synthetic.prepare

    def remembered(person):
        key = person.labels.tobytes()
        if key not in done:
            done[key] = prepare(person)
        return done[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "prepare", remembered)
        yield


@pytest.fixture
def opened(tmp_path):
    def opened(*specs, names=MSK22):
        return open_data(
            specs, label_set=names, spacing_mm=SPACING, shape=SHAPE, seed=7, cache=tmp_path
        )

    return opened


def test_cases_are_a_function_of_their_number(maps, opened):
    stream = opened(f"synthesis:{maps}?p_parametric=0").stream()
    again = pickle.loads(pickle.dumps(stream))
    first, other = stream.case(3), stream.case(4)
    assert first.image.shape == SHAPE
    assert np.array_equal(again.case(3).image, first.image)
    assert np.array_equal(again.case(3).target, first.target)
    assert not np.array_equal(first.image, other.image)
    assert first.image.dtype == np.int16
    assert set(np.unique(first.target)) <= {0, *MSK22.by_index}


def test_validation_is_fixed_and_not_training(maps, opened):
    data = opened(f"synthesis:{maps}?p_parametric=0&validation=3")
    held_out = data.cases()
    assert len(held_out) == 3
    first = held_out[1].image
    assert np.array_equal(first, data.cases()[1].image)
    assert not np.array_equal(first, data.stream().case(1).image)


def test_people_of_the_maps_are_the_patients(maps, opened):
    data = opened(f"synthesis?maps={maps}")
    assert data.patients == ("one", "vh_male")
    assert data.on_the_fly
    assert data.patient_of == {"one": "one", "vh_male": "vh_male"}
    for fold in leave_one_out(data.patients):
        stream = data.stream(fold.train)
        assert [m.split("/")[-1].split("_labels")[0] for m in stream.maps] == list(fold.train)
        assert len(data.cases(fold.validation)) == 8


def test_leaving_a_measured_person_out_leaves_out_the_share_too(maps, opened):
    persons = shape_table.packaged().persons
    data = opened("synthesis")
    assert data.patients == tuple(sorted(persons))
    fold = next(f for f in leave_one_out(data.patients) if f.validation == ("vh_female",))
    stream = data.stream(fold.train)
    number = persons.index("vh_female")
    assert stream.excluded_persons == (number,)
    weights = [stream._weights(n) for n in range(20)]
    assert all(w[number] == 0 and sum(w) == pytest.approx(1) for w in weights)
    assert min(min(w) for w in weights) < 0  # mixes a little beyond the two
    held_out = data.cases(fold.validation)._makers[0].func.__self__
    assert held_out.excluded_persons == tuple(i for i in range(3) if i != number)
    assert held_out._weights(0)[number] == pytest.approx(1)
    assert held_out.persons_from != stream.persons_from
    assert opened("synthesis?leave_out=vh_female").stream().excluded_persons == (number,)
    assert opened("synthesis?leave_out=vh_female").patients == ("bp3d_male", "vh_male")
    only = data.stream(folds(data.patients, 2, 0)[0].train)
    assert len(only.excluded_persons) in (1, 2)
    assert sum(only._weights(0)) == pytest.approx(1)


def test_a_map_of_a_measured_person_goes_with_the_share(maps, opened):
    data = opened(f"synthesis:{maps}?leave_out=vh_male")
    stream = data.stream()
    assert [m.split("/")[-1] for m in stream.maps] == ["one_labels_4mm.nii.gz"]
    assert stream.excluded_persons == (shape_table.packaged().persons.index("vh_male"),)
    assert data.patients == ("one",)


def test_options_reach_the_stream(maps, opened):
    spec = f"synthesis:{maps}?persons=3&p_parametric=0.4&clinical=0.1&p_arms=0.9&fat_mm=5:20"
    stream = opened(spec).stream()
    assert (stream.persons, stream.p_parametric, stream.p_clinical) == (3, 0.4, 0.1)
    assert dict(stream.overrides) == {"p_arms": 0.9, "fat_mm": (5.0, 20.0)}
    told = stream.describe()
    assert told["overrides"]["p_arms"] == 0.9
    assert told["maps"] == ["one_labels_4mm.nii.gz", "vh_male_labels_4mm.nii.gz"]
    assert str(maps) not in json.dumps(told)
    for key in SyntheticStream.__dataclass_fields__:
        assert key in told


def test_beside_scans_synthesis_trains_in_every_fold(maps, opened, tmp_path):
    import scans

    path = scans.nnunet(tmp_path / "data", {"a": scans.scan(1), "b": scans.scan(2)})
    data = opened(str(path), f"synthesis:{maps}?p_parametric=0&share=0.25")
    assert data.patients == ("a", "b")
    assert not data.on_the_fly
    mixed = data.stream(["a"])
    assert mixed.shares == pytest.approx((0.75, 0.25))
    assert len(mixed.members[1].maps) == 2
    assert [case.patient for case in data.cases(["b"])] == ["b"]


def test_coarse_maps_leave_fine_classes_unknown(ellipsoid_person, opened, tmp_path):
    nifti.write(
        tmp_path / "x_dseg.nii.gz",
        MSK22.from_atoms(ellipsoid_person.labels),
        ellipsoid_person.affine,
        nifti.Intent("label", "", "", 1.0),
    )
    (tmp_path / "dseg.tsv").write_text(label_table(MSK22))
    spec = f"synthesis:{tmp_path}?p_parametric=0&view_level=0.4:0.6&p_truncated=0"
    case = opened(spec, names=THIGH30).stream().case(0)
    assert {"gluteus_maximus", "femur", "iliac_bone"} < {*case.known}
    assert "adductor_magnus" not in case.known  # msk22 has one class for the adductors
    assert "sartorius" not in case.known  # its class is in the table, but the map has none
    assert (case.target == 255).any()
    assert THIGH30["gluteus_maximus"].index in case.target
    assert {*opened(spec).stream().case(0).known} == {
        "gluteus_maximus", "gluteus_medius", "psoas_major", "adductors", "pelvis", "femur",
        "sacrum", "vastus_lateralis_intermedius",
    }  # fmt: skip


def test_a_map_without_bones_is_refused_at_once(ellipsoid_person, opened, tmp_path):
    labels = np.where(np.isin(ellipsoid_person.labels, (34, 134)), 0, ellipsoid_person.labels)
    nifti.write(
        tmp_path / "x_dseg.nii.gz",
        labels.astype(np.uint8),
        ellipsoid_person.affine,
        nifti.Intent("label", "", "", 1.0),
    )
    (tmp_path / "dseg.tsv").write_text(label_table(atom_label_set()))
    with pytest.raises(InputError, match="has no right femur"):
        opened(f"synthesis:{tmp_path}")


def test_parametric_persons_know_everything(ellipsoid_person, monkeypatch, opened):
    monkeypatch.setattr(synthetic, "canonical_labels", lambda seed, weights: ellipsoid_person)
    synthetic._parametric.cache_clear()
    case = opened("synthesis?persons=1&leave_out=vh_male").stream().case(1)
    synthetic._parametric.cache_clear()
    assert case.known is None
    assert case.patient == "synthetic-1"


def test_kept_cases_are_those_of_the_stream_and_made_once(maps, opened, tmp_path, monkeypatch):
    spec = f"synthesis:{maps}?p_parametric=0&validation=1"
    endless, kept = opened(spec).stream(), opened(f"{spec}&cases=3").stream()
    order = [[kept.case(epoch * 3 + place).image for place in range(3)] for epoch in range(4)]
    expected = [endless.case(number) for number in range(3)]
    for epoch in order:
        found = [
            next(i for i, e in enumerate(expected) if np.array_equal(e.image, image))
            for image in epoch
        ]
        assert sorted(found) == [0, 1, 2]
    for number in range(3):
        again, new = pickle.loads(pickle.dumps(kept)).kept(number), expected[number]
        assert np.array_equal(again.target, new.target)
        assert np.array_equal(again.body, new.body)
        assert (again.known, again.patient) == (new.known, new.patient)

    def refuse(*_):
        raise AssertionError("made again")

    monkeypatch.setattr(SyntheticStream, "case", refuse)
    assert np.array_equal(kept.kept(1).image, expected[1].image)
    with pytest.raises(AssertionError, match="made again"):  # other people, other cases
        opened(f"{spec}&cases=3&leave_out=vh_male").stream().case(0)


def test_a_kept_case_that_is_damaged_is_made_again(maps, opened):
    kept = opened(f"synthesis:{maps}?p_parametric=0&cases=1").stream()
    first = kept.case(0)
    (file,) = Path(kept.folder).glob("*.npz")
    file.write_bytes(file.read_bytes()[:5000])
    assert np.array_equal(kept.case(0).image, first.image)
    assert len(file.read_bytes()) > 5000


def test_kept_cases_validate_on_others(maps, opened):
    spec = f"synthesis:{maps}?p_parametric=0&validation=2"
    kept, endless = opened(f"{spec}&cases=2"), opened(spec)
    for mine, theirs in zip(kept.cases(), endless.cases(), strict=True):
        assert np.array_equal(mine.image, theirs.image)
    assert kept.describe()["sources"][0]["kept_cases"] == 2


def test_no_kept_case_is_refused(maps, opened):
    with pytest.raises(UsageError, match="cases='0'"):
        opened(f"synthesis:{maps}?cases=0")

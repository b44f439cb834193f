"""Data by name: every layout gives the same cases; what is wrong is said by name."""

from __future__ import annotations

import json
import pickle
import re
import shutil

import numpy as np
import pytest
import scans

from mskt.core.anatomy import label_set
from mskt.core.cases import find_cases
from mskt.core.errors import InputError, MsktError, UsageError
from mskt.training import datasets, synthetic_sources
from mskt.training.mixture import Mixture
from mskt.training.splits import Fold, LeakError, leave_one_out

MSK22 = label_set("msk22")
PRESENT = ("gluteus_maximus", "gluteus_medius", "iliacus", "psoas_major", "femur")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def opened(cache):
    def opened(*specs, names=MSK22, **options):
        return datasets.open_data(
            [str(spec) for spec in specs],
            label_set=names,
            spacing_mm=scans.SPACING,
            shape=(32, 32, 16),
            seed=4,
            cache=cache,
            **options,
        )

    return opened


@pytest.fixture(scope="module")
def two():
    return {"a": scans.scan(1), "b": scans.scan(2)}


def write_list(root, two):
    scans.beside(root / "files", two)
    rows = ["case_id\timage\treference\ttable"]
    rows += [f"{n}\tfiles/{n}.nii.gz\tfiles/{n}_dseg.nii.gz\tfiles/dseg.tsv" for n in two]
    (root / "list.tsv").write_text("\n".join(rows))
    return root / "list.tsv"


LAYOUTS = {
    "nnunet": scans.nnunet,
    "decathlon": scans.decathlon,
    "folder": scans.beside,
    "list": write_list,
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_what_was_written_comes_out(kind, two, tmp_path, opened):
    """Also the round trip of ``mskt phantom``, whose writer makes the nnU-Net data."""
    path = LAYOUTS[kind](tmp_path, two)
    for spec in (path, f"{kind}:{path}"):
        data = opened(spec)
        assert data.patients == ("a", "b")
        assert data.describe()["sources"][0]["kind"] == kind
        for name, case in zip("ab", data.cases(), strict=True):
            assert case.patient == name
            assert case.known == PRESENT
            assert np.array_equal(case.target, two[name].labels(MSK22).data)
    window = data.stream(["b"]).case(7)
    assert window.patient == "b"
    truth = {int(v) for v in np.unique(two["b"].labels(MSK22).data)}
    assert {int(v) for v in np.unique(window.target)} <= truth
    muscle = window.image[window.target == 2]
    assert abs(muscle.mean() - 55) < 3 if muscle.size else True
    json.dumps(data.describe())


def test_thigh30_is_read_as_it_was_written(two, tmp_path, opened):
    names = label_set("thigh30")
    data = opened(scans.nnunet(tmp_path, two, names), names=names)
    found = data.cases()[0]
    assert {"iliacus", "iliopsoas", "psoas_major"} < {*found.known}
    assert np.array_equal(found.target, two["a"].labels(names).data)


def test_bids_sessions_belong_to_their_subject(tmp_path, opened):
    path = scans.bids(tmp_path, ("sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1"))
    data = opened(path)
    assert data.patients == ("sub-01", "sub-02")
    assert len(data.cases(["sub-01"])) == 2
    assert data.describe()["sources"][0]["patients_from"] == "sub-XX"


def test_masks_of_totalsegmentator(two, tmp_path, opened):
    said = []
    data = opened(scans.totalsegmentator(tmp_path, two), report=said.append)
    case = data.cases()[0]
    assert case.known == ("gluteus_maximus", "gluteus_medius", "femur")
    truth = two["a"].labels(MSK22).data
    assert np.array_equal(case.target == 255, np.isin(truth, (4, 9)))
    assert np.array_equal(case.target == 2, truth == 2)
    told = data.describe()["sources"][0]
    assert told["ignored"] == ["iliopsoas_left", "iliopsoas_right"]
    assert told["absent_everywhere"] == ["gluteus_minimus", "pelvis", "sacrum"]
    assert any("gluteus_minimus, pelvis, sacrum stand in the table" in line for line in said)
    assert any("iliopsoas_left, iliopsoas_right cannot be told" in line for line in said)


def test_a_mask_that_is_not_there_is_not_annotated(two, tmp_path, opened):
    only = ("gluteus_medius_left", "gluteus_medius_right", "femur_left")
    data = opened(scans.totalsegmentator(tmp_path, two, only))
    case = data.cases()[0]
    assert case.known == ("gluteus_medius",)
    assert set(np.unique(case.target)) == {0, 2, 255}


def test_absent_in_one_case_is_out_of_view(tmp_path, opened):
    pair = {"a": scans.scan(1, without=(34,)), "b": scans.scan(2)}
    data = opened(scans.nnunet(tmp_path, pair))
    assert all("femur" in case.known for case in data.cases())


def test_only_gluteus_medius(two, tmp_path, opened):
    path = scans.nnunet(tmp_path, two, MSK22.subset(["gluteus_medius"]))
    assert opened(path).cases()[0].known == ("gluteus_medius",)


def test_values_named_in_the_spec(two, tmp_path, opened):
    scans.beside(tmp_path, two)
    (tmp_path / "dseg.tsv").unlink()
    with pytest.raises(InputError, match="no table"):
        opened(tmp_path)
    assert opened(f"folder:{tmp_path}?labels=msk22").cases()[0].known == PRESENT
    with pytest.raises(UsageError, match="no label set named 'msk23'"):
        opened(f"folder:{tmp_path}?labels=msk23")


def test_an_empty_label_map(two, tmp_path, opened):
    path = scans.nnunet(tmp_path, {**two, "c": scans.scan(3, without=tuple(scans.BOXES))})
    with pytest.raises(InputError, match="c: has no labelled voxel"):
        opened(path)
    data = opened(f"{path}?empty=skip")
    assert data.patients == ("a", "b")
    assert data.describe()["sources"][0]["left_out_as_empty"] == ["c"]
    with pytest.raises(UsageError, match="empty='yes' is no choice"):
        opened(f"{path}?empty=yes")


def test_scans_without_hips_are_left_out(two, tmp_path, opened):
    head = scans.scan(3, without=tuple(scans.BOXES))
    assert opened(scans.totalsegmentator(tmp_path, {**two, "c": head})).patients == ("a", "b")


def test_nothing_to_learn(two, tmp_path, opened):
    path = scans.nnunet(tmp_path, two, MSK22.subset(["gluteus_medius"]))
    with pytest.raises(InputError, match=r"none of its labels is a structure of .*'thigh10'"):
        opened(path, names=label_set("thigh10"))


def test_images_without_labels(two, tmp_path, opened):
    scans.write_image(tmp_path / "x.nii.gz", two["a"].image)
    with pytest.raises(InputError, match="1 images and no label map"):
        opened(tmp_path)
    scans.beside(tmp_path, two)
    assert opened(tmp_path).describe()["sources"][0]["images_without_labels"] == 1


def test_a_table_of_patients(two, tmp_path, opened):
    path = scans.nnunet(tmp_path, {**two, "c": scans.scan(3)})
    assert "patient of its own" in opened(path).describe()["sources"][0]["patients_from"]
    (path / "patients.csv").write_text("case,patient\na,one\nb,two\nc,one\n")
    data = opened(path)
    assert data.patients == ("one", "two")
    assert data.patient_of == {"a": "one", "b": "two", "c": "one"}
    (path / "patients.csv").write_text("case,patient\na,one\nb,two\n")
    with pytest.raises(InputError, match=r"patients\.csv: says of 1 cases .* \(c\)"):
        opened(path)
    (path / "other.tsv").write_text("name\tpatient\na\tone\n")
    with pytest.raises(InputError, match="needs the columns case and patient"):
        opened(f"{path}?patients={path / 'other.tsv'}")


def test_the_same_scan_under_two_names(two, tmp_path, opened):
    path = scans.nnunet(tmp_path / "x", two)
    other = scans.beside(tmp_path / "y", {"again": two["a"]})  # other file, same voxels
    data = opened(path, other)
    assert data.patients == ("a", "again", "b")
    data.check(Fold(("a", "again"), ("b",)))
    with pytest.raises(LeakError, match="a and again: are the same image"):
        data.check(Fold(("a", "b"), ("again",)))
    with pytest.raises(UsageError, match="no patient 'd'"):
        data.check(Fold(("a",), ("d",)))


def test_a_patient_of_two_sources_is_one(two, tmp_path, opened):
    path = scans.nnunet(tmp_path / "x", two)
    scans.beside(tmp_path / "y", {"a": scans.scan(9)})
    data = opened(path, tmp_path / "y")
    assert data.patients == ("a", "b")
    assert len(data.cases(["a"])) == 2


def test_mixture_shares(two, tmp_path, opened):
    path = scans.nnunet(tmp_path / "x", two)
    other = scans.beside(tmp_path / "y", {"c": scans.scan(3)})
    mixed = opened(f"{path}?share=0.3", other).stream()
    assert isinstance(mixed, Mixture)
    assert mixed.shares == pytest.approx((0.3, 0.7))
    assert {mixed.case(n).patient for n in range(12)} == {"a", "b", "c"}
    assert not isinstance(opened(f"{path}?share=0.3", other).stream(["c"]), Mixture)
    again = pickle.loads(pickle.dumps(mixed))
    assert np.array_equal(again.case(5).image, mixed.case(5).image)
    with pytest.raises(UsageError, match=r"shares 0\.8, 0\.7 are more than 1"):
        opened(f"{path}?share=0.8", f"{other}?share=0.7")
    with pytest.raises(UsageError, match="leave nothing for the rest"):
        opened(f"{path}?share=1", other)


def test_no_path_and_no_name_of_a_folder_above_is_told(two, tmp_path, opened):
    path = scans.nnunet(tmp_path / "clinic" / "set", two)
    told = json.dumps(opened(path).describe())
    assert str(tmp_path) not in told
    assert "clinic" not in told
    assert len(re.findall(r"[0-9a-f]{64}", told)) == 4


def test_second_opening_reads_the_cache(two, tmp_path, opened, monkeypatch):
    path = scans.nnunet(tmp_path, two)
    first = opened(path).describe()
    monkeypatch.setattr("mskt.training.prepared.load_case", None)
    monkeypatch.setattr("mskt.training.prepared.load_label_map", None)
    assert opened(path).describe() == first


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("nnunett:DATA", "no kind of data 'nnunett'.*Did you mean 'nnunet'"),
        ("bids:DATA", "has not the layout 'bids'; it looks like 'nnunet'"),
        ("nnunet:", "'nnunet' needs a path"),
        ("DATA/missing", "nothing at this path"),
        ("DATA?labls=msk22", "'nnunet' has no option 'labls'.*Did you mean 'labels'"),
        ("DATA?share", "'share' is no option"),
        ("DATA?share=0.2&share=0.3", "gives 'share' twice"),
        ("DATA?share=2", "share='2' is no number from 1e-06 to 1"),
        ("synthesis?p_arm=1", "no option 'p_arm'.*'p_arms'"),
        ("synthesis?p_arms=2", "p_arms is a probability, not 2.0"),
        ("synthesis?fat_mm=9", "fat_mm='9' is not LOW:HIGH"),
        ("synthesis?fat_mm=9:3", "low end above high end"),
        ("synthesis?calibrate_means=1", "is not true or false"),
        ("synthesis?persons=2.5", "persons='2.5' is not whole"),
        ("synthesis?leave_out=vh_mail", "nobody named 'vh_mail'.*'vh_male'"),
        ("phantom?n=0", "n='0' is no number from 1"),
        ("phantom:db1", "cohorts of phantoms have no names"),
        ("synthesis:DATA?maps=DATA", "names maps twice"),
    ],
)
def test_a_spec_that_is_wrong(spec, says, two, tmp_path, opened):
    path = scans.nnunet(tmp_path / "d", two)
    with pytest.raises(UsageError, match=re.compile(says, re.S)):
        opened(spec.replace("DATA", str(path)))


def test_no_data(opened):
    with pytest.raises(UsageError, match="names no data"):
        opened()


def test_a_path_with_a_colon_or_a_question_mark(two, tmp_path, opened):
    path = scans.nnunet(tmp_path / "what: this?", two)
    assert opened(path).patients == ("a", "b")


def test_phantoms_are_patients(opened, monkeypatch):
    made = []

    class Made:
        def __init__(self, seed):
            one = scans.scan(seed)
            self.image, self.labels = one.image, one.atoms

    def make(seed, *, spacing_mm):
        made.append(seed)
        return Made(seed)

    monkeypatch.setattr(synthetic_sources, "make_phantom", make)
    data = opened("phantom?n=3&seed=5")
    assert data.patients == ("phantom_0005", "phantom_0006", "phantom_0007")
    assert data.cases()[1].known == PRESENT
    assert np.array_equal(data.cases()[1].target, scans.scan(6).labels(MSK22).data)
    opened("phantom?n=3&seed=5")
    assert made == [5, 6, 7]


@pytest.mark.slow
def test_a_real_phantom_survives_the_round_trip(tmp_path, cache):
    from mskt.report import dataset
    from mskt.synthesis.phantom import in_label_set, make_phantom

    made = make_phantom(3, spacing_mm=(6.0, 6.0, 6.0))
    labels = in_label_set(made.labels, MSK22)
    dataset.write_image(tmp_path, "p", made.image)
    dataset.write_labels(tmp_path, "p", labels)
    dataset.write_description(tmp_path, MSK22, [])
    data = datasets.open_data(
        [str(tmp_path), "phantom?n=1&seed=3"],
        label_set=MSK22,
        spacing_mm=(6.0, 6.0, 6.0),
        shape=(64, 48, 32),
        seed=0,
        cache=cache,
    )
    written, direct = data.cases()
    assert np.array_equal(written.target, labels.data)
    assert np.array_equal(direct.target, labels.data)
    assert np.array_equal(written.image, direct.image)
    assert written.known == MSK22.names
    with pytest.raises(LeakError, match="the same image"):
        data.check(leave_one_out(data.patients)[0])


def test_find_cases_agrees_on_the_number(two, tmp_path, opened):
    path = scans.nnunet(tmp_path, two)
    shutil.copy(path / "imagesTr" / "a_0000.nii.gz", path / "imagesTr" / "z_0000.nii.gz")
    assert len(find_cases([path])) == 3
    told = opened(path).describe()["sources"][0]
    assert (len(told["cases"]), told["images_without_labels"]) == (2, 1)


def test_every_error_is_for_people(two, tmp_path, opened):
    path = scans.nnunet(tmp_path, two)
    (path / "labelsTr" / "a.nii.gz").write_bytes(b"no image")
    with pytest.raises(MsktError, match=r"a\.nii\.gz"):
        opened(path)

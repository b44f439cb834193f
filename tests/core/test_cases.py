from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mskt.core.anatomy import label_set
from mskt.core.cases import (
    Case,
    find_cases,
    find_label_maps,
    label_set_from,
    load_case,
    load_label_map,
    loader_for,
)
from mskt.core.errors import InputError
from mskt.core.interfaces import LoadOptions
from mskt.core.registry import Registry

PLAIN = LoadOptions()


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry([EntryPoint("loaders", "mskt.plugins.loaders", "mskt")])


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def dicom(folder: Path, count: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        (folder / f"IM{index}").write_bytes(b"\0" * 128 + b"DICM")


def ids(*inputs: Path) -> list[str]:
    return [case.case_id for case in find_cases(inputs)]


def refusal(*inputs: Path) -> str:
    with pytest.raises(InputError) as caught:
        find_cases(inputs)
    text = str(caught.value)
    assert str(inputs[0].parent) not in text and "\n" in text
    return text


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "case_id"),
    [
        ("a.nii.gz", "a"),
        ("a.b.nii", "a.b"),
        ("x 1 (copy).nrrd", "x_1_copy"),
        ("x_0000.nii.gz", "x"),
        ("hip.mhd", "hip"),
        ("study.zip", "study"),
        (".._x.nii", "x"),
        ("患者1.nii", "患者1"),
        ("sub-01_ses-2_ct.nii.gz", "sub-01_ses-2"),
        ("scan.img.minc", "scan.img"),
    ],
)
def test_ids_of_single_files(tmp_path, name, case_id):
    touch(tmp_path / name)
    assert find_cases([tmp_path / name]) == [Case(case_id, tmp_path / name)]


def test_a_name_that_says_nothing_takes_its_folders(tmp_path):
    touch(tmp_path / "p1" / "ct.nii.gz", tmp_path / "p2" / "ct.nii.gz")
    assert ids(tmp_path / "p1" / "ct.nii.gz", tmp_path / "p2" / "ct.nii.gz") == ["p1", "p2"]


def test_equal_ids_become_unique(tmp_path):
    files = [tmp_path / "a" / "x.nii", tmp_path / "b" / "X.nii.gz", tmp_path / "b" / "x.mha"]
    touch(*files)
    assert ids(*files, files[0]) == ["a_x", "b_X", "b_x_2"]


def test_a_missing_file_suggests_names(tmp_path):
    touch(tmp_path / "patient_01.nii.gz")
    text = refusal(tmp_path / "patient_1.nii.gz")
    assert text == "patient_1.nii.gz: does not exist\nDid you mean 'patient_01.nii.gz'?"
    assert "nor does its folder" in refusal(tmp_path / "no" / "x.nii")


# --- folders ------------------------------------------------------------------------------------


def test_a_folder_of_one_dicom_series(tmp_path):
    dicom(tmp_path / "scan 7")
    assert find_cases([tmp_path / "scan 7"]) == [Case("scan_7", tmp_path / "scan 7")]


def test_a_folder_of_cases(tmp_path):
    root = tmp_path / "data"
    touch(
        root / "b.nii.gz",
        root / "a.nrrd",
        root / "b_dseg.nii.gz",
        root / "b_dseg.tsv",
        root / "b_uncertainty.nii.gz",
        root / "z.zip",
        root / "notes.txt",
        root / ".hidden.nii",
    )
    dicom(root / "p1" / "study" / "series")
    touch(root / "p2" / "ct.nii.gz", root / "p2" / "labels.nii.gz", root / "empty" / "x.txt")
    assert find_cases([root]) == [
        Case("a", root / "a.nrrd"),
        Case("b", root / "b.nii.gz", root / "b_dseg.nii.gz", root / "b_dseg.tsv"),
        Case("z", root / "z.zip"),
        Case("p1", root / "p1"),
        Case("p2", root / "p2" / "ct.nii.gz", root / "p2" / "labels.nii.gz"),
    ]


def test_an_empty_or_foreign_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty: holds no image that mskt reads: nothing" in refusal(tmp_path / "empty")
    touch(tmp_path / "pics" / "a.png", tmp_path / "pics" / "b.png", tmp_path / "pics" / "c.txt")
    text = refusal(tmp_path / "pics")
    assert "2 .png, 1 .txt" in text and "nnU-Net" in text


def test_nnunet(tmp_path):
    root = tmp_path / "Dataset001_Hip"
    touch(
        root / "imagesTr" / "k1_0000.nii.gz",
        root / "imagesTr" / "k2_0000.nii.gz",
        root / "labelsTr" / "k1.nii.gz",
        root / "imagesTs" / "k9_0000.nii.gz",
    )
    (root / "dataset.json").write_text(
        json.dumps(
            {
                "channel_names": {"0": "CT"},
                "labels": {"background": 0, "femur": 2, "mystery": 1},
                "numTraining": 2,
                "file_ending": ".nii.gz",
            }
        )
    )
    table = root / "dataset.json"
    expected = [
        Case("k1", root / "imagesTr" / "k1_0000.nii.gz", root / "labelsTr" / "k1.nii.gz", table),
        Case("k2", root / "imagesTr" / "k2_0000.nii.gz", None, table),
    ]
    assert find_cases([root]) == find_cases([table]) == find_cases([root / "imagesTr"]) == expected
    assert ids(root / "imagesTs") == ["k9"]
    names = label_set_from(table)
    assert names.names == ("mystery", "femur") and names["femur"].elements
    (case,) = find_label_maps([root])
    assert (case.case_id, case.table) == ("k1", table)


def test_two_channels_are_refused(tmp_path):
    touch(
        tmp_path / "d" / "imagesTr" / "k1_0000.nii.gz",
        tmp_path / "d" / "imagesTr" / "k1_0001.nii.gz",
    )
    assert "k1_0001.nii.gz: is a second channel" in refusal(tmp_path / "d")


def test_bids(tmp_path):
    root = tmp_path / "bids"
    image = root / "sub-01" / "ses-a" / "ct" / "sub-01_ses-a_ct.nii.gz"
    mask = root / "derivatives" / "manual" / "sub-01" / "ses-a" / "ct" / "sub-01_ses-a_dseg.nii.gz"
    other = root / "sub-02" / "ct" / "sub-02_ct.nii.gz"
    table = root / "derivatives" / "manual" / "dseg.tsv"
    touch(root / "dataset_description.json", image, mask, other, table)
    assert find_cases([root]) == [Case("sub-01_ses-a", image, mask, table), Case("sub-02", other)]
    touch(root / "derivatives" / "auto" / "sub-01_ses-a_dseg.nii.gz")
    assert "sub-01_ses-a: has 2 label maps in derivatives" in refusal(root)


def test_totalsegmentator(tmp_path):
    for case in ("s0001", "s0002"):
        touch(
            tmp_path / "ts" / case / "ct.nii.gz",
            tmp_path / "ts" / case / "segmentations" / "femur_left.nii.gz",
        )
    root = tmp_path / "ts"
    assert find_cases([root]) == [
        Case(name, root / name / "ct.nii.gz", root / name / "segmentations")
        for name in ("s0001", "s0002")
    ]
    assert ids(root / "s0002") == ["s0002"]


# --- lists --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.tsv", "case_id\timage\treference\nA\ta.nii\tm.nii\n\tb.nii\t\n"),
        ("l.csv", "\ufeffCase_ID;Image;Label\nA;a.nii;m.nii\n;b.nii;\n"),
        ("l.json", '[{"case_id": "A", "image": "a.nii", "label": "m.nii"}, "b.nii"]'),
        (
            "l.json",
            '{"training": [{"id": "A", "image": ["a.nii"], "label": "m.nii"}], '
            '"test": [{"image": "./b.nii"}]}',
        ),
    ],
)
def test_lists(tmp_path, name, text):
    touch(tmp_path / "a.nii", tmp_path / "b.nii", tmp_path / "m.nii")
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert find_cases([tmp_path / name]) == [
        Case("A", tmp_path / "a.nii", tmp_path / "m.nii"),
        Case("b", tmp_path / "b.nii"),
    ]


def test_medical_decathlon(tmp_path):
    root = tmp_path / "Task01"
    touch(root / "images" / "la_1.nii.gz", root / "masks" / "la_1.nii.gz")
    (root / "dataset.json").write_text(
        json.dumps(
            {
                "labels": {"0": "background", "1": "femur"},
                "training": [{"image": "./images/la_1.nii.gz", "label": "./masks/la_1.nii.gz"}],
            }
        )
    )
    (case,) = find_cases([root / "dataset.json"])
    assert case.reference == root / "masks" / "la_1.nii.gz"
    assert label_set_from(case.table).names == ("femur",)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("l.tsv", "case_id\tscan\nA\ta.nii\n", "entry 1 names no image (it has case_id, scan)"),
        ("l.tsv", "image\n", "lists no cases"),
        (
            "l.csv",
            "image\ngone.nii\nlost.nii\n",
            "names 2 files that do not exist (gone.nii, lost.nii)",
        ),
        ("l.json", "{", "is no valid JSON (line 1"),
        ("l.json", "7", "is no list of cases"),
        ("l.json", '[{"image": ["a.nii", "b.nii"]}]', "entry 1 names 2 files for one image"),
    ],
)
def test_lists_that_are_refused(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    assert words in refusal(tmp_path / name)


# --- label maps ---------------------------------------------------------------------------------


def test_label_maps_of_a_run(tmp_path):
    for case in ("a", "b"):
        touch(
            tmp_path / "out" / case / f"{case}_dseg.nii.gz",
            tmp_path / "out" / case / f"{case}_dseg.tsv",
            tmp_path / "out" / case / f"{case}_uncertainty.nii.gz",
        )
    found = find_label_maps([tmp_path / "out"])
    assert [(case.case_id, case.table.name) for case in found] == [
        ("a", "a_dseg.tsv"),
        ("b", "b_dseg.tsv"),
    ]
    touch(tmp_path / "refs" / "a.nii.gz", tmp_path / "refs" / "b.nii.gz")
    assert [case.case_id for case in find_label_maps([tmp_path / "refs"])] == ["a", "b"]
    with pytest.raises(InputError, match="holds no label map"):
        find_label_maps([tmp_path])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"labels": {"femur": [1, 2]}}, "is a region of several values"),
        ({"labels": {}}, "names no labels"),
        ({"femur": "left"}, "has no whole number"),
    ],
)
def test_label_tables_that_are_refused(tmp_path, content, words):
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=words):
        label_set_from(tmp_path / "dataset.json")


# --- loading ------------------------------------------------------------------------------------


def save(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, np.eye(4) if affine is None else affine), path)
    return path


def test_load_case(tmp_path, registry):
    data = np.full((6, 6, 6), -100, np.int16)
    data[2:4], data[4:] = 60, 700
    volume = load_case(save(tmp_path / "x.nii.gz", data), PLAIN, registry)
    assert np.array_equal(volume.data, data) and volume.source["format"] == "nifti"


def test_no_loader(tmp_path, registry):
    touch(tmp_path / "x.png")
    with pytest.raises(InputError) as caught:
        loader_for(tmp_path / "x.png", registry)
    text = str(caught.value)
    assert text.startswith("x.png: is in no format that mskt reads (0 bytes)\nFormats: ")
    assert "NIfTI" in text and "NRRD" in text and "DICOM" in text
    with pytest.raises(InputError, match="does not exist"):
        load_case(tmp_path / "y.nii", PLAIN, registry)


def test_a_broken_loader_does_not_stand_in_the_way(tmp_path, monkeypatch):
    (tmp_path / "acme_loader.py").write_text(
        "from mskt import LoaderSpec, hookimpl\n@hookimpl\ndef mskt_loader():\n"
        "    yield LoaderSpec('acme', 'acme_missing:Loader', 'ACME volumes')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry(
        [
            EntryPoint("loaders", "mskt.plugins.loaders", "mskt"),
            EntryPoint("acme", "acme_loader", "mskt"),
        ]
    )
    path = save(tmp_path / "x.nii", np.zeros((3, 3, 3), np.uint8))
    assert type(loader_for(path, registry)).__name__ == "NiftiLoader"
    touch(tmp_path / "x.foo")
    with pytest.raises(InputError, match="Note: loader 'acme' cannot be imported"):
        loader_for(tmp_path / "x.foo", registry)


def test_load_label_map(tmp_path, registry):
    data = np.zeros((5, 5, 5), np.int16)
    data[0, 0, :3] = (1, 2, 200)
    path = save(tmp_path / "x_dseg.nii.gz", data)
    labels = load_label_map(path, PLAIN, registry)
    assert labels.data.dtype == np.uint8 and np.array_equal(labels.data, data)
    assert labels.label_set.names == ("label_1", "label_2", "label_200")
    with pytest.raises(InputError, match="has values without a name: 200"):
        load_label_map(path, PLAIN, registry, label_set("msk22"))
    with pytest.raises(InputError, match="label values from 0 to 300"):
        load_label_map(
            save(tmp_path / "y.nii", np.where(data == 2, 300, data).astype(np.int16)),
            PLAIN,
            registry,
        )


@pytest.mark.parametrize("place", [(0, 0, 0), (4, 4, 4), (4, 4, 3), (2, 3, 1)])
def test_a_single_voxel_anywhere_is_found(tmp_path, registry, place):
    """Voxels are counted eight at a time; 125 of them leave some over."""
    data = np.zeros((5, 5, 5), np.uint8)
    data[place] = 7
    labels = load_label_map(save(tmp_path / "x.nii", data), PLAIN, registry)
    assert labels.label_set.names == ("label_7",)
    everywhere = np.full((3, 3, 3), 5, np.uint8)
    everywhere[-1, -1, -1] = 9
    labels = load_label_map(save(tmp_path / "y.nii", everywhere), PLAIN, registry)
    assert labels.label_set.names == ("label_5", "label_9")


def test_masks_per_structure(tmp_path, registry):
    folder = tmp_path / "segmentations"
    one, two = np.zeros((2, 4, 4, 4), np.uint8)
    one[:2], two[1:] = 1, 1
    for name, mask in (("femur_left", one), ("femur_right", two), ("liver", one)):
        save(folder / f"{name}.nii.gz", mask)
    labels = load_label_map(folder, PLAIN, registry)
    names = label_set("totalseg")
    assert labels.label_set == names
    left, right = names["femur_left"].index, names["femur_right"].index
    assert np.array_equal(labels.data[:, 0, 0], [left, left, right, right])
    save(folder / "sacrum.nii.gz", np.ones((4, 4, 4), np.uint8), np.diag([2.0, 1, 1, 1]))
    with pytest.raises(InputError, match=r"sacrum.nii.gz: is on another grid"):
        load_label_map(folder, PLAIN, registry)


def test_masks_with_other_names(tmp_path, registry):
    folder = tmp_path / "masks"
    save(folder / "b_mystery.nii.gz", np.eye(4, dtype=np.uint8)[..., None])
    save(folder / "a_mystery.nii.gz", np.ones((4, 4, 1), np.uint8))
    labels = load_label_map(folder, PLAIN, registry)
    assert labels.label_set.names == ("a_mystery", "b_mystery") and (labels.data == 1).all()

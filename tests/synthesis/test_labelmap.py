"""Label maps of people: any table, any orientation, sides told apart; clear words where not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from mskt.core.anatomy import LabelSet, label_set
from mskt.core.errors import InputError
from mskt.report import nifti
from mskt.report.outputs import label_table
from mskt.synthesis.labelmap import LabelMap
from mskt.synthesis.phantom import atom_label_set
from mskt.training.targets import translate

SHARED = Path(os.environ.get("MSKT_SHARED", Path(__file__).parents[2].parent / "shared"))
MAPS = SHARED / "anatomy"
MSK22, TOTALSEG, THIGH30 = map(label_set, ("msk22", "totalseg", "thigh30"))


def write(path: Path, data: np.ndarray, affine: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nifti.write(path, data, affine, nifti.Intent("label", "", "", 1.0))
    return path


def save(folder: Path, person: LabelMap, names: LabelSet) -> Path:
    """The person as somebody's label map with its table beside it."""
    path = write(folder / "one_dseg.nii.gz", names.from_atoms(person.labels), person.affine)
    (folder / "dseg.tsv").write_text(label_table(names))
    return path


def test_sided_atoms_come_back(ellipsoid_person: LabelMap, tmp_path: Path) -> None:
    found = LabelMap.from_file(save(tmp_path, ellipsoid_person, atom_label_set()))
    # The psoas reaches below the femoral head, where it is called distal.
    same = (found.labels == ellipsoid_person.labels) | np.isin(found.labels, (7, 107))
    assert same.all()
    assert np.isin(found.labels, (7, 107)).any()
    for name, point in ellipsoid_person.landmarks.items():
        assert np.abs(found.landmarks[name] - point).max() < 12


def test_unsided_classes_get_sides(ellipsoid_person: LabelMap, tmp_path: Path) -> None:
    found = LabelMap.from_file(save(tmp_path, ellipsoid_person, MSK22))
    truth = ellipsoid_person.labels
    for atom in (1, 2, 33, 34, 36):
        for code in (atom, atom + 100):
            assert np.array_equal(found.labels == code, truth == code), code
    # msk22 has one class for the adductors: painted as the first, known as the class.
    assert np.array_equal(found.labels == 15, truth == 17)
    assert found.meaning is not None
    translation = translate(found.meaning, MSK22)
    assert translation.known == MSK22.names
    assert np.array_equal(translation.table[found.labels], MSK22.from_atoms(truth))
    fine = translate(found.meaning, THIGH30)
    assert "adductor_magnus" not in fine.known
    assert fine.table[15] == 255
    assert {"gluteus_maximus", "iliacus", "iliopsoas", "psoas_major"} < {*fine.known}


def test_masks_of_totalsegmentator(ellipsoid_person: LabelMap, tmp_path: Path) -> None:
    data = TOTALSEG.from_atoms(ellipsoid_person.labels)
    for structure in TOTALSEG.structures:
        mask = (data == structure.index).astype(np.uint8)
        write(
            tmp_path / "segmentations" / f"{structure.name}.nii.gz", mask, ellipsoid_person.affine
        )
    found = LabelMap.from_file(tmp_path / "segmentations")
    truth = ellipsoid_person.labels
    for code in (1, 102, 33, 134, 36):
        assert np.array_equal(found.labels == code, truth == code)
    assert found.meaning is not None
    known = translate(found.meaning, MSK22).known
    assert "gluteus_medius" in known
    assert not {"iliacus", "psoas_major", "sartorius"} & {*known}


def test_fine_and_oblique_maps_are_brought_upright(
    ellipsoid_person: LabelMap, tmp_path: Path
) -> None:
    angle = np.deg2rad(6.0)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = turn @ ellipsoid_person.affine
    path = write(tmp_path / "x_dseg.nii.gz", ellipsoid_person.labels, affine)
    (tmp_path / "dseg.tsv").write_text(label_table(atom_label_set()))
    found = LabelMap.from_file(path)
    assert np.array_equal(found.affine[:3, :3], np.diag(np.diag(found.affine)[:3]))
    truth = ellipsoid_person.volumes_cm3()
    mine = found.volumes_cm3()
    for code in (1, 102, 133, 34):
        assert mine[code] == pytest.approx(truth[code], rel=0.03)
    hips = [(turn @ [*ellipsoid_person.landmarks[f"hip_{s}"], 1])[:3] for s in ("right", "left")]
    assert np.abs(found.landmarks["hip_right"] - hips[0]).max() < 4
    assert np.abs(found.landmarks["hip_left"] - hips[1]).max() < 4


def test_what_is_missing_is_named(ellipsoid_person: LabelMap, tmp_path: Path) -> None:
    lacking = ellipsoid_person.labels.copy()
    lacking[np.isin(lacking, (134, 133))] = 0
    path = write(tmp_path / "p_dseg.nii.gz", lacking, ellipsoid_person.affine)
    (tmp_path / "dseg.tsv").write_text(label_table(atom_label_set()))
    with pytest.raises(InputError, match=r"p_dseg.*no left femur and no left hip bone"):
        LabelMap.from_file(path)


def test_a_map_without_a_table(ellipsoid_person: LabelMap, tmp_path: Path) -> None:
    path = write(tmp_path / "p_dseg.nii.gz", ellipsoid_person.labels, ellipsoid_person.affine)
    with pytest.raises(InputError, match="no table that names its values"):
        LabelMap.from_file(path)


def test_values_outside_the_table(ellipsoid_person: LabelMap, tmp_path: Path) -> None:
    path = save(tmp_path, ellipsoid_person, atom_label_set())
    (tmp_path / "dseg.tsv").write_text(label_table(atom_label_set().subset(["femur_left"])))
    with pytest.raises(InputError, match="values without a name"):
        LabelMap.from_file(path)


def test_maps_with_nothing_in_them(ellipsoid_person: LabelMap, tmp_path: Path) -> None:
    path = write(tmp_path / "p.nii.gz", np.zeros((4, 4, 4), np.uint8), np.eye(4))
    (tmp_path / "dseg.tsv").write_text(label_table(atom_label_set()))
    with pytest.raises(InputError, match="no labelled voxel"):
        LabelMap.from_file(path)
    path = write(tmp_path / "q.nii.gz", np.ones((4, 4, 4), np.uint8), np.eye(4))
    (tmp_path / "q.tsv").write_text("index\tname\n1\tliver\n")
    with pytest.raises(InputError, match="no voxel of a muscle or bone that mskt knows"):
        LabelMap.from_file(path)


@pytest.mark.shared
@pytest.mark.skipif(not MAPS.is_dir(), reason=f"the three maps are not at {MAPS} (MSKT_SHARED)")
def test_the_three_maps_tell_all_but_the_abdominal_wall() -> None:
    found = LabelMap.from_file(MAPS / "vh_male_labels_2mm.nii.gz", MAPS / "labels.json")
    assert found.meaning is not None
    assert translate(found.meaning, MSK22).known == MSK22.names
    unknown = {*THIGH30.names} - {*translate(found.meaning, THIGH30).known}
    assert unknown == {"abdominal_oblique", "rectus_abdominis", "multifidus"}
    table = translate(found.meaning, MSK22).table
    assert np.array_equal(table[found.labels], MSK22.from_atoms(found.labels))

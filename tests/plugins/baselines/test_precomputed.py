"""``precomputed``: masks of other tools, found by case and read by what they mean."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mskt.core.anatomy import common_coarsening, label_set
from mskt.core.errors import GeometryError, InputError, UsageError
from mskt.core.pipeline import segment_case
from mskt.core.registry import registry
from mskt.core.volume import Volume
from mskt.plugins.baselines.precomputed import Precomputed
from mskt.plugins.baselines.precomputed.meaning import TOTAL_VALUES
from mskt.testing import parametrize_with_checks, phantoms

MSK22 = label_set("msk22")
SHAPE, SPACING = (40, 30, 6), (8.0, 8.0, 6.0)


@pytest.fixture(scope="module")
def image() -> Volume:
    return replace(phantoms.phantom(SHAPE, SPACING), source={"case_id": "leg"})


@pytest.fixture(scope="module")
def labels(image) -> np.ndarray:
    """Muscle is adductors, bone femur; a block of gluteus maximus on either side."""
    kinds = phantoms.tissue(image.grid)
    out = np.zeros(SHAPE, np.uint8)
    out[kinds == 2] = MSK22["adductors"].index
    out[kinds >= 3] = MSK22["femur"].index
    out[(kinds == 2) & (np.arange(SHAPE[1])[None, :, None] < 12)] = MSK22["gluteus_maximus"].index
    return out


def save(path: Path, values: np.ndarray, affine: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, affine), path)
    return path


def table(path: Path, names=MSK22) -> Path:
    rows = "".join(f"{s.index}\t{s.name}\n" for s in names.structures)
    path.write_text(f"index\tname\n{rows}")
    return path


def run(segmenter: Precomputed, image: Volume):
    estimator = registry().get("uncertainty", "deterministic")
    return segment_case(image, segmenter, estimator, keep_largest=False)


def by_side(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Masks with TotalSegmentator's names; the x axis points right."""
    right = (np.arange(SHAPE[0]) >= SHAPE[0] / 2)[:, None, None]
    found = {}
    for name in ("gluteus_maximus", "femur"):
        for side, here in (("right", right), ("left", ~right)):
            found[f"{name}_{side}"] = (labels == MSK22[name].index) & here
    return found


def test_own_labels_come_back_to_the_last_voxel(image, labels, tmp_path):
    save(tmp_path / "leg_dseg.nii.gz", labels, image.affine)
    table(tmp_path / "leg_dseg.tsv")
    segmenter = Precomputed(str(tmp_path))
    found = run(segmenter, image)
    assert segmenter.label_set.names == MSK22.names
    np.testing.assert_array_equal(found.labels.data, labels)
    assert not found.uncertainty.any()
    assert any("sha256" in note for note in found.notes)


@pytest.mark.parametrize("layout", ["labelsTs", "flat", "run"])
def test_layouts_find_the_same_mask(image, labels, tmp_path, layout):
    names = {"background": 0} | {s.name: s.index for s in MSK22.structures}
    if layout == "labelsTs":
        folder = tmp_path / "Dataset7" / "labelsTs"
        save(folder / "leg.nii.gz", labels, image.affine)
        (folder.parent / "dataset.json").write_text(json.dumps({"labels": names}))
    elif layout == "flat":  # what nnU-Net predicts: maps and dataset.json in one folder
        folder = tmp_path / "predicted"
        save(folder / "leg.nii.gz", labels, image.affine)
        save(folder / "arm.nii.gz", labels, image.affine)
        (folder / "dataset.json").write_text(json.dumps({"labels": names}))
    else:
        folder = tmp_path / "results"
        save(folder / "leg" / "leg_dseg.nii.gz", labels, image.affine)
        table(folder / "leg" / "leg_dseg.tsv")
    np.testing.assert_array_equal(run(Precomputed(str(folder)), image).labels.data, labels)


def test_totalsegmentator_as_masks_and_as_one_map(image, labels, tmp_path):
    one = np.zeros(SHAPE, np.uint8)
    for name, mask in by_side(labels).items():
        save(tmp_path / "parts" / "leg" / f"{name}.nii.gz", mask.astype(np.uint8), image.affine)
        one[mask] = TOTAL_VALUES[name]
    one[0, 0, 0] = 1  # spleen: no structure of hip and thigh
    save(tmp_path / "maps" / "leg.nii.gz", one, image.affine)
    parts = run(Precomputed(str(tmp_path / "parts")), image).labels
    maps = run(Precomputed(str(tmp_path / "maps"), format="totalsegmentator"), image)
    np.testing.assert_array_equal(parts.data, maps.labels.data)
    assert any("1 other values" in note for note in maps.notes)
    groups = {g.name: g for g in common_coarsening(MSK22, parts.label_set)}
    for name in ("gluteus_maximus", "femur"):
        values = [parts.label_set[one].index for one in groups[name].second]
        np.testing.assert_array_equal(np.isin(parts.data, values), labels == MSK22[name].index)


def test_musclemap_by_the_table_of_its_model(image, labels, tmp_path):
    rows = [
        {"region": "hip", "anatomy": "gluteus maximus", "side": "left", "value": 6121},
        {"region": "hip", "anatomy": "gluteus maximus", "side": "right", "value": 6122},
        {"region": "hip", "anatomy": "sacrum", "side": "no side", "value": 6160},
    ]
    (tmp_path / "model.json").write_text(json.dumps({"labels": rows}))
    values = np.zeros(SHAPE, np.int16)
    masks = by_side(labels)
    values[masks["gluteus_maximus_left"]], values[masks["gluteus_maximus_right"]] = 6121, 6122
    save(tmp_path / "leg.nii.gz", values, image.affine)
    segmenter = Precomputed(str(tmp_path / "leg.nii.gz"), "musclemap", str(tmp_path / "model.json"))
    assert segmenter.label_set.names == (
        "gluteus_maximus_left", "gluteus_maximus_right", "sacrum"
    )  # fmt: skip
    assert segmenter.label_set["gluteus_maximus_left"].side == "left"
    found = run(segmenter, image).labels.data
    np.testing.assert_array_equal(found > 0, labels == MSK22["gluteus_maximus"].index)
    with pytest.raises(UsageError, match="values change from model to model"):
        Precomputed(str(tmp_path / "leg.nii.gz"), "musclemap")


def test_another_grid_gets_the_nearest_label(image, labels, tmp_path):
    twice = image.affine.copy()
    twice[:3, :3] /= 2
    twice[:3, 3] = image.affine[:3, 3] - image.affine[:3, :3].sum(axis=1) / 4
    fine = labels.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    save(tmp_path / "leg.nii.gz", fine[:, :, :6], twice)  # the lower half only
    found = run(Precomputed(str(tmp_path / "leg.nii.gz"), label_set="msk22"), image)
    np.testing.assert_array_equal(found.labels.data[:, :, :3], labels[:, :, :3])
    assert not found.labels.data[:, :, 3:].any()
    assert any("nearest label" in note for note in found.notes)
    assert any("covers 50 %" in note for note in found.notes)


def test_axes_stored_another_way_are_the_same_mask(image, labels, tmp_path):
    turned = phantoms.stored_as(
        Volume(labels.astype(np.float32), image.affine), (1, 2, 0), (False, True, True)
    )
    save(tmp_path / "leg.nii.gz", turned.data.astype(np.uint8), turned.affine)
    found = run(Precomputed(str(tmp_path / "leg.nii.gz"), label_set="msk22"), image)
    np.testing.assert_array_equal(found.labels.data, labels)
    assert not any("another grid" in note for note in found.notes)


def test_refusals_name_thing_and_remedy(image, labels, tmp_path):
    with pytest.raises(UsageError, match="masks=PATH"):
        Precomputed()
    with pytest.raises(InputError, match="does not exist"):
        Precomputed(str(tmp_path / "nothing"))
    with pytest.raises(InputError, match="empty folder"):
        Precomputed(str(tmp_path))
    mask = save(tmp_path / "all" / "leg.nii.gz", labels, image.affine)
    with pytest.raises(UsageError, match="no table names"):
        Precomputed(str(tmp_path / "all"))
    with pytest.raises(UsageError, match="Did you mean 'nnunet'"):
        Precomputed(str(mask), format="nnunett")
    some = Precomputed(str(mask), label_set="totalseg")
    with pytest.raises(InputError, match="values without a name: 21"):
        some.prepare(image)
    all_of = Precomputed(str(tmp_path / "all"), label_set="msk22")
    with pytest.raises(InputError, match=r"(?s)knee: has no mask.*knee_dseg.nii.gz"):
        all_of.prepare(replace(image, source={"case_id": "knee"}))
    with pytest.raises(InputError, match="has no case id"):
        all_of.prepare(replace(image, source={}))
    away = image.affine.copy()
    away[0, 3] += 5000
    with pytest.raises(GeometryError, match="shows another place"):
        all_of.prepare(replace(image, affine=away))


def test_masks_that_contradict_each_other_are_refused(image, labels, tmp_path):
    for name in ("femur_left", "hip_left"):
        save(tmp_path / "leg" / f"{name}.nii.gz", (labels > 0).astype(np.uint8), image.affine)
    with pytest.raises(InputError, match=r"lies to 100\.0 % in masks before it"):
        Precomputed(str(tmp_path)).prepare(image)


@pytest.fixture(scope="module")
def kit_mask(tmp_path_factory) -> str:
    """A mask of the kit's phantom."""
    given = phantoms.phantom()
    path = tmp_path_factory.mktemp("kit") / "phantom.nii.gz"
    return str(save(path, (phantoms.tissue(given.grid) == 2).astype(np.uint8), given.affine))


@pytest.fixture(autouse=True, scope="module")
def _kit_environment(kit_mask):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MSKT_TEST_MASK", kit_mask)
        yield


def of_kit() -> Precomputed:
    """Built from the mask that the environment names: the kit also builds in other processes."""
    import os

    return Precomputed(os.environ["MSKT_TEST_MASK"], label_set="msk22")


@parametrize_with_checks(of_kit, kind="segmenter")
def test_conformance(check, build):
    check(build)

"""``multi_atlas``: people of known shape, registered with people of a known other shape."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mskt.core.anatomy import label_set
from mskt.core.errors import InputError, UsageError
from mskt.core.interfaces import Region, ReportsPreparation
from mskt.core.pipeline import segment_case
from mskt.core.registry import registry
from mskt.core.volume import Grid, Volume
from mskt.plugins.baselines.multi_atlas import MultiAtlas, affine, fusion, hierarchy
from mskt.plugins.baselines.multi_atlas.placing import initial, place
from mskt.testing import parametrize_with_checks, phantoms
from mskt.training.losses import IGNORED

MSK22 = label_set("msk22")
NAMES = {2: "adductors", 3: "femur", 4: "femur"}
QUICK = {"spacing_mm": 8.0, "region_check": "off", "body_check": "off"}


def person(size: float, shift_mm: float = 0.0, shape=(44, 30, 12)) -> tuple[Volume, np.ndarray]:
    """The kit's legs, larger or smaller and moved, with their labels."""
    grid = Grid(shape, phantoms.centred_affine(shape, (8.0, 8.0, 8.0)))
    affine = grid.affine / np.array([[size], [size], [size], [1.0]])
    affine[0, 3] -= shift_mm
    kinds = phantoms.tissue(Grid(shape, affine))
    image = Volume(phantoms.hounsfield(Grid(shape, affine)), grid.affine, mask=kinds > 0)
    labels = np.zeros(shape, np.uint8)
    for kind, name in NAMES.items():
        labels[kinds == kind] = MSK22[name].index
    return image, labels


def write(folder: Path, name: str, image: Volume, labels: np.ndarray, names=("adductors", "femur")):
    folder.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(image.data.astype(np.int16), image.affine), folder / f"{name}.nii.gz")
    nib.save(nib.Nifti1Image(labels, image.affine), folder / f"{name}_dseg.nii.gz")
    rows = "".join(f"{MSK22[name].index}\t{name}\n" for name in names)
    (folder / f"{name}_dseg.tsv").write_text(f"index\tname\n{rows}")


@pytest.fixture(scope="module")
def atlases(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("atlases")
    for name, size, shift in (("small", 0.93, 6.0), ("large", 1.06, -5.0), ("same", 1.0, 10.0)):
        write(folder, name, *person(size, shift))
    return folder


@pytest.fixture(scope="module")
def segmenter(atlases) -> MultiAtlas:
    return MultiAtlas(str(atlases), **QUICK)


@pytest.fixture(scope="module")
def prepared(segmenter):
    image, labels = person(1.02)
    return image, labels, segmenter.prepare(image)[0]


def dice(found: np.ndarray, labels: np.ndarray, a: int, b: int) -> float:
    first, second = found == a, labels == b
    return 2 * float((first & second).sum()) / float(first.sum() + second.sum())


def test_another_person_is_segmented(segmenter):
    image, labels = person(1.02)
    estimator = registry().get("uncertainty", "deterministic")
    found = segment_case(image, segmenter, estimator).labels
    assert found.label_set.names == ("adductors", "femur")
    assert dice(found.data, labels, 1, MSK22["adductors"].index) > 0.93
    assert dice(found.data, labels, 2, MSK22["femur"].index) > 0.8


def test_registration_beats_the_start(segmenter, prepared):
    """Left where the affine laid it, an atlas that was bent would fit worse."""
    image, labels, work = prepared
    inside = labels > 0
    for n in range(3):
        agree = ((work.labels[n] > 0) == inside)[image.mask].mean()
        assert agree > 0.9


def test_threads_do_not_matter_and_progress_is_told(segmenter, prepared):
    image, _, work = prepared
    told: list[float] = []
    threads = torch.get_num_threads()
    assert isinstance(segmenter, ReportsPreparation)
    try:
        torch.set_num_threads(3)
        again = segmenter.prepare_reporting(image, told.append)[0]
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(again.labels, work.labels)
    np.testing.assert_array_equal(again.weights, work.weights)
    assert told == sorted(told) and told[-1] == pytest.approx(1.0)


def test_members_are_the_atlases_and_their_mean_is_the_majority(atlases):
    alone = MultiAtlas(str(atlases), members=True, fusion="majority", **QUICK)
    assert alone.tags.members == 3
    work = alone.prepare(person(1.02)[0])[0]
    box = Region((0, 0, 4), (*work.data.shape[:2], 8))
    draws = [alone.draw(work, box, index=n, seed=0) for n in range(4)]
    assert torch.equal(draws[3], draws[0]) and not torch.equal(draws[1], draws[0])
    said = torch.from_numpy((work.labels[:, :, :, 4:8] != IGNORED).all(axis=0))
    votes = fusion.fused(work.labels[..., 4:8], work.weights[..., 4:8], 3)
    assert torch.allclose(torch.stack(draws[:3]).mean(0)[:, said], votes[:, said], atol=1e-5)


def test_weighted_votes_follow_the_atlas_that_looks_alike():
    labels = np.array([1, 2, IGNORED], np.uint8).reshape(3, 1, 1, 1)
    weight = np.array([0.9, 0.1, 0.0], np.float16).reshape(3, 1, 1, 1)
    votes = fusion.fused(labels, weight, 3)[:, 0, 0, 0]
    assert votes.tolist() == pytest.approx([0.0, 0.9, 0.1], abs=1e-3)
    nobody = fusion.fused(np.full_like(labels, IGNORED), np.zeros_like(weight), 3)
    assert nobody[:, 0, 0, 0].tolist() == [1.0, 0.0, 0.0]


def test_a_part_is_laid_on_its_part():
    """Where the levels are not known the middle is; sizes and places come from the body."""
    whole, _ = person(1.0)
    moved, _ = person(1.1, 12.0)
    first = place(whole.data, whole.mask, (8.0, 8.0, 8.0), None)
    second = place(moved.data, moved.mask, (8.0, 8.0, 8.0), None)
    start = initial(first, second)
    middle = np.array([[21.5], [14.5], [5.5]]) * 8
    assert start.matrix[0, 0] == pytest.approx(1.1, abs=0.05)
    assert (start(middle) - middle)[0, 0] == pytest.approx(12 * 1.1, abs=6)
    assert start.shift[2] == pytest.approx(0.0, abs=1e-6)
    assert initial(first, second, 20.0).shift[2] == pytest.approx(20.0)


def test_affine_finds_what_was_done_and_takes_nothing_else():
    """A box with a bar through it, sheared, stretched and moved; then something unlike it."""
    step = (5.0, 5.0, 5.0)
    truth = affine.Affine(
        np.array([[1.1, 0.06, 0.0], [0.0, 0.92, 0.05], [0.0, -0.04, 1.08]]),
        np.array([-9.0, 14.0, 6.0]),
    )

    def solid(places: np.ndarray) -> np.ndarray:
        x, y, z = places
        body = (abs(x - 140) < 90) & (abs(y - 110) < 60) & (abs(z - 150) < 100)
        bar = (abs(x - 110) < 25) & (abs(y - 120) < 20) & (abs(z - 130) < 60)
        return np.where(bar, 300.0, np.where(body, 30.0, -400.0)).astype(np.float32)

    places = np.indices((56, 44, 60)).reshape(3, -1) * 5.0
    moving = solid(places).reshape(56, 44, 60)
    fixed = solid(truth(places)).reshape(56, 44, 60)
    still = affine.Affine(np.eye(3), np.zeros(3))
    found = affine.fitted(fixed, moving, step, still)
    within = places[:, fixed.ravel() > 0]
    away = np.linalg.norm(found(within) - truth(within), axis=0)
    assert away.mean() < 3.0 < np.linalg.norm(within - truth(within), axis=0).mean()
    nothing = affine.fitted(fixed, np.full_like(moving, -400), step, still)
    np.testing.assert_allclose(nothing.matrix, np.eye(3), atol=1e-9)
    far = affine.Affine(np.eye(3), np.array([0.0, 0.0, 5000.0]))
    assert affine.fitted(fixed, moving, step, far) is far


@given(
    seed=st.integers(0, 1000),
    shape=st.tuples(st.integers(1, 14), st.integers(1, 14), st.integers(1, 14)),
)
@settings(max_examples=15, deadline=None)
def test_affine_stays_within_its_bounds_whatever_it_sees(seed, shape):
    rng = np.random.default_rng(seed)
    fixed, moving = (rng.normal(0, 200, shape).astype(np.float32) for _ in range(2))
    found = affine.fitted(fixed, moving, (8.0,) * 3, affine.Affine(np.eye(3), np.zeros(3)))
    most = affine.STRETCH_MM / affine.RADIUS_MM
    assert np.abs(found.matrix - np.eye(3)).max() <= most + 1e-9


def test_the_start_that_looks_alike_is_taken():
    moving, _ = person(1.0, shape=(44, 30, 40))
    fixed = moving.data[:, :, 22:36]
    tries = [affine.Affine(np.eye(3), np.array([0.0, 0.0, 8.0 * n])) for n in (2, 10, 22, 39)]
    assert affine.best_start(fixed, moving.data, (8.0,) * 3, tries) is tries[2]


def test_what_no_atlas_shows_is_said(tmp_path):
    """A patient seen further than all atlases: nothing is found there, and a note tells."""
    write(tmp_path, "short", *person(1.0, shape=(44, 30, 12)))
    image, _ = person(1.0, shape=(44, 30, 30))
    work = MultiAtlas(str(tmp_path), **QUICK).prepare(image)[0]
    assert any("none of the 1 atlases shows" in note for note in work.notes)
    assert (work.labels[0, ..., :6][image.mask[..., :6]] == IGNORED).all()


def test_every_voxel_of_the_object_gets_its_nearest_structure():
    """Atlases that see a thin muscle beside the patient's would lose to the background."""
    labels = np.zeros((12, 4, 4), np.uint8)
    labels[2], labels[9], labels[11] = 1, 2, IGNORED
    whole = np.zeros(labels.shape, bool)
    whole[1:6] = True
    found = hierarchy.named(labels, whole, (4.0, 4.0, 4.0))[:, 0, 0].tolist()
    assert found == [0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, IGNORED]
    assert (hierarchy.named(labels * 0, whole, (4.0, 4.0, 4.0)) == 0).all()


def test_nobody_in_view_gives_background(segmenter):
    image, _ = person(1.0)
    empty = Volume(
        np.full_like(image.data, -1000), image.affine, mask=np.zeros(image.data.shape, bool)
    )
    work = segmenter.prepare(empty)[0]
    assert (segmenter.draw(work, segmenter.regions(work)[0], index=0, seed=0)[0] == 1).all()


def test_atlases_that_cannot_be_used_are_refused(atlases, tmp_path):
    with pytest.raises(UsageError, match=r"(?s)has no atlases.*atlases=PATH"):
        MultiAtlas()
    with pytest.raises(UsageError, match="nothing at this path"):
        MultiAtlas(str(tmp_path / "nothing"), **QUICK)
    image, labels = person(1.0)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="holds no image"):
        MultiAtlas(str(empty), **QUICK)
    write(tmp_path / "blank", "x", image, np.zeros_like(labels))
    with pytest.raises(InputError, match="no labelled voxel"):
        MultiAtlas(str(tmp_path / "blank"), **QUICK)
    bare = tmp_path / "bare"
    write(bare, "x", image, labels)
    (bare / "x_dseg.nii.gz").unlink()
    with pytest.raises(InputError, match="no label map that belongs"):
        MultiAtlas(str(bare), **QUICK)
    with pytest.raises(UsageError, match="not all of the 3 atlases tell gluteus_maximus"):
        MultiAtlas(str(atlases), label_set="msk22", **QUICK)


def test_atlases_with_other_labels_share_what_all_tell(tmp_path):
    image, labels = person(1.0)
    write(tmp_path / "both", "a", image, labels)
    femur = MSK22["femur"].index
    write(tmp_path / "both", "b", image, np.where(labels == femur, labels, 0), names=("femur",))
    assert MultiAtlas(str(tmp_path / "both"), **QUICK).label_set.names == ("femur",)
    only = np.where(labels == femur, 0, labels).astype(np.uint8)
    write(tmp_path / "apart", "a", image, only, names=("adductors",))
    write(tmp_path / "apart", "b", image, np.where(labels == femur, labels, 0), names=("femur",))
    with pytest.raises(InputError, match="no structure of 'msk22' in common"):
        MultiAtlas(str(tmp_path / "apart"), **QUICK)


@pytest.mark.parametrize(
    ("option", "value"),
    [("count", 0), ("count", "many"), ("fusion", "mean"), ("select", "best"), ("spacing_mm", 0.1)],
)
def test_options_that_are_none_are_named(atlases, option, value):
    with pytest.raises(UsageError, match=f"--option {option}"):
        MultiAtlas(str(atlases), **{option: value})


@pytest.fixture(autouse=True, scope="module")
def _kit_environment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kit")
    for name, size in (("a", 0.97), ("b", 1.04)):
        write(folder, name, *person(size, shape=(40, 26, 8)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MSKT_TEST_ATLASES", str(folder))
        yield


def of_kit() -> MultiAtlas:
    """Two small atlases as an ensemble; the kit also builds in other processes."""
    coarse = QUICK | {"spacing_mm": 12.0}
    return MultiAtlas(os.environ["MSKT_TEST_ATLASES"], members=True, **coarse)


@parametrize_with_checks(of_kit, kind="segmenter")
def test_conformance(check, build):
    check(build)

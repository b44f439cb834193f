"""Label maps become targets: exactly, or not at all; cases are read once, windows are repeatable."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import scans
from hypothesis import given, settings
from hypothesis import strategies as st

from mskt.core.anatomy import LabelSet, Structure, atoms, label_set, with_anatomy
from mskt.core.cases import find_cases
from mskt.core.errors import GeometryError, InputError
from mskt.core.volume import Labels, Volume
from mskt.synthesis.phantom import atom_label_set
from mskt.training import prepared
from mskt.training.annotated import AnnotatedStream
from mskt.training.body import body_mask
from mskt.training.prepared import Settings, prepare
from mskt.training.targets import translate

MSK22, TOTALSEG, THIGH30 = map(label_set, ("msk22", "totalseg", "thigh30"))
COARSE = Settings(MSK22, scans.SPACING)


def named(*names):
    return with_anatomy(
        LabelSet("own", tuple(Structure(i, name) for i, name in enumerate(names, start=1)))
    )


def test_totalsegmentator_cannot_tell_iliacus_from_psoas():
    found = translate(TOTALSEG, MSK22)
    assert found.known == (
        "gluteus_maximus", "gluteus_medius", "gluteus_minimus", "pelvis", "femur", "sacrum",
    )  # fmt: skip
    assert found.ignored == ("iliopsoas_left", "iliopsoas_right")
    assert found.table[TOTALSEG["iliopsoas_left"].index] == 255
    for side in ("left", "right"):
        index = TOTALSEG[f"gluteus_medius_{side}"].index
        assert found.table[index] == MSK22["gluteus_medius"].index


def test_a_finer_set_fills_a_coarser_one():
    found = translate(atom_label_set(), MSK22)
    assert found.known == MSK22.names
    assert not found.ignored
    assert found.table[ATOM["patella"]] == 0


ATOM = {name: atom.index for name, atom in atoms().items()}


def test_one_side_is_half_a_structure():
    found = translate(named("gluteus_medius_left", "sartorius_left", "sartorius_right"), MSK22)
    assert found.known == ("sartorius",)
    assert found.table[1:4].tolist() == [255, 14, 14]


def test_a_part_of_a_structure_is_not_the_structure():
    found = translate(named("adductor_longus", "adductor_brevis", "femur"), MSK22)
    assert found.known == ("femur",)
    assert found.table[1:4].tolist() == [255, 255, 21]


def test_strangers_are_background_and_ignore_is_ignored():
    found = translate(named("gluteus_medius", "bladder", "ignore"), MSK22)
    assert found.table[1:4].tolist() == [2, 0, 255]
    assert found.known == ("gluteus_medius",)


def test_names_mean_what_their_set_means():
    own = LabelSet("own", tuple(Structure(s.index, s.name) for s in THIGH30.structures))
    assert translate(with_anatomy(own), THIGH30).known == THIGH30.names
    told = translate(with_anatomy(own), MSK22)
    assert "iliacus" not in told.known  # thigh30 cuts the conjoint part off both
    assert told.table[own["iliacus"].index] == 255


@settings(deadline=None, max_examples=40)
@given(st.sets(st.sampled_from(sorted(atom_label_set().names)), min_size=1, max_size=30))
def test_known_structures_are_exact_whatever_is_annotated(names):
    """Against the definition, atom by atom: a known structure's target is its atoms, no more."""
    source = with_anatomy(atom_label_set().subset(names))
    found = translate(source, MSK22)
    everything = np.arange(256, dtype=np.uint8)
    truth = MSK22.from_atoms(everything)
    annotated = np.isin(everything, [s.index for s in source.structures])
    for structure in MSK22.structures:
        own = truth == structure.index
        if structure.name in found.known:
            assert annotated[own].all()
            assert np.array_equal(found.table == structure.index, own)
        else:
            assert not (found.table == structure.index).any()
            assert (found.table[own & annotated] == 255).all()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return scans.nnunet(tmp_path_factory.mktemp("data"), {"a": scans.scan(1), "b": scans.scan(2)})


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def test_a_case_on_its_own_grid_is_what_was_written(data, cache):
    found = prepare(find_cases([data])[0], COARSE, cache).whole()
    one = scans.scan(1)
    assert np.array_equal(found.target, one.labels(MSK22).data)
    assert np.abs(found.image - one.image.data).max() <= 1
    assert found.image.dtype == np.int16
    assert found.target.dtype == np.uint8
    assert found.body.dtype == bool


def test_another_spacing_keeps_the_volumes(data, cache):
    found = prepare(find_cases([data])[0], Settings(MSK22, (3.0, 5.0, 4.0)), cache).whole()
    one = scans.scan(1).labels(MSK22)
    for index in (1, 2, 21):
        mine = (found.target == index).sum() * 60.0
        assert mine == pytest.approx((one.data == index).sum() * 80.0, rel=0.12)


def test_any_orientation_gives_the_same_case(data, cache, tmp_path):
    one = scans.scan(1)
    flip = np.diag([-1.0, 1.0, -1.0, 1.0])
    flip[:3, 3] = [scans.SHAPE[0] - 1, 0, scans.SHAPE[2] - 1]
    turned = [
        array[::-1, :, ::-1].transpose(2, 1, 0)
        for array in (one.image.data, one.labels(MSK22).data)
    ]
    affine = (one.image.affine @ flip)[:, [2, 1, 0, 3]]
    scans.write_image(tmp_path / "x.nii.gz", Volume(turned[0], affine))
    scans.write_labels(tmp_path / "x_dseg.nii.gz", Labels(turned[1], affine, MSK22))
    scans.write_table(tmp_path / "dseg.tsv", MSK22)
    found = prepare(find_cases([tmp_path])[0], COARSE, cache).whole()
    assert np.array_equal(found.target, one.labels(MSK22).data)
    assert np.abs(found.image - one.image.data).max() <= 1


def test_the_cache_is_read_and_nothing_else(data, cache, monkeypatch):
    case = find_cases([data])[0]
    first = prepare(case, COARSE, cache)
    monkeypatch.setattr(prepared, "_read", None)
    monkeypatch.setattr(prepared.checksum, "of_input", None)
    assert prepare(case, COARSE, cache) == first


def test_a_killed_preparation_goes_on(data, tmp_path, monkeypatch):
    case = find_cases([data])[0]

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepared.atomic, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(case, COARSE, tmp_path)
    found = prepare(case, COARSE, tmp_path)
    (tmp_path / found.folder / "case.json").write_text('{"known": ')  # a damaged one too
    assert prepare(case, COARSE, tmp_path) == found


def test_settings_and_files_tell_cases_apart(data, cache):
    first, second = find_cases([data])
    found = [
        prepare(first, COARSE, cache),
        prepare(second, COARSE, cache),
        prepare(first, Settings(MSK22, (5.0, 5.0, 5.0)), cache),
        prepare(first, Settings(THIGH30, scans.SPACING), cache),
    ]
    assert len({one.folder for one in found}) == 4
    assert found[0].image_sha256 == found[3].image_sha256
    assert found[0].voxels_sha256 == found[3].voxels_sha256 != found[1].voxels_sha256


def test_a_full_disk(data, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepared.np, "save", full)
    with pytest.raises(Exception, match="the disk is full"):
        prepare(find_cases([data])[0], COARSE, tmp_path)


def test_windows_are_repeatable_and_follow_the_labels(data, cache):
    cases = tuple(prepare(case, COARSE, cache) for case in find_cases([data]))
    stream = AnnotatedStream(cases, MSK22, scans.SPACING, (24, 64, 8), seed=3)
    again = pickle.loads(pickle.dumps(stream))
    labelled = 0
    for number in range(12):
        first, second = stream.case(number), again.case(number)
        assert first.image.shape == first.target.shape == first.body.shape == (24, 36, 8)
        assert np.array_equal(first.image, second.image)
        assert np.array_equal(first.target, second.target)
        assert first.image.flags.owndata
        labelled += bool(((first.target > 0) & (first.target < 255)).any())
    assert labelled >= 9


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_each_epoch_shows_each_case_once(seed):
    class Whole(AnnotatedStream):
        def _window(self, chosen, rng):
            return chosen

    chosen = []
    cases = tuple(_Fake(name, chosen) for name in "abcde")
    stream = Whole(cases, MSK22, (1.0, 1.0, 1.0), (1, 1, 1), seed)
    for number in range(15):
        with pytest.raises(_Seen):
            stream.case(number)
    assert [sorted(chosen[i : i + 5]) for i in (0, 5, 10)] == [list("abcde")] * 3


class _Seen(Exception):
    pass


class _Fake:
    def __init__(self, name, chosen):
        self.name, self.chosen = name, chosen

    def whole(self):
        self.chosen.append(self.name)
        raise _Seen


def test_body_without_table_and_hands():
    image = np.full((80, 60, 6), -1000.0, np.float32)
    image[20:60, 15:45] = 40
    image[30:40, 25:35] = -900  # bowel gas
    image[10:70, 8:11] = 200  # a table top, 9 mm
    image[4:12, 25:33] = 30  # a hand
    mask = body_mask(image, (3.0, 3.0, 5.0))
    assert mask[35, 30].all()
    assert not mask[:, :11].any()
    assert not mask[:14].any()
    inside = np.zeros_like(mask)
    inside[20:60, 15:45] = True
    assert (mask & inside).sum() > 0.97 * inside.sum()
    assert not (mask & ~inside).any()


def test_body_of_an_image_of_air():
    assert body_mask(np.full((8, 8, 3), -1000.0, np.float32), (1.0, 1.0, 1.0)).all()


def test_a_label_map_on_another_grid(tmp_path, cache):
    one = scans.scan()
    moved = one.image.affine.copy()
    moved[2, 3] += 2.5
    scans.write_image(tmp_path / "x.nii.gz", one.image, moved)
    scans.write_labels(tmp_path / "x_dseg.nii.gz", one.labels(MSK22))
    scans.write_table(tmp_path / "dseg.tsv", MSK22)
    with pytest.raises(GeometryError, match=r"x_dseg.*another grid than its image x\.nii\.gz"):
        prepare(find_cases([tmp_path])[0], COARSE, cache)


def test_a_label_map_without_a_table(tmp_path, cache):
    one = scans.scan()
    scans.write_image(tmp_path / "x.nii.gz", one.image)
    scans.write_labels(tmp_path / "x_dseg.nii.gz", one.labels(MSK22))
    with pytest.raises(InputError, match=r"no table that names its values \(1, 2, 4, 9, 21\)"):
        prepare(find_cases([tmp_path])[0], COARSE, cache)


def test_values_outside_the_table(tmp_path, cache):
    one = scans.scan()
    scans.beside(tmp_path, {"x": one})
    scans.write_table(tmp_path / "dseg.tsv", MSK22.subset(["gluteus_maximus", "femur"]))
    with pytest.raises(InputError, match="values without a name: 2, 4, 9"):
        prepare(find_cases([tmp_path])[0], COARSE, cache)

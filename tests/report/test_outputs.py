"""Writing: whole or not at all, on the input's grid, with tables that say what is missing."""

import errno
import gzip
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from mskt.analysis.flags import OUTSIDE, FlagRow
from mskt.core import atomic, checksum
from mskt.core.anatomy import label_set
from mskt.core.errors import OutputError, UsageError
from mskt.core.records import Record
from mskt.core.volume import Labels
from mskt.report import collection, flagged, nifti, outputs, summary


def record(structure, side, metric, value, status="ok"):
    return Record("c", "", "s", "u", "r", structure, side, metric, value, "1", status)


def test_what_fails_while_writing_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    atomic.write_text(target, "old")
    with pytest.raises(RuntimeError), atomic.writing(target) as file:
        file.write(b"half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EACCES, "must not be written"),
        (errno.EIO, "cannot be"),
    ],
)
def test_what_the_system_refuses_is_explained(tmp_path, code, text):
    with pytest.raises(OutputError, match=text), atomic.writing(tmp_path / "a.txt"):
        raise OSError(code, "refused")


def test_sweep_takes_only_what_was_left(tmp_path):
    (tmp_path / ".a.nii.gz.123.part").write_bytes(b"")
    (tmp_path / "a.part").write_bytes(b"")
    assert atomic.sweep(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.part"]


@pytest.mark.parametrize("codes", [(1, 0), (0, 1), (4, 2), (0, 0)])
def test_codes_and_unit_of_the_input_are_kept(tmp_path, codes):
    affine = np.diag([-2.0, 2.0, 3.0, 1.0])
    source = {
        "format": "nifti",
        "sform_code": codes[0],
        "qform_code": codes[1],
        "affine": affine.tolist(),
        "xyzt_units": 10,
    }
    data = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    nifti.write(tmp_path / "x.nii.gz", data, affine, nifti.Intent("label", "x", "y", 23.0), source)
    image = nib.load(tmp_path / "x.nii.gz")
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == codes
    np.testing.assert_array_equal(np.asarray(image.dataobj), data)
    assert image.header.get_zooms() == (2.0, 2.0, 3.0)
    if any(codes):
        np.testing.assert_allclose(image.affine, affine)


def test_a_sheared_affine_is_written_as_it_came(tmp_path):
    sheared = np.array([[2.0, 0.01, 0, 5], [0, 2, 0.02, 6], [0, 0, 3, 7], [0, 0, 0, 1]])
    source = {
        "format": "nifti",
        "sform_code": 1,
        "qform_code": 0,
        "affine": sheared.tolist(),
        "xyzt_units": 2,
    }
    nifti.write(
        tmp_path / "x.nii.gz",
        np.zeros((2, 2, 2), np.uint8),
        np.diag([2.0, 2, 3, 1]),
        nifti.Intent("label", "x", "y", 1.0),
        source,
    )
    np.testing.assert_allclose(nib.load(tmp_path / "x.nii.gz").affine, sheared, atol=1e-6)


@pytest.mark.parametrize("order", ["C", "F"])
def test_gzip_holds_no_time_and_no_name(tmp_path, order):
    data = np.asarray(np.random.default_rng(0).random((5, 6, 7)), np.float32, order=order)
    for name in ("a", "b"):
        nifti.write(
            tmp_path / f"{name}.nii.gz", data, np.eye(4), nifti.Intent("estimate", "u", "", 1.0)
        )
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert b"a.nii" not in (tmp_path / "a.nii.gz").read_bytes()[:40]
    stored = nib.load(tmp_path / "a.nii.gz").get_fdata(dtype=np.float32)
    np.testing.assert_allclose(stored, data, rtol=2**-11)
    with gzip.open(tmp_path / "a.nii.gz") as stream:
        assert len(stream.read()) == 352 + data.nbytes


def test_rounding_keeps_zero_small_and_large():
    values = np.array([0.0, 1e-30, 1e-9, 0.1, 1.0, 6.55e4, 1e30], np.float32)
    kept = nifti.rounded(values)
    np.testing.assert_allclose(kept, values, rtol=2**-11)
    assert kept[0] == 0 and values[3] == np.float32(0.1)


def test_statistics_have_null_for_what_is_absent():
    found = outputs.statistics(
        [
            record("femur", "left", "volume", 2.0),
            record("femur", "left", "mean_hu", 300.0),
            record("femur", "both", "volume", 2.0),
            record("sacrum", "both", "volume", None, "absent_prediction"),
            record("hip_left", "left", "volume", 1.0),
        ]
    )
    assert found == {
        "femur_left": {"volume": 2000.0, "intensity": 300.0},
        "sacrum": {"volume": None, "intensity": None},
        "hip_left": {"volume": 1000.0, "intensity": None},
    }


def test_split_sides_keeps_voxels_without_a_side():
    labels = Labels(np.array([[[1, 1, 1, 22]]], np.uint8), np.eye(4), label_set("msk22"))
    split = outputs.split_sides(labels, np.array([[[1, 2, 0, 0]]], np.uint8))
    assert split.data.ravel().tolist() == [1, 101, 1, 22]
    assert split.label_set.by_index[1].name == "gluteus_maximus"
    assert split.label_set.by_index[2].name == "gluteus_medius_right"


def test_restrict_refuses_unknown_names():
    labels = Labels(np.array([[[1, 21]]], np.uint8), np.eye(4), label_set("msk22"))
    assert outputs.restrict(labels, ["femur"]).data.ravel().tolist() == [0, 21]
    with pytest.raises(UsageError, match="no structure named 'fimur'"):
        outputs.restrict(labels, ["fimur"])


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b"])
def test_a_case_must_be_able_to_name_a_folder(tmp_path, name):
    with pytest.raises(OutputError, match="cannot be the name"):
        outputs.CaseFolder(tmp_path, name)


def test_tables_hold_finished_cases_only_in_order(tmp_path):
    for name, done in (("b", True), ("a", True), ("half", False)):
        folder = outputs.CaseFolder(tmp_path, name)
        folder.begin()
        folder.write_records([record("femur", "left", "volume", 1.0)])
        if done:
            folder.finish({"run_id": "r", "seconds": {"total": 1.0}})
    outputs.CaseFolder(tmp_path, "c").fail("bad\nscan", 0.5, "r")
    collection.write_tables(tmp_path)
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 3
    assert (tmp_path / "cases.tsv").read_text().splitlines()[1:] == [
        "a\tdone\t\t1.0\tr",
        "b\tdone\t\t1.0\tr",
        "c\tfailed\tbad scan\t0.5\tr",
    ]


def test_beginning_again_makes_a_case_unfinished(tmp_path):
    folder = outputs.CaseFolder(tmp_path, "a")
    folder.begin()
    folder.finish({"x": np.float32(1), "path": tmp_path / "secret" / "name.txt"})
    assert json.loads((folder.path / "run.json").read_text()) == {"x": 1.0, "path": "name.txt"}
    folder.begin()
    assert folder.run() is None


def test_checksum_of_a_folder_ignores_names(tmp_path):
    for folder, names in (("a", "12"), ("b", "21")):
        (tmp_path / folder).mkdir()
        for content, name in zip((b"x", b"y"), names, strict=True):
            (tmp_path / folder / name).write_bytes(content)
    first, second = checksum.of_input(tmp_path / "a"), checksum.of_input(tmp_path / "b")
    assert first["sha256"] == second["sha256"] and first["files"] == 2 and first["bytes"] == 2


def test_summary_puts_the_most_doubtful_first():
    rows = []
    for structure, doubt, status in (("a", 1.0, "ok"), ("b", 4.0, "truncated"), ("d", 1.0, "ok")):
        rows += [
            record(structure, "left", "volume", 10.0, status),
            record(structure, "left", "fat_fraction", 0.25),
            record(structure, "left", "uncertainty", doubt),
        ]
    rows.append(record("c", "left", "volume", None, "absent_prediction"))
    found = summary.lines(rows)
    assert [line.structure for line in found] == ["b", "a", "d", "c"]
    assert found[0].flags == ("cut by the field of view", "look here first")
    assert found[0].ratio == 4.0 and found[1].fat_percent == 25.0
    assert found[-1].flags == ("not found",)


def flag(structure, side, word, predicted=None, lower=None):
    return FlagRow(structure, side, word, predicted, lower, 0.5, f"because\tof {word}")


def test_flags_of_finished_cases_are_put_together(tmp_path):
    for name, done in (("b", True), ("a", True), ("half", False), ("unjudged", True)):
        folder = outputs.CaseFolder(tmp_path, name)
        folder.begin()
        if name != "unjudged":
            folder.write_flags([flag("femur", "left", "ok", 0.9, 0.8)])
        if done:
            folder.finish({"run_id": "r"})
    collection.write_tables(tmp_path)
    header, *rows = (tmp_path / "flags.tsv").read_text().splitlines()
    assert header == "case_id\tstructure\tside\tflag\tpredicted_dice\tlower_bound\tdoubt\treason"
    assert rows == [f"{case}\tfemur\tleft\tok\t0.9\t0.8\t0.5\tbecause of ok" for case in "ab"]
    # Begun again without a calibration, nothing of the old flags is left.
    for name in "ab":
        folder = outputs.CaseFolder(tmp_path, name)
        folder.begin()
        folder.finish({"run_id": "r"})
    collection.write_tables(tmp_path)
    assert [path.parent.name for path in tmp_path.rglob("flags.tsv")] == ["half"]


def test_summary_puts_flagged_structures_first():
    rows = []
    for structure, doubt in (("a", 1.0), ("b", 4.0), ("c", 2.0), ("d", 3.0), ("e", 1.0)):
        rows += [
            record(structure, "left", "volume", 10.0),
            record(structure, "left", "uncertainty", doubt),
        ]
    words = {"a": "failed", "b": "ok", "c": "unknown", "d": "inaccurate", "e": "failed"}
    found = summary.lines(rows, [flag(s, "left", word, 0.8, 0.7) for s, word in words.items()])
    assert [line.structure for line in found] == ["a", "e", "d", "c", "b"]
    assert [line.judged for line in found] == ["failed", "failed", "inaccurate", "unknown", "ok"]
    assert found[0].flags == ("failed",)
    assert found[2].flags == ("inaccurate", "look here first")
    assert found[4].flags == ("look here first",), "places of doubt are counted before"
    assert (found[0].predicted, found[0].lower) == (0.8, 0.7)
    assert [line.structure for line in summary.lines(rows)] == ["b", "d", "c", "a", "e"]


def test_names_of_flagged_structures():
    rows = [
        flag("gluteus_maximus", "left", "failed"),
        flag("gluteus_maximus", "right", "failed"),
        flag("hip_left", "left", "failed"),
        flag("sacrum", "both", "inaccurate"),
        flag("femur", "right", "unknown"),
        flag("femur", "left", "ok"),
    ]
    told = flagged.remarks(rows, "c.json, 20 calibration cases", ["All were phantoms."])
    assert [(line.tone, line.text) for line in told] == [
        ("failed", "failed: gluteus maximus (both), hip left"),
        ("inaccurate", "inaccurate: sacrum"),
        ("unknown", "unknown: femur (right)"),
        ("warning", "All were phantoms."),
        ("quiet", "flags by c.json, 20 calibration cases; reasons in flags.tsv"),
    ]
    assert flagged.counted(rows) == "3 failed, 1 inaccurate, 1 unknown, 1 ok"
    assert flagged.remarks(rows[-1:], "c")[0].text == "no structure flagged"
    unknown = flagged.remarks(rows[-2:], "c")
    assert [line.text for line in unknown[:2]] == [
        "no structure flagged as failed or inaccurate",
        "unknown: femur (right)",
    ]


def test_what_is_not_in_view_is_no_unknown_of_the_picture():
    rows = [
        flag("femur", "right", "unknown"),
        *(
            replace(flag("gracilis", side, "unknown"), doubt=None, reason=OUTSIDE)
            for side in ("left", "right")
        ),
    ]
    told = flagged.remarks(rows, "c.json")
    assert [(line.tone, line.text) for line in told[1:3]] == [
        ("unknown", "unknown: femur (right)"),
        ("quiet", "not in view: gracilis (both)"),
    ]
    assert flagged.counted(rows) == "0 failed, 0 inaccurate, 1 unknown, 0 ok, 2 not in view"


def test_long_lists_of_names_are_cut_and_counted():
    many = [flag(f"m{n}", "both", "failed") for n in range(11)]
    assert flagged.remarks(many, "c")[0].text == (
        "failed: m0, m1, m2, m3, m4, m5, m6, m7 and 3 more"
    )
    assert flagged.remarks(many[:8], "c")[0].text.endswith("m6, m7")
    long = [flag("muscle_" * 11 + str(n), "both", "failed") for n in range(4)]
    (line, *_) = flagged.remarks(long, "c")
    assert line.text.endswith("and 2 more") and len(line.text) <= flagged.CHARACTERS

"""Folds are made of patients; nobody and no image is on both sides."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mskt.core.errors import InputError, UsageError
from mskt.training.splits import (
    Fold,
    Identity,
    LeakError,
    check_leaks,
    folds,
    leave_one_out,
    read_splits,
)

NAMES = st.sets(st.text("abcdef0123_-", min_size=1, max_size=6), min_size=2, max_size=25)


@settings(deadline=None, max_examples=40)
@given(NAMES, st.integers(2, 25), st.integers(0, 2**40), st.randoms())
def test_every_patient_validates_once_and_the_order_does_not_matter(patients, k, seed, random):
    k = min(k, len(patients))
    found = folds(patients, k, seed)
    held_out = [name for fold in found for name in fold.validation]
    assert sorted(held_out) == sorted(patients)
    for fold in found:
        assert {*fold.train} | {*fold.validation} == patients
        assert not {*fold.train} & {*fold.validation}
    sizes = [len(fold.validation) for fold in found]
    assert max(sizes) - min(sizes) <= 1
    shuffled = list(patients)
    random.shuffle(shuffled)
    assert folds(shuffled, k, seed) == found


def test_the_seed_decides():
    names = [f"p{n}" for n in range(20)]
    assert folds(names, 5, 1) != folds(names, 5, 2)


@settings(deadline=None, max_examples=40)
@given(NAMES)
def test_leave_one_out_leaves_each_out(patients):
    found = leave_one_out(patients)
    assert [fold.validation for fold in found] == [(name,) for name in sorted(patients)]
    assert all(len(fold.train) == len(patients) - 1 for fold in found)


@settings(deadline=None, max_examples=40)
@given(NAMES, st.integers(0, 99))
def test_a_file_gives_back_the_folds(tmp_path_factory, patients, seed):
    made = folds(patients, 2, seed)
    path = tmp_path_factory.mktemp("splits") / "splits_final.json"
    path.write_text(json.dumps([{"train": f.train, "val": f.validation} for f in made]))
    assert read_splits(path, patients) == made


def test_more_folds_than_patients():
    with pytest.raises(UsageError, match="6 folds need as many patients, but the data have 5"):
        folds("abcde", 6, 0)
    with pytest.raises(UsageError, match="1 is too few"):
        folds("abcde", 1, 0)
    with pytest.raises(UsageError, match="at least 2 patients"):
        leave_one_out(["a"])


def write(tmp_path, content):
    path = tmp_path / "splits.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_patient_on_both_sides_of_a_file(tmp_path):
    path = write(tmp_path, [{"train": ["a", "b"], "val": ["b"]}])
    with pytest.raises(LeakError, match="b: is in training and in validation"):
        read_splits(path, ["a", "b", "c"])


def test_cases_of_one_patient_on_both_sides_of_a_file(tmp_path):
    path = write(tmp_path, [{"train": ["x_1", "y_1"], "val": ["x_2"]}])
    of = {"x_1": "x", "x_2": "x", "y_1": "y"}
    with pytest.raises(LeakError, match="x: is in training"):
        read_splits(path, of)
    path = write(tmp_path, [{"train": ["x_1", "x_2"], "val": ["y_1"]}])
    assert read_splits(path, of) == (Fold(("x",), ("y",)),)


def test_a_stranger_in_a_file(tmp_path):
    path = write(tmp_path, [{"train": ["case_1"], "val": ["case_22"]}])
    with pytest.raises(InputError, match=re.compile("fold 0 names 'case_22'.*'case_2'", re.S)):
        read_splits(path, ["case_1", "case_2"])


@pytest.mark.parametrize(
    "content", ["[", "{}", "[]", '[{"train": ["a"]}]', '[{"train": ["a"], "val": []}]', "[[1]]"]
)
def test_files_that_are_no_list_of_folds(tmp_path, content):
    with pytest.raises(InputError, match=r"splits\.json"):
        read_splits(write(tmp_path, content), ["a", "b"])


def test_the_same_image_under_two_names():
    cases = [Identity("a.1", "a", "11"), Identity("b.1", "b", "22"), Identity("c.1", "c", "11")]
    check_leaks(Fold(("a", "c"), ("b",)), cases)
    with pytest.raises(LeakError, match=r"c\.1 and a\.1: are the same image"):
        check_leaks(Fold(("b", "c"), ("a",)), cases)


def test_a_side_without_patients():
    with pytest.raises(UsageError, match="no patient to validate"):
        Fold(("a",), ())

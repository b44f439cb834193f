"""The results table comes back as it was written."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mskt.core.errors import InputError
from mskt.core.records import COLUMNS, SIDES, STATUSES, Record, read_csv, sort_key, to_csv

FEW = settings(max_examples=40, deadline=None)
printable = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
records = st.builds(
    Record,
    printable,
    printable,
    printable,
    printable,
    printable,
    printable,
    st.sampled_from(SIDES),
    printable,
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    printable,
    st.sampled_from(STATUSES),
)
GOOD = Record("c", "d", "s", "u", "r", "femur", "left", "dice", 0.5, "1", "ok")


def read(tmp_path, text):
    path = tmp_path / "results.csv"
    path.write_bytes(text.encode())
    return read_csv(path)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return tmp_path_factory.mktemp("records") / "results.csv"


@given(st.lists(records, max_size=4))
@FEW
def test_round_trip(table, rows):
    path = table
    path.write_bytes(to_csv(rows).encode())
    found = read_csv(path)
    assert len(found) == len(rows)
    for old, new in zip(rows, found, strict=True):
        for column in COLUMNS:
            a, b = getattr(old, column), getattr(new, column)
            assert a == b or (column == "value" and math.isclose(a, b, rel_tol=1e-8))
    assert to_csv(found) == to_csv(rows), "what was read writes the same bytes"


def test_only_the_metrics_that_are_asked_for(tmp_path):
    other = replace(GOOD, metric="volume", value=None, status="truncated")
    path = tmp_path / "results.csv"
    path.write_text(to_csv([GOOD, other, GOOD]))
    assert read_csv(path, {"dice"}) == [GOOD, GOOD]
    assert read_csv(path, {"volume", "assd"}) == [other]
    assert read_csv(path, ()) == []


def test_a_line_that_is_cut_off_is_named_also_if_its_metric_is_passed_over(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text(to_csv([GOOD]) + "c,d,s\n")
    for metrics in (None, {"volume"}):
        with pytest.raises(InputError, match="line 3: cells are missing"):
            read_csv(path, metrics)


def test_header_and_line_ends():
    assert to_csv([]) == ",".join(COLUMNS) + "\n"
    assert "\r" not in to_csv([GOOD])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_none_are_refused(value):
    with pytest.raises(ValueError, match="use None"):
        Record(**{**{c: getattr(GOOD, c) for c in COLUMNS}, "value": value})


@pytest.mark.parametrize(("column", "text"), [("status", "missing"), ("side", "up")])
def test_unknown_words_are_refused(column, text):
    with pytest.raises(ValueError, match="is not one of"):
        Record(**{**{c: getattr(GOOD, c) for c in COLUMNS}, column: text})


def test_missing_columns_are_named(tmp_path):
    with pytest.raises(InputError, match="lacks the columns case_id"):
        read(tmp_path, "dataset,value\na,1\n")
    with pytest.raises(InputError, match="lacks the columns"):
        read(tmp_path, "")


@pytest.mark.parametrize(
    "line",
    [
        "c,d,s,u,r,femur,left,dice,many,1,ok",
        "c,d,s,u,r,femur,left,dice,nan,1,ok",
        "c,d,s,u,r,femur,left,dice,0.5,1,fine",
        "c,d,s,u,r,femur,left,dice",
    ],
)
def test_damaged_lines_are_named(tmp_path, line):
    with pytest.raises(InputError, match="line 3"):
        read(tmp_path, to_csv([GOOD]) + line + "\n")


def test_text_that_is_no_utf8_is_refused(tmp_path):
    path = tmp_path / "results.csv"
    path.write_bytes(to_csv([GOOD]).encode() + b"\xff\xfe\n")
    with pytest.raises(InputError):
        read_csv(path)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"results\.csv"):
        read_csv(tmp_path / "results.csv")


def test_order_is_by_case_then_method():
    other = Record("a", "d", "s", "u", "r", "femur", "left", "dice", 0.5, "1", "ok")
    assert sorted([GOOD, other], key=sort_key) == [other, GOOD]

"""Many cases together: nothing that is missing disappears."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from mskt.analysis.aggregates import COLUMNS, aggregate, diagonal_mm, to_tsv
from mskt.core.records import Record
from mskt.core.volume import Grid


def row(
    case: str, metric: str, value: float | None, status: str = "ok", unit: str = "mm"
) -> Record:
    return Record(case, "", "", "", "", "femur", "left", metric, value, unit, status)


def test_missed_structures_count_as_the_diagonal() -> None:
    rows = [
        row("a", "assd", 1.0),
        row("b", "assd", 3.0, "truncated"),
        row("c", "assd", None, "absent_prediction"),
        row("d", "assd", None, "absent_reference"),
        row("e", "assd", None, "not_in_label_set"),
    ]
    (found,) = aggregate(rows, {"a": 500.0, "b": 500.0, "c": 600.0})
    assert (found.cases, found.defined) == (5, 2)
    assert found.statuses == {
        "truncated": 1,
        "absent_prediction": 1,
        "absent_reference": 1,
        "not_in_label_set": 1,
    }
    assert (found.mean, found.median) == (2.0, 2.0)
    assert found.sd == pytest.approx(statistics.stdev([1.0, 3.0]))
    assert found.mean_misses_as_diagonal == pytest.approx((1 + 3 + 600) / 3)


def test_finding_less_never_improves_the_second_mean() -> None:
    good, bad = row("a", "hd", 2.0), row("b", "hd", 90.0)
    missed = row("b", "hd", None, "absent_prediction")
    (before,), (after,) = (
        aggregate(rows, {"a": 700.0, "b": 700.0}) for rows in ([good, bad], [good, missed])
    )
    assert after.mean < before.mean
    assert after.mean_misses_as_diagonal > before.mean_misses_as_diagonal


def test_only_distances_have_the_second_mean() -> None:
    (found,) = aggregate([row("a", "dice", 0.9, unit="1")], {"a": 700.0})
    assert found.mean_misses_as_diagonal is None
    (unknown,) = aggregate([row("a", "hd", None, "absent_prediction")], {})
    assert unknown.mean is unknown.mean_misses_as_diagonal is unknown.sd is None


def test_table_has_empty_cells_for_what_does_not_exist() -> None:
    text = to_tsv(
        aggregate(
            [row("a", "dice", 0.25, unit="1"), row("a", "hd", None, "absent_both")], {"a": 1.0}
        )
    )
    header, dice, hd = (line.split("\t") for line in text.splitlines())
    assert header == list(COLUMNS)
    cells = dict(zip(header, dice, strict=True))
    assert (cells["mean"], cells["sd"], cells["defined"], cells["absent_both"]) == (
        "0.25",
        "",
        "1",
        "0",
    )
    cells = dict(zip(header, hd, strict=True))
    assert (cells["mean"], cells["absent_both"], cells["mean_misses_as_diagonal"]) == ("", "1", "")


def test_diagonal() -> None:
    assert diagonal_mm(Grid((30, 40, 10), np.diag([1.0, 1.0, -12.0, 1.0]))) == pytest.approx(130.0)

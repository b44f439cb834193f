"""Predictions against references of the same and of other label sets."""

from __future__ import annotations

import numpy as np
import pytest

from mskt.analysis.assessment import Keys
from mskt.analysis.common import common_structures
from mskt.analysis.evaluation import compare, cropped, metrics_of, on_grid
from mskt.analysis.recoding import any_sided, renumber
from mskt.core.anatomy import (
    LabelSet,
    Structure,
    anonymous_label_set,
    known_structures,
    label_set,
)
from mskt.core.errors import GeometryError, UsageError
from mskt.core.interfaces import LabelPair, Measurement, Metric, MetricInfo
from mskt.core.records import Record
from mskt.core.registry import Registry
from mskt.core.volume import Grid, Labels, Volume
from mskt.plugins.metrics.overlap import Overlap
from mskt.plugins.metrics.surface import Surface

KEYS = Keys("case")
METRICS = [Overlap(), Surface()]
MSK22, THIGH10, TOTALSEG = (label_set(name) for name in ("msk22", "thigh10", "totalseg"))
SHAPE = (40, 12, 14)
AFFINE = np.diag([5.0, 5.0, 5.0, 1.0])
AFFINE[:3, 3] = -97.5, -30, -35
COLUMNS = ["dice", "ave", "ravd", "assd", "hd", "hd95", "nsd"]


def put(names: LabelSet, *what: tuple[str, int, int], shape: tuple[int, ...] = SHAPE) -> Labels:
    """Boxes (structure, x from, x to) in the middle of a volume; +x is right."""
    data = np.zeros(shape, np.uint8)
    for name, start, stop in what:
        data[start:stop, 3:9, 3:11] = names[name].index
    return Labels(data, AFFINE, names)


def table(records: list[Record]) -> dict[tuple[str, str, str], Record]:
    found = {(r.structure, r.side, r.metric): r for r in records}
    assert len(found) == len(records)
    return found


LEGS = (
    ("femur", 6, 10),
    ("femur", 30, 34),
    ("vastus_medialis", 13, 16),
    ("vastus_medialis", 24, 27),
)


def test_equal_masks_are_perfect_on_both_sides_in_the_order_of_the_set() -> None:
    mask = put(MSK22, *LEGS)
    records = compare(mask, mask, METRICS, keys=KEYS)
    order = [(r.structure, r.side) for r in records[:: len(COLUMNS)]]
    assert order == [
        (s.name, side)
        for s in MSK22.structures
        for side in (("left", "right", "both") if s.side == "both" else ("both",))
    ]
    assert [r.metric for r in records[: len(COLUMNS)]] == COLUMNS
    rows = table(records)
    for name in ("femur", "vastus_medialis"):
        for side in ("left", "right", "both"):
            assert [rows[name, side, m].value for m in COLUMNS] == [1, 0, 0, 0, 0, 0, 1]
            assert {rows[name, side, m].status for m in COLUMNS} == {"ok"}
    assert rows["sacrum", "both", "dice"].status == "absent_both"


def test_sides_are_measured_apart() -> None:
    reference = put(MSK22, *LEGS)
    prediction = put(MSK22, ("femur", 6, 10), ("femur", 31, 35), *LEGS[2:])
    rows = table(compare(prediction, reference, METRICS, keys=KEYS))
    assert rows["femur", "left", "dice"].value == 1.0
    assert rows["femur", "right", "dice"].value == pytest.approx(0.75)
    assert rows["femur", "both", "dice"].value == pytest.approx(0.875)
    assert rows["femur", "right", "hd"].value == pytest.approx(5.0)
    assert rows["femur", "left", "hd"].value == 0.0


def test_missed_and_invented_structures() -> None:
    reference = put(MSK22, *LEGS)
    prediction = put(MSK22, *LEGS[:3], ("sacrum", 18, 22))
    rows = table(compare(prediction, reference, METRICS, keys=KEYS))
    missed = {m: rows["vastus_medialis", "right", m] for m in COLUMNS}
    assert {r.status for r in missed.values()} == {"absent_prediction"}
    assert (missed["dice"].value, missed["nsd"].value, missed["ravd"].value) == (0.0, 0.0, -100.0)
    assert missed["assd"].value is missed["hd"].value is missed["hd95"].value is None
    invented = {rows["sacrum", "both", m] for m in COLUMNS}
    assert {(r.value, r.status) for r in invented} == {(None, "absent_reference")}


def test_structures_at_the_border_are_marked() -> None:
    reference = put(MSK22, *LEGS)
    reference.data[30:34, 3:9, 0] = MSK22["femur"].index
    rows = table(compare(put(MSK22, *LEGS), reference, METRICS, keys=KEYS))
    assert rows["femur", "right", "dice"].status == "truncated"
    assert 0.9 < rows["femur", "right", "dice"].value < 1
    assert rows["femur", "left", "dice"].status == "ok"


def test_other_label_sets_meet_on_what_both_can_express() -> None:
    reference = put(
        MSK22,
        ("iliacus", 6, 8),
        ("psoas_major", 8, 10),
        ("iliacus", 32, 34),
        ("psoas_major", 30, 32),
        ("gracilis", 14, 16),
        ("gracilis", 24, 26),
    )
    prediction = put(TOTALSEG, ("iliopsoas_left", 6, 10), ("iliopsoas_right", 30, 34))
    records = compare(prediction, reference, METRICS, keys=KEYS)
    rows = table(records)
    for side in ("left", "right", "both"):
        assert rows["iliacus+psoas_major", side, "dice"].value == 1.0
    for side in ("left", "right", "both"):
        assert {
            (rows["gracilis", side, m].value, rows["gracilis", side, m].status) for m in COLUMNS
        } == {(None, "not_in_label_set")}
    assert ("iliacus", "both", "dice") not in rows
    assert not any(r.status == "absent_prediction" for r in records)


def test_a_smaller_set_is_not_blamed_for_what_it_cannot_name() -> None:
    rows = table(compare(put(THIGH10, *LEGS[2:]), put(MSK22, *LEGS), METRICS, keys=KEYS))
    assert rows["femur", "both", "dice"].status == "not_in_label_set"
    assert rows["vastus_medialis", "both", "dice"].value == 1.0


def test_sides_of_one_map_help_the_other() -> None:
    """A reference with one femur only does not say which; the prediction shows the midline."""
    reference = put(MSK22, LEGS[0])
    rows = table(compare(put(MSK22, *LEGS), reference, METRICS, keys=KEYS))
    assert rows["femur", "left", "dice"].value == 1.0
    assert rows["femur", "right", "dice"].status == "absent_reference"


def test_user_structures_are_matched_by_name() -> None:
    own = LabelSet("mine", (Structure(7, "implant", side="midline"), known_structures()["femur"]))
    other = LabelSet("theirs", (Structure(9, "implant", side="midline"),))
    rows = table(
        compare(put(other, ("implant", 3, 5)), put(own, ("implant", 3, 5)), METRICS, keys=KEYS)
    )
    assert rows["implant", "both", "dice"].value == 1.0
    assert rows["femur", "left", "dice"].status == "not_in_label_set"


def test_unnamed_labels_have_no_sides() -> None:
    names = anonymous_label_set([1, 4])
    mask = put(names, ("label_1", 6, 10), ("label_1", 30, 34), ("label_4", 15, 20))
    records = compare(mask, mask, METRICS, keys=KEYS)
    assert {(r.structure, r.side) for r in records} == {("label_1", "both"), ("label_4", "both")}


def test_a_label_that_one_unnamed_map_lacks_is_absent_there() -> None:
    one, two = anonymous_label_set([1]), anonymous_label_set([2])
    rows = table(
        compare(put(two, ("label_2", 6, 10)), put(one, ("label_1", 6, 10)), METRICS, keys=KEYS)
    )
    assert rows["label_1", "both", "dice"].status == "absent_prediction"
    assert rows["label_2", "both", "dice"].status == "absent_reference"


@pytest.mark.parametrize("most", [63, 64, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("layout", ["C", "F"])
def test_labels_and_sides_are_looked_up_whatever_way(
    most: int, dtype: type[np.unsignedinteger], layout: str
) -> None:
    rng = np.random.default_rng(most)
    labels = np.array(rng.integers(0, most + 1, (9, 10, 11)), np.uint8, order=layout)
    labels[0, 0, 0] = most
    sides = np.array(rng.integers(0, 3, labels.shape), np.uint8)  # of another order
    table = rng.integers(0, np.iinfo(dtype).max, 768).astype(dtype)
    np.testing.assert_array_equal(renumber(table[:256], labels), table[labels])
    found = renumber(table, labels, sides)
    np.testing.assert_array_equal(found, table.reshape(3, 256)[sides, labels])
    assert found.dtype == dtype


def test_a_pair_is_sided_if_one_map_shows_it_or_nothing_is_paired() -> None:
    paired = np.zeros(256, bool)
    paired[1] = True
    labels, sides = np.zeros((2, 3, 4, 5), np.uint8), np.zeros((2, 3, 4, 5), np.uint8)
    assert any_sided(paired, labels, sides)
    labels[0, 1, 1, 1] = 2
    sides[0, 1, 1, 1] = 1  # of a structure that does not come in pairs
    assert any_sided(paired, labels, sides)
    labels[1, 2, 2, 2] = 1
    assert not any_sided(paired, labels, sides)
    sides[1, 2, 2, 2] = 2
    assert any_sided(paired, labels, sides)


def test_cropped_keeps_every_voxel_and_its_place() -> None:
    rng = np.random.default_rng(3)
    data = np.zeros(SHAPE, np.uint8)
    data[5:9, 2:4, 6:11] = rng.integers(0, 3, (4, 2, 5))
    data[6, 3, 7] = 1
    found, sides = cropped(Labels(data, AFFINE, MSK22), data * 2)
    assert found.data.size <= 40
    np.testing.assert_array_equal(sides, found.data * 2)
    whole, part = (
        sorted(map(tuple, np.argwhere(m.data) @ m.affine[:3, :3].T + m.affine[:3, 3]))
        for m in (Labels(data, AFFINE, MSK22), found)
    )
    np.testing.assert_allclose(whole, part)
    empty = Labels(np.zeros(SHAPE, np.uint8), AFFINE, MSK22)
    assert cropped(empty, data)[0] is empty


def test_nearest_labels_on_another_grid() -> None:
    coarse = put(MSK22, *LEGS)
    fine_affine = AFFINE @ np.diag([0.5, -1.0, 0.5, 1.0])
    fine_affine[:3, 3] = AFFINE[:3, 3] + [-1.25, 5.0 * (SHAPE[1] - 1), -1.25]
    fine = np.repeat(np.repeat(coarse.data, 2, axis=0), 2, axis=2)[:, ::-1]
    found = on_grid(coarse, Grid(fine.shape, fine_affine))
    np.testing.assert_array_equal(found.data, fine)
    assert found.label_set is MSK22


def test_names_against_numbers_is_refused() -> None:
    with pytest.raises(UsageError, match="--reference-label-set"):
        common_structures(MSK22, anonymous_label_set([1]))


def test_another_grid_is_refused_with_numbers() -> None:
    prediction = put(MSK22, *LEGS)
    moved = AFFINE.copy()
    moved[0, 3] += 2
    with pytest.raises(GeometryError, match=r"-97\.50.*-95\.50.*\n.*--resample-prediction"):
        compare(prediction, Labels(prediction.data, moved, MSK22), METRICS, keys=KEYS)
    with pytest.raises(GeometryError, match="40×12×14"):
        compare(prediction, put(MSK22, shape=(40, 12, 15)), METRICS, keys=KEYS)


def test_error_of_the_mean_hu() -> None:
    hu = np.arange(SHAPE[0], dtype=np.float32)[:, None, None] * np.ones(SHAPE, np.float32)
    image = Volume(hu, AFFINE)
    reference = put(MSK22, *LEGS)
    prediction = put(MSK22, ("femur", 6, 10), ("femur", 31, 35), LEGS[2])
    rows = table(compare(prediction, reference, METRICS, keys=KEYS, image=image))
    assert rows["femur", "right", "aie"].value == pytest.approx(1.0)
    assert rows["femur", "left", "aie"].value == 0.0
    assert rows["femur", "both", "aie"].value == pytest.approx(0.5)
    assert rows["vastus_medialis", "right", "aie"].status == "absent_prediction"
    assert rows["sacrum", "both", "aie"].status == "absent_both"
    assert rows["femur", "right", "aie"].unit == "HU"


def test_empty_masks_are_compared_too() -> None:
    empty = put(MSK22)
    records = compare(empty, empty, METRICS, keys=KEYS)
    assert len(records) == (21 * 3 + 1) * len(COLUMNS)
    assert {(r.value, r.status) for r in records} == {(None, "absent_both")}


class Voxels(Metric):
    infos = (MetricInfo("voxels", "1", "none"),)

    def measure(self, pair: LabelPair):
        for index in pair.indices:
            yield Measurement(index, "voxels", float((pair.prediction == index).sum()), "1")


def test_metrics_of_other_plugins_stand_behind_the_own_ones() -> None:
    mask = put(MSK22, *LEGS)
    rows = compare(mask, mask, [Overlap(), Voxels()], keys=KEYS)
    assert [r.metric for r in rows[:4]] == ["dice", "ave", "ravd", "voxels"]
    assert table(rows)["femur", "left", "voxels"].value == 4 * 6 * 8


def test_installed_families_get_the_tolerance() -> None:
    from importlib.metadata import EntryPoint

    point = EntryPoint("metrics", "mskt.plugins.metrics", "mskt")
    overlap, surface = metrics_of(Registry([point]), tolerance_mm=3.5)
    assert isinstance(overlap, Overlap)
    assert surface.tolerance_mm == 3.5

"""Volume, density, composition and uncertainty, against plain NumPy over each mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mskt.analysis.assessment import Doubt, Keys, assess
from mskt.core.anatomy import LabelSet, Structure, anonymous_label_set, label_set
from mskt.core.errors import GeometryError
from mskt.core.records import Record
from mskt.core.volume import Labels, Subject, Volume

KEYS = Keys("case", "data", "net", "variance", "run")
NAMES = LabelSet(
    "test",
    (
        Structure(3, "muscle"),
        Structure(1, "spine", side="midline"),
        Structure(255, "hip_left", side="left"),
    ),
)
AFFINE = np.diag([-0.5, 2.0, 3.0, 1.0])
SIDES_OF = {"muscle": ("left", "right", "both"), "spine": ("both",), "hip_left": ("left",)}
CODES = {"left": [2], "right": [1], "both": [0, 1, 2]}
METRICS = (
    "volume",
    "normalized_volume",
    "mean_hu",
    "sd_hu",
    "fat_fraction",
    "mixed_fraction",
    "lean_fraction",
    "uncertainty",
)


def expected(mask: np.ndarray, hu: np.ndarray, doubt: np.ndarray) -> dict[str, float]:
    inside = hu[mask].astype(np.float64)
    return {
        "volume": inside.size * 0.003,
        "normalized_volume": inside.size * 0.003 / 1.6**2,
        "mean_hu": inside.mean(),
        "sd_hu": inside.std(),
        "fat_fraction": (inside < -30).mean(),
        "mixed_fraction": ((inside >= -30) & (inside <= 30)).mean(),
        "lean_fraction": (inside > 30).mean(),
        "uncertainty": doubt[mask].astype(np.float64).mean(),
    }


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_agrees_with_plain_numpy_in_a_fixed_order(data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=5))
    draw = lambda dtype, values: data.draw(hnp.arrays(dtype, shape, elements=values))  # noqa: E731
    labels = draw(np.uint8, st.sampled_from([0, 1, 3, 255, 7]))
    sides = draw(np.uint8, st.integers(0, 2))
    hu = draw(np.float32, st.sampled_from([-1024, -31, -30, -29.5, 0, 30, 30.5, 71, 1900]))
    doubt = draw(np.float32, st.floats(0, 1, width=32))
    order = data.draw(st.permutations(range(3)))
    arrays = [array.transpose(order) for array in (labels, sides, hu, doubt)]
    labels, sides, hu, doubt = arrays
    if not (sides[labels == 3] > 0).any():
        sides[labels == 3] = 1
    copies = [array.copy() for array in arrays]
    records = assess(
        Labels(labels, AFFINE, NAMES),
        Volume(hu, AFFINE, subject=Subject(1.6)),
        sides,
        Doubt(doubt, "bit"),
        keys=KEYS,
    )
    for array, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
    rows = iter(records)
    for structure in NAMES.structures:
        for side in SIDES_OF[structure.name]:
            codes = [0, 1, 2] if structure.name == "hip_left" else CODES[side]
            mask = (labels == structure.index) & np.isin(sides, codes)
            values: dict[str, Any] = expected(mask, hu, doubt) if mask.any() else {}
            for metric in METRICS:
                row = next(rows)
                assert (row.structure, row.side, row.metric) == (structure.name, side, metric)
                assert row.status == ("ok" if mask.any() else "absent_prediction")
                if mask.any():
                    assert row.value == pytest.approx(values[metric], abs=1e-6, rel=1e-6)
                else:
                    assert row.value is None
    assert next(rows, None) is None


def small(**image: Any) -> tuple[Labels, Volume, np.ndarray]:
    labels = np.zeros((4, 2, 2), np.uint8)
    labels[:2] = 3
    sides = np.zeros_like(labels)
    sides[0], sides[1] = 1, 2
    return (
        Labels(labels, AFFINE, NAMES),
        Volume(np.full(labels.shape, 50, np.float32), AFFINE, **image),
        sides,
    )


def by_place(records: list[Record]) -> dict[tuple[str, str, str], Record]:
    return {(r.structure, r.side, r.metric): r for r in records}


def test_keys_and_units_stand_in_every_row() -> None:
    labels, image, sides = small(subject=Subject(2.0))
    records = assess(labels, image, sides, Doubt(image.data, "nat"), keys=KEYS)
    assert {(r.case_id, r.dataset, r.segmenter, r.uncertainty, r.run_id) for r in records} == {
        ("case", "data", "net", "variance", "run")
    }
    assert {r.metric: r.unit for r in records} == {
        "volume": "cm3",
        "normalized_volume": "cm3/m2",
        "mean_hu": "HU",
        "sd_hu": "HU",
        "fat_fraction": "1",
        "mixed_fraction": "1",
        "lean_fraction": "1",
        "uncertainty": "nat",
    }


def test_what_is_not_known_is_left_out() -> None:
    labels, image, sides = small()
    assert {r.metric for r in assess(labels, image, sides, keys=KEYS)} == {
        "volume",
        "mean_hu",
        "sd_hu",
        "fat_fraction",
        "mixed_fraction",
        "lean_fraction",
    }
    assert {r.metric for r in assess(labels, None, sides, keys=KEYS)} == {"volume"}


def test_a_part_in_view_has_a_density_but_no_volume() -> None:
    labels, image, sides = small()
    rows = by_place(
        assess(labels, image, sides, keys=KEYS, truncated={(3, "left"), (3, "both"), (1, "both")})
    )
    assert rows["muscle", "left", "volume"].status == "truncated"
    assert rows["muscle", "left", "volume"].value is None
    assert rows["muscle", "left", "mean_hu"].status == "truncated"
    assert rows["muscle", "left", "mean_hu"].value is not None
    assert rows["muscle", "right", "volume"].status == "ok"
    assert rows["muscle", "right", "volume"].value is not None
    assert rows["muscle", "both", "volume"].status == "truncated"
    assert rows["spine", "both", "volume"].status == "truncated"  # it may lie beyond


def test_sides_that_are_not_known_are_not_called_absent() -> None:
    labels, image, sides = small()
    records = assess(labels, image, np.zeros_like(sides), keys=KEYS)
    assert {r.side for r in records if r.structure == "muscle"} == {"both"}
    values = np.array([[[0, 2]]], np.uint8)
    unnamed = Labels(values, AFFINE, anonymous_label_set([2]))
    rows = assess(unnamed, None, np.zeros_like(values), keys=KEYS)
    assert [(r.structure, r.side, r.status) for r in rows] == [("label_2", "both", "ok")]


def test_an_empty_map_lacks_every_structure_on_every_side() -> None:
    names = label_set("msk22")
    empty = np.zeros((2, 3, 4), np.uint8)
    records = assess(Labels(empty, AFFINE, names), None, empty, keys=KEYS)
    assert len(records) == 21 * 3 + 1
    assert {(r.value, r.status) for r in records} == {(None, "absent_prediction")}


def test_sums_are_exact_for_many_bright_voxels() -> None:
    labels = np.ones((100, 100, 100), np.uint8)
    hu = np.full(labels.shape, 3000.1, np.float32)
    rows = by_place(
        assess(Labels(labels, AFFINE, NAMES), Volume(hu, AFFINE), labels * 0, keys=KEYS)
    )
    assert rows["spine", "both", "mean_hu"].value == pytest.approx(
        float(np.float32(3000.1)), rel=1e-12
    )
    assert rows["spine", "both", "sd_hu"].value == pytest.approx(0, abs=1e-2)


def test_arrays_of_another_shape_are_refused() -> None:
    labels, image, sides = small()
    with pytest.raises(GeometryError, match="uncertainty map"):
        assess(labels, image, sides, Doubt(image.data[:1]), keys=KEYS)
    with pytest.raises(GeometryError, match="sides"):
        assess(labels, image, sides[:1], keys=KEYS)


def test_what_one_pass_cannot_say_is_undefined_and_intervals_enclose_the_value():
    """The same structure after one draw and after three: rows stay, values come."""
    import torch

    from mskt.core.interfaces import Estimate, Region
    from mskt.core.recorder import Recorder
    from mskt.core.structurewise import structurewise

    shape = (6, 6, 6)
    labels = np.zeros(shape, np.uint8)
    labels[1:5, 1:5, 1:5] = 1
    hu = np.random.default_rng(0).normal(50, 9, shape).astype(np.float32)
    image = Volume(hu, AFFINE)

    def rows(draws):
        recorder, whole = Recorder(image, 2), Region((0, 0, 0), shape)
        stack = [torch.from_numpy(np.stack([1 - d, d])).float() for d in draws]
        list(recorder.watched(whole, stack))
        mean = torch.stack(stack).mean(0)
        recorder.add(whole, Estimate(mean, 1 - mean.amax(0)), "spread")
        doubt = Doubt(
            np.zeros(shape, np.float32),
            measure="spread",
            aggregation="pairwise_dice",
            structures=structurewise([recorder], labels, labels * 0, image.grid),
        )
        names = LabelSet("one", (Structure(1, "muscle", side="midline"),))
        found = assess(Labels(labels, AFFINE, names), image, labels * 0, doubt, keys=KEYS)
        return {row.metric: row for row in found}

    smaller = labels.copy()
    smaller[1] = 0
    one, three = rows([labels]), rows([labels, smaller, labels])
    assert one.keys() == three.keys()
    spread = {"volume_lower", "volume_upper", "mean_hu_lower", "uncertainty"}
    for name in spread:
        assert (one[name].value, one[name].status) == (None, "undefined")
        assert three[name].status == "ok"
    for name in ("volume", "mean_hu"):
        low, high = three[f"{name}_lower"].value, three[f"{name}_upper"].value
        assert low < three[name].value < high
    assert three["uncertainty"].value == three["uncertainty:pairwise_dice"].value > 0

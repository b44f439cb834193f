"""Every metric against a brute-force computation, and against MedPy where it means the same."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from mskt.core.errors import UsageError
from mskt.core.interfaces import LabelPair
from mskt.plugins.metrics import borders, engine, kernels, mskt_metric
from mskt.plugins.metrics.overlap import Overlap
from mskt.plugins.metrics.surface import Surface
from mskt.testing.brute_force import all_of

TOLERANCE_MM = 2.0
INDICES = (1, 2, 7)


def brute_force(
    prediction: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, ...]
) -> dict[str, float | None]:
    """All metrics of two masks, voxel by voxel and pair by pair."""
    p, r = int(prediction.sum()), int(reference.sum())
    values: dict[str, float | None] = dict.fromkeys(
        ("dice", "ave", "ravd", "assd", "hd", "hd95", "nsd")
    )
    if r:
        values["dice"] = 2 * int((prediction & reference).sum()) / (p + r)
        values["ravd"] = (p - r) / r * 100
        values["ave"] = abs(p - r) / r * 100
        values["nsd"] = None if p else 0.0
    if not (p and r):
        return values
    a, b = (border(mask) * np.asarray(spacing_mm) for mask in (prediction, reference))
    distances = np.sqrt(((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=2))
    forth, back = distances.min(axis=1), distances.min(axis=0)
    values["assd"] = (forth.sum() + back.sum()) / (len(forth) + len(back))
    values["hd"] = max(forth.max(), back.max())
    values["hd95"] = max(np.percentile(forth, 95), np.percentile(back, 95))
    near = (forth <= TOLERANCE_MM + 1e-9).sum() + (back <= TOLERANCE_MM + 1e-9).sum()
    values["nsd"] = near / (len(forth) + len(back))
    return values


def border(mask: np.ndarray) -> np.ndarray:
    """Indices of the foreground voxels with a face neighbour outside."""
    padded = np.pad(mask, 1)
    found = []
    for place in np.argwhere(padded):
        for axis in range(3):
            step = np.eye(3, dtype=int)[axis]
            if not padded[tuple(place - step)] or not padded[tuple(place + step)]:
                found.append(place - 1)
                break
    return np.array(found, float).reshape(-1, 3)


def status(prediction: np.ndarray, reference: np.ndarray) -> str:
    return {
        (True, True): "ok",
        (True, False): "absent_reference",
        (False, True): "absent_prediction",
        (False, False): "absent_both",
    }[(bool(prediction.any()), bool(reference.any()))]


PLAIN = engine.Kernels(kernels.scan, kernels.row_starts, kernels.nearest, kept=False)


@pytest.fixture(params=["numpy", "numba", "not compiled"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """All ways to compute: numba where it is installed, and its loops as the plain Python they are."""
    if request.param == "numba":
        pytest.importorskip("numba")
    if request.param == "not compiled":
        monkeypatch.setattr(engine, "compiled", lambda: PLAIN)
    monkeypatch.setenv(engine.VARIABLE, "numpy" if request.param == "numpy" else "numba")
    return str(request.param)


def measured(pair: LabelPair) -> dict[tuple[int, str], tuple[float | None, str]]:
    pair = replace(pair)  # what an earlier measurement found stays with the earlier pair
    found = [*Overlap().measure(pair), *Surface(TOLERANCE_MM).measure(pair)]
    compiled = os.environ.get(engine.VARIABLE) == "numba"
    assert (borders.scan_of(pair).kernels is not None) == compiled
    assert len({(m.index, m.metric) for m in found}) == len(found) == 7 * len(pair.indices)
    return {(m.index, m.metric): (m.value, m.status) for m in found}


@st.composite
def pairs(draw: st.DrawFn) -> LabelPair:
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=6))
    values = st.sampled_from(draw(st.sampled_from([[0, 1], [0, 0, 0, 1, 2], [0, 1, 2, 7, 9], [1]])))
    prediction = draw(hnp.arrays(np.uint8, shape, elements=values, fill=values))
    if draw(st.booleans()):
        reference = draw(hnp.arrays(np.uint8, shape, elements=values, fill=values))
    else:  # nearly the same: most border voxels are shared
        reference = np.roll(prediction, draw(st.integers(0, 1)), axis=draw(st.integers(0, 2)))
    spacing = tuple(draw(st.floats(0.2, 6.0)) for _ in range(3))
    order = draw(st.permutations(range(3)))
    return LabelPair(prediction.transpose(order), reference.transpose(order), INDICES, spacing)


def cube(shape: tuple[int, ...], *boxes: tuple[slice, slice, slice]) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    for box in boxes:
        labels[box] = 1
    return labels


EMPTY = cube((4, 4, 4))
VOXEL = cube((4, 4, 4), (slice(0, 1),) * 3)
FULL = cube((4, 4, 4), (slice(None),) * 3)
ISLANDS = cube((9, 4, 4), (slice(0, 2),) * 3, (slice(6, 9), slice(1, 3), slice(2, 4)))
SPACING = (0.7, 1.3, 5.0)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(pairs(), st.integers(1, 80), st.sampled_from([1, 6, 2000]), st.sampled_from(["1", "3"]))
@example(LabelPair(EMPTY, EMPTY, INDICES, SPACING), 16, 2000, "1")
@example(LabelPair(VOXEL, EMPTY, INDICES, SPACING), 16, 2000, "1")
@example(LabelPair(EMPTY, VOXEL, INDICES, SPACING), 16, 2000, "1")
@example(LabelPair(VOXEL, VOXEL[::-1], INDICES, SPACING), 16, 2000, "1")
@example(LabelPair(FULL, VOXEL, INDICES, SPACING), 16, 1, "1")
@example(LabelPair(FULL, FULL, INDICES, SPACING), 5, 2000, "3")
@example(LabelPair(ISLANDS, ISLANDS[::-1], INDICES, SPACING), 16, 2, "1")
def test_agrees_with_brute_force(
    path: str, pair: LabelPair, slab: int, rows_to_visit: int, threads: str
) -> None:
    before = pair.prediction.copy(), pair.reference.copy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(borders, "_SLAB_VOXELS", slab)
        patch.setattr(borders, "_ROWS_TO_VISIT", rows_to_visit)
        patch.setenv("OMP_NUM_THREADS", threads)
        found = measured(pair)
    np.testing.assert_array_equal(pair.prediction, before[0])
    np.testing.assert_array_equal(pair.reference, before[1])
    for index in INDICES:
        masks = pair.prediction == index, pair.reference == index
        for metric, expected in brute_force(*masks, pair.spacing_mm).items():
            value, its_status = found[index, metric]
            assert its_status == status(*masks)
            assert (value is None) == (expected is None), metric
            if expected is not None:
                assert value == pytest.approx(expected, abs=1e-9, rel=1e-9), metric
                assert type(value) is float


def blobs(seed: int, shape: tuple[int, ...] = (40, 34, 18)) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape)
    return (ndimage.gaussian_filter(noise, (3, 3, 1.5)) > 0.02).astype(np.uint8)


@pytest.mark.parametrize("path", ["numpy", "numba"], indirect=True)
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_medpy_where_the_definition_is_the_same(path: str, seed: int) -> None:
    medpy = pytest.importorskip("medpy.metric.binary")
    prediction, reference = blobs(seed), blobs(seed) & blobs(seed + 10) | blobs(seed + 20)
    spacing = (0.8, 0.9, 3.0)
    found = {
        m: v for (_, m), (v, _) in measured(LabelPair(prediction, reference, (1,), spacing)).items()
    }
    assert found["dice"] == pytest.approx(medpy.dc(prediction, reference), abs=1e-12)
    assert found["ravd"] == pytest.approx(100 * medpy.ravd(prediction, reference), abs=1e-9)
    assert found["assd"] == pytest.approx(medpy.assd(prediction, reference, spacing), abs=1e-9)
    assert found["hd"] == pytest.approx(medpy.hd(prediction, reference, spacing), abs=1e-9)
    # MedPy pools both directions before taking the percentile; ours is the larger of the two.
    assert found["hd95"] >= medpy.hd95(prediction, reference, spacing) - 1e-9
    others = Surface(also=["assd_directed", "hd95_pooled", "hd95_mean"])
    pair = LabelPair(prediction, reference, (1,), spacing)
    other = {m.metric: m.value for m in others.measure(pair)}
    assert [info.name for info in others.infos] == list(other)
    assert other["assd"] == found["assd"]
    ways = ((prediction, reference), (reference, prediction))
    means = [medpy.asd(first, second, spacing) for first, second in ways]
    assert other["assd_directed"] == pytest.approx(np.mean(means), abs=1e-9)
    assert other["hd95_pooled"] == pytest.approx(
        medpy.hd95(prediction, reference, spacing), abs=1e-9
    )
    assert min(other["hd95_pooled"], other["hd95_mean"]) <= found["hd95"]


@pytest.mark.parametrize("path", ["numpy", "numba"], indirect=True)
@pytest.mark.parametrize("seed", range(2))
# MONAI calls a function of its own in a way that it has deprecated.
@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
def test_agrees_with_monai_where_the_definition_is_the_same(path: str, seed: int) -> None:
    monai = pytest.importorskip("monai.metrics")
    torch = pytest.importorskip("torch")
    prediction, reference = blobs(seed), blobs(seed) & blobs(seed + 10) | blobs(seed + 20)
    spacing = (0.8, 0.9, 3.0)
    pair = LabelPair(prediction, reference, (1,), spacing)
    found = {m: v for (_, m), (v, _) in measured(pair).items()}
    p, r = (torch.from_numpy(mask > 0)[None, None] for mask in (prediction, reference))
    options = {"include_background": True, "spacing": spacing}
    theirs = {
        "dice": monai.compute_dice(p, r, include_background=True),
        "assd": monai.compute_average_surface_distance(p, r, symmetric=True, **options),
        "hd": monai.compute_hausdorff_distance(p, r, **options),
        "hd95": monai.compute_hausdorff_distance(p, r, percentile=95, **options),
        "nsd": monai.compute_surface_dice(p, r, [TOLERANCE_MM], **options),
    }
    for metric, value in theirs.items():
        assert found[metric] == pytest.approx(float(value), rel=2e-6), metric  # MONAI: float32


def wide(seed: int) -> np.ndarray:
    """Three labels in rows longer than a word, a register or a block, and of no round length."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(9, 11, 203)), (1, 1, 6))
    labels = np.digitize(noise, np.quantile(noise, [0.5, 0.7, 0.9])).astype(np.uint8)
    labels[:, :, 64:71] = 0
    labels[4, 5, [0, 7, 8, 63, 202]] = 1
    return labels


@pytest.mark.parametrize("path", ["numpy", "numba"], indirect=True)
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_long_rows_agree_with_brute_force(path: str, order: tuple[int, ...]) -> None:
    maps = [wide(seed).transpose(order) for seed in (1, 2)]
    spacing = (0.7, 2.1, 1.1)
    found = measured(LabelPair(*maps, (1, 2, 3), spacing))
    for index in (1, 2, 3):
        for metric, expected in all_of(*(labels == index for labels in maps), spacing).items():
            assert found[index, metric][0] == pytest.approx(expected, abs=1e-9), metric


FAR = 3_000_000
"""Planes of 32 × 32 voxels: 3·10⁹ voxels, more than 32 bits count."""


def test_places_beyond_32_bits(path: str) -> None:
    planes = np.zeros((6, 32, 32), np.uint8)
    planes[1:5, 3:9, 4:20] = 2
    table = np.array([0, 0, 1])
    low = borders._slab(planes, planes, 1, 5, table, 2)
    # Every plane is the same memory: a volume of this size that takes no room.
    huge = np.lib.stride_tricks.as_strided(planes[2], (FAR, 32, 32), (0, 32, 1), writeable=False)
    assert huge.size > 1 << 31
    arguments = (huge, huge, FAR - 4, FAR, table, 2)
    counts, first, second = (
        borders._slab(*arguments)
        if path == "numpy"
        else borders._compiled_slab(engine.compiled(), *arguments)
    )
    assert counts.tolist() == [[0, 0], [0, 4 * 6 * 16]] == low[0].tolist()
    for found in (first, second):
        i, j, k = np.unravel_index(found.place, huge.shape)
        ring = (np.isin(j, (3, 8)) | np.isin(k, (4, 19))) | (i == FAR - 1)
        assert found.place.size == 3 * (2 * 16 + 2 * 4) + 6 * 16
        assert ring.all()
        assert i.min() == FAR - 4
        assert found.place.min() > 1 << 31
        assert found.shared.all()


def test_distances_beyond_32_bits(path: str) -> None:
    shape, spacing = (FAR, 32, 32), (0.5, 0.7, 0.9)
    rng = np.random.default_rng(0)
    near, other = (np.unique(rng.integers(0, 8 * 1024, 200)) for _ in range(2))
    base = (FAR - 10) * 1024
    counts = np.zeros((2, 2), np.int64)
    parts = [
        borders.Borders(np.ones(p.size, np.uint8), p + base, np.isin(p, q))
        for p, q in ((near, other), (other, near))
    ]
    ways = None if path == "numpy" else engine.compiled()
    pair = LabelPair(EMPTY, EMPTY, (1,), spacing)
    vars(pair)["_scan"] = borders.Scan(counts, *parts, shape, spacing, ways)
    (found,) = borders.surface_distances(pair)
    a, b = (np.stack(np.unravel_index(p, shape), axis=1) * spacing for p in (near, other))
    apart = np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2))
    np.testing.assert_allclose(found.from_prediction, apart.min(axis=1), atol=1e-9)
    np.testing.assert_allclose(found.from_reference, apart.min(axis=0), atol=1e-9)


def test_planes_that_32_bits_cannot_count_are_left_to_numpy() -> None:
    wide, wider = (np.broadcast_to(np.uint8(0), (2, 1 << 16, n)) for n in (32767, 32768))
    assert borders._compiles(wide, wide)
    assert not borders._compiles(wider, wider)
    assert not borders._compiles(wide, np.broadcast_to(np.uint32(0), wide.shape))


def test_both_metrics_share_one_walk(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    walks: list[LabelPair] = []
    scan = borders._scan
    monkeypatch.setattr(borders, "_scan", lambda pair: walks.append(pair) or scan(pair))
    pair = LabelPair(ISLANDS, ISLANDS[::-1], (1,), SPACING)
    for family in (Overlap(), Surface(), Surface(1.0)):
        list(family.measure(pair))
    assert len(walks) == 1


def test_hd95_is_the_larger_directed_percentile(path: str) -> None:
    line = np.zeros((100, 1, 1), np.uint8)
    line[:40] = 1
    point = np.zeros_like(line)
    point[0] = 1
    found = measured(LabelPair(line, point, (1,), (1.0, 1.0, 1.0)))
    assert found[1, "hd95"][0] == pytest.approx(np.percentile(np.arange(40), 95))
    assert measured(LabelPair(point, line, (1,), (1.0, 1.0, 1.0)))[1, "hd95"] == found[1, "hd95"]


def test_tolerance_counts_distances_equal_to_it(path: str) -> None:
    first, second = (np.zeros((40, 1, 1), np.uint8) for _ in range(2))
    first[0] = second[20] = 1
    pair = LabelPair(first, second, (1,), (0.1, 1.0, 1.0))
    nsd = {t: {m.metric: m.value for m in Surface(t).measure(pair)}["nsd"] for t in (1.99, 2.0)}
    assert nsd == {1.99: 0.0, 2.0: 1.0}


def test_impossible_tolerance_is_refused() -> None:
    for tolerance in (-1.0, float("nan")):
        with pytest.raises(UsageError, match="tolerance"):
            Surface(tolerance)


def test_an_unknown_definition_is_refused() -> None:
    with pytest.raises(UsageError, match=r"(?s)hd99.*assd_directed"):
        Surface(also=["hd99"])


def test_the_mean_of_the_directed_percentiles() -> None:
    line, point = (np.zeros((100, 1, 1), np.uint8) for _ in range(2))
    line[:40] = point[0] = 1
    pair = LabelPair(line, point, (1, 2), (1.0, 1.0, 1.0))
    found = {(m.index, m.metric): m for m in Surface(also=["hd95_mean"]).measure(pair)}
    assert found[1, "hd95_mean"].value == pytest.approx(np.percentile(np.arange(40), 95) / 2)
    assert found[2, "hd95_mean"].value is None


def test_truncated_structures_keep_their_values(path: str) -> None:
    pair = LabelPair(VOXEL, VOXEL, (1, 2), SPACING, truncated=frozenset({1, 2}))
    found = measured(pair)
    assert found[1, "dice"] == (1.0, "truncated")
    assert found[1, "hd"] == (0.0, "truncated")
    assert found[2, "dice"] == (None, "absent_both")


@pytest.mark.parametrize("family", [Overlap(), Surface()])
def test_declared_facts_are_true(path: str, family: Overlap | Surface) -> None:
    prediction, reference = blobs(1), blobs(1) | blobs(2)

    def values(p: np.ndarray, scale: float) -> dict[str, float | None]:
        pair = LabelPair(p, reference, (1,), (scale, 1.5 * scale, 2 * scale))
        return {m.metric: m.value for m in family.measure(pair)}

    perfect, small, large = values(reference, 1.0), values(prediction, 1.0), values(prediction, 3.0)
    for info in family.infos:
        assert perfect[info.name] == info.perfect
        if info.scales_with_mm:
            assert large[info.name] == pytest.approx(3 * small[info.name])
        if info.direction == "higher":
            assert small[info.name] < info.perfect
        if info.direction == "lower":
            assert small[info.name] > info.perfect


def test_large_label_values_and_types(path: str) -> None:
    prediction = np.where(blobs(3) > 0, 1000, 0).astype(np.uint16)
    reference = np.where(blobs(4) > 0, 1000, 70).astype(np.uint16)
    found = measured(LabelPair(prediction, reference, (1000,), SPACING))
    expected = measured(LabelPair(blobs(3), blobs(4), (1,), SPACING))
    assert {m: v for (_, m), v in found.items()} == {m: v for (_, m), v in expected.items()}


def test_announced_families_can_be_loaded() -> None:
    built = {spec.name: spec.load()() for spec in mskt_metric()}
    assert {name: [i.name for i in m.infos] for name, m in built.items()} == {
        "overlap": ["dice", "ave", "ravd"],
        "surface": ["assd", "hd", "hd95", "nsd"],
    }

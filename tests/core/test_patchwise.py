"""Windows over a volume: a slab has the values of the whole, whatever is asked for and remembered."""

import itertools
from threading import Lock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mskt.core import patchwise
from mskt.core.dropout import McDropout, number_sites
from mskt.core.errors import UsageError
from mskt.core.intensity import brightness
from mskt.core.interfaces import Region
from mskt.core.patchwise import BLENDS, Axis, PatchInput, PatchSweep, profile
from mskt.core.viewcheck import Stack
from mskt.testing.memory import peak_bytes

CLASSES = 3
WINDOW = (8, 10, 6)
HU = (-100.0, 200.0)


class Net(nn.Module):
    """Looks at the whole window, so that a window that is placed wrongly shows."""

    def __init__(self, p=0.3):
        super().__init__()
        self.conv = nn.Conv3d(1, CLASSES, 3, padding=1)
        self.dropout = McDropout(p)
        self.calls, self.lock = 0, Lock()

    def forward(self, x):
        with self.lock:
            self.calls += 1
        y = self.dropout(3 * self.conv(x))
        return y + x.mean() * torch.arange(CLASSES).view(1, -1, 1, 1, 1)


def network(p=0.3):
    torch.manual_seed(0)
    net = Net(p).eval()
    number_sites(net)
    return net


def sweep(p=0.3, window=WINDOW, **given):
    cpu = torch.device("cpu")
    return PatchSweep(network(p), CLASSES, PatchInput(window, HU, **given), cpu, torch.float32)


def image(shape, *, body=None, frozen=False, seed=0, permitted=None):
    data = np.random.default_rng(seed).normal(50, 80, shape).astype(np.float32)
    mask = None if body is None else body(np.indices(shape))
    if frozen:
        for array in (data, mask):
            if array is not None:
                array.flags.writeable = False
    return Stack(data, np.eye(4), mask=mask, permitted=permitted)


def box(volume, low=(0, 0, 0), high=None):
    return Region(low, high or volume.grid.shape)


def a_ball(at):
    return sum((a - n / 2) ** 2 for a, n in zip(at, at.shape[1:], strict=True)) < 30


def joined(made, volume, regions, **draw):
    return torch.cat([made.draw(volume, region, **draw) for region in regions], dim=-1)


@given(st.integers(1, 60), st.integers(1, 20), st.floats(0, 0.9), st.sampled_from(BLENDS))
def test_windows_cover_an_axis_and_their_shares_sum_to_one(length, window, overlap, blend):
    axis = Axis(length, window, overlap, blend)
    assert list(axis.starts) == sorted(set(axis.starts))
    assert (profile(window, blend) > 0).all()
    total = np.zeros(length + 2 * window)
    for start, share in zip(axis.starts, axis.shares, strict=True):
        assert (share >= 0).all()
        total[start + window :][:window] += share
    assert total[window : window + length] == pytest.approx(1, abs=1e-5)
    if length <= window:
        assert len(axis.starts) == 1 and 0 <= -axis.starts[0] <= window - length
    else:
        assert axis.starts[0] == 0 and axis.starts[-1] + window == length
        assert max(np.diff(axis.starts), default=0) <= window


@settings(max_examples=8, deadline=None)
@given(
    st.tuples(st.integers(1, 14), st.integers(1, 14), st.integers(1, 19)),
    st.sets(st.integers(1, 18), max_size=4),
    st.booleans(),
    st.booleans(),
)
def test_any_partition_gives_the_very_same_values(shape, cuts, frozen, masked):
    """Bit by bit, with and without memory of what lies above a slab, and for boxes in plane."""
    volume = image(shape, body=a_ball if masked else None, frozen=frozen)
    ends = [0, *sorted(cut for cut in cuts if cut < shape[2]), shape[2]]
    slabs = [Region((0, 0, a), (*shape[:2], b)) for a, b in itertools.pairwise(ends)]
    whole = sweep().draw(volume, box(volume), index=1, seed=5)
    made = sweep()
    assert torch.equal(joined(made, volume, slabs, index=1, seed=5), whole)
    assert torch.equal(joined(made, volume, made.regions(volume), index=1, seed=5), whole)
    low, high = (shape[0] // 2, 0, shape[2] // 3), (shape[0], shape[1] // 2 + 1, shape[2])
    part = made.draw(volume, Region(low, high), index=1, seed=5)
    assert torch.equal(part, whole[(slice(None), *Region(low, high).slices)])
    assert (whole >= 0).all()
    assert whole.sum(0).numpy() == pytest.approx(1, abs=1e-5)


def test_number_of_threads_does_not_matter():
    volume = image((12, 14, 13))
    before = torch.get_num_threads()
    draws = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            draws.append(sweep().draw(volume, box(volume), index=0, seed=1))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(draws[0], draws[1]) and torch.equal(draws[0], draws[2])


def test_each_window_is_computed_once_a_draw_where_the_image_cannot_change():
    made, counts = sweep(), []
    for frozen in (True, False):
        volume = image((12, 14, 30), frozen=frozen)
        made._network.calls = 0
        for region in made.regions(volume):
            for index in range(3):
                made.draw(volume, region, index=index, seed=0)
        counts.append(made._network.calls / 3)
    windows = 2 * 2 * 9  # starts 0, 4 · 0, 4 · 0, 3, …, 24
    assert counts == [windows, 2 * windows]  # else: once for each of the two slabs it reaches


@pytest.mark.parametrize("draws", [1, 3])
def test_thin_slabs_compute_each_window_once_and_have_the_same_values(draws, monkeypatch):
    """Windows long enough for vector instructions and their remainders."""
    monkeypatch.setattr(patchwise, "THIN_BYTES", 4 * CLASSES * 40 * 37 * 5)
    monkeypatch.setattr(patchwise, "CHUNK_BYTES", 4 * CLASSES * 20 * 26 * 7)
    volume, made = image((40, 37, 61), frozen=True), sweep(window=(24, 20, 26))
    slabs = made.regions(volume, draws)
    assert max(slab.shape[2] for slab in slabs) == 5
    got = [[made.draw(volume, slab, index=n, seed=0) for n in range(draws)] for slab in slabs]
    assert made._network.calls == draws * 3 * 3 * 4
    for n in range(draws):
        whole = sweep(window=(24, 20, 26)).draw(volume, box(volume), index=n, seed=0)
        assert torch.equal(torch.cat([slab[n] for slab in got], dim=-1), whole)


def test_slabs_are_thin_only_where_all_draws_can_be_remembered(monkeypatch):
    monkeypatch.setattr(patchwise, "THIN_BYTES", 4 * CLASSES * 12 * 14)
    monkeypatch.setattr(patchwise, "MEMO_BYTES", 4 * CLASSES * 12 * 14 * WINDOW[2] * 2)

    def deepest(draws, *, frozen=True):
        return max(
            slab.shape[2] for slab in sweep().regions(image((12, 14, 30), frozen=frozen), draws)
        )

    assert [deepest(1), deepest(2)] == [1, 1]
    assert [deepest(3), deepest(None), deepest(1, frozen=False)] == [3, 3, 3]


def test_what_was_given_out_is_never_written_again():
    volume, made = image((12, 14, 30), frozen=True), sweep()
    for draws in (1, None):
        given = [made.draw(volume, slab, index=0, seed=0) for slab in made.regions(volume, draws)]
        whole = sweep().draw(volume, box(volume), index=0, seed=0)
        assert torch.equal(torch.cat(given, dim=-1), whole)


def test_little_memory_costs_time_and_changes_nothing(monkeypatch):
    volume = image((12, 14, 30), frozen=True)
    rich = sweep()
    wanted = [joined(rich, volume, rich.regions(volume), index=n, seed=0) for n in range(3)]
    monkeypatch.setattr(patchwise, "MEMO_BYTES", 4 * CLASSES * 12 * 14 * 3 + 1)  # one draw's
    poor = sweep()
    slabs = poor.regions(volume)
    got = [[poor.draw(volume, slab, index=n, seed=0) for n in range(3)] for slab in slabs]
    for n in range(3):
        assert torch.equal(torch.cat([slab[n] for slab in got], dim=-1), wanted[n])
    assert poor._memo.nbytes <= patchwise.MEMO_BYTES
    assert poor._network.calls > rich._network.calls


def test_nothing_is_remembered_of_another_image():
    made, first = sweep(), image((12, 14, 30), frozen=True)
    second = image((12, 14, 30), frozen=True, seed=1)
    low, high = made.regions(first)[:2]
    made.draw(first, low, index=0, seed=0)
    got = made.draw(second, high, index=0, seed=0)
    assert torch.equal(got, sweep().draw(second, high, index=0, seed=0))
    made.draw(second, low, index=0, seed=0)
    assert len(made._memo)
    del second
    assert not len(made._memo)


def test_an_image_that_may_change_is_looked_at_again():
    made, volume = sweep(), image((12, 14, 30))
    low, high = made.regions(volume)[:2]
    made.draw(volume, low, index=0, seed=0)
    volume.data[:] = -50
    got = made.draw(volume, high, index=0, seed=0)
    assert torch.equal(got, sweep().draw(volume, high, index=0, seed=0))


def test_only_windows_over_the_body_are_computed():
    volume = image((40, 40, 40), body=lambda at: (np.abs(at - 20) < 2).all(0))
    made = sweep()
    out = made.draw(volume, box(volume), index=0, seed=0)
    assert 0 < made._network.calls <= 3 * 3 * 4
    outside = torch.from_numpy(~volume.mask)
    assert (out[0][outside] == 1).all() and (out[1:, outside] == 0).all()
    assert (out[0][~outside] < 1).all()
    none = image((40, 40, 40), body=lambda at: np.zeros(at.shape[1:], bool))
    made._network.calls = 0
    assert (made.draw(none, box(none), index=0, seed=0)[0] == 1).all()
    assert made._network.calls == 0


def test_what_cannot_be_in_a_slice_is_background():
    permitted = np.ones((9, CLASSES), bool)
    permitted[4:, 2] = False
    volume = image((9, 9, 9), permitted=permitted)
    free = sweep().draw(image((9, 9, 9)), box(volume), index=0, seed=0)
    got = sweep().draw(volume, box(volume), index=0, seed=0)
    assert torch.equal(got[..., :4], free[..., :4])
    assert not got[2, ..., 4:].any()
    torch.testing.assert_close(got[0, ..., 4:], free[0, ..., 4:] + free[2, ..., 4:])


@pytest.mark.parametrize("shape", [(19, 23, 17), (8, 10, 6), (5, 12, 1), (3, 4, 2)])
def test_monai_blends_alike(shape):
    """Same lattice, same padding, same weights (MONAI raises small ones: it is given ours)."""
    inferers = pytest.importorskip("monai.inferers")
    volume, made = image(shape), sweep(p=0.0)
    got = made.draw(volume, box(volume), index=0, seed=0)
    x, y, z = (torch.from_numpy(profile(n, "gaussian")).float() for n in WINDOW)
    weights = x[:, None, None] * y[None, :, None] * z
    net = network(0.0)
    with torch.inference_mode():
        wanted = inferers.sliding_window_inference(
            torch.from_numpy(brightness(volume.data, HU))[None, None],
            WINDOW,
            1,
            lambda part: net(part).softmax(1),
            overlap=0.5,
            roi_weight_map=weights,
        )
    torch.testing.assert_close(got, wanted[0], rtol=0, atol=1e-5)


def test_gaussian_is_that_of_monai():
    utils = pytest.importorskip("monai.data.utils")
    theirs = utils.compute_importance_map((24, 1, 1), mode="gaussian", sigma_scale=0.125)
    ours = profile(24, "gaussian")
    kept = ours > 1e-3  # below, MONAI takes 1e-3
    assert theirs.flatten().numpy()[kept] == pytest.approx(ours[kept], rel=1e-5)


def test_memory_does_not_grow_with_the_height():
    def walk(height):
        made, volume = sweep(window=(32, 32, 8)), image((48, 48, height), frozen=True)
        slabs = made.regions(volume)

        def work():
            for slab in slabs:
                made.draw(volume, slab, index=0, seed=0)

        return peak_bytes(work)

    above = 4 * CLASSES * 48 * 48 * 72  # probabilities that only the tall one has
    assert walk(96) - walk(24) < 0.1 * above


def test_slabs_hold_no_more_than_they_may(monkeypatch):
    volume = image((12, 14, 30))
    whole = sweep().draw(volume, box(volume), index=0, seed=0)
    monkeypatch.setattr(patchwise, "SLAB_BYTES", 4 * CLASSES * 12 * 14 * 2)
    made = sweep()
    slabs = made.regions(volume)
    assert max(slab.shape[2] for slab in slabs) == 2
    assert torch.equal(joined(made, volume, slabs, index=0, seed=0), whole)


@pytest.mark.parametrize("wrong", [{"overlap": 1.0}, {"overlap": -0.1}, {"blend": "mean"}])
def test_impossible_windows_are_refused(wrong):
    with pytest.raises(UsageError, match=f"--option {next(iter(wrong))}"):
        sweep(**wrong)


def test_brightness():
    hu = np.array([-2000.0, -57.0, 53.5, 164.0, 3000.0])
    assert brightness(hu, (-57, 164)) == pytest.approx([0, 0, 0.5, 1, 1])
    assert brightness(hu, (-57, 164), 2) == pytest.approx([0, 0, 0.25, 1, 1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_agrees():
    volume = image((19, 23, 17))
    gpu = torch.device("cuda")
    there = PatchSweep(network(0).to(gpu), CLASSES, PatchInput(WINDOW, HU), gpu, torch.float32)
    got = there.draw(volume, box(volume), index=0, seed=0).cpu()
    wanted = sweep(0).draw(volume, box(volume), index=0, seed=0)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-3)

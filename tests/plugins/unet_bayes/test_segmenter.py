"""``unet_bayes`` as a segmenter: what a draw depends on, and what it does not."""

import numpy as np
import pytest
import torch

from mskt.core.errors import UsageError, WeightsError
from mskt.core.interfaces import Region
from mskt.core.volume import Volume
from mskt.networks.body import body_mask, normalised
from mskt.plugins.unet_bayes.segmenter import UNetBayes


def scan(shape=(60, 44, 11), spacing=(2.0, 2.0, 3.0)) -> Volume:
    """An ellipse of muscle with a bone in it."""
    i, j, _ = np.indices(shape)
    radius = ((i - shape[0] / 2) / 24) ** 2 + ((j - shape[1] / 2) / 16) ** 2
    data = np.where(radius < 1, 50.0, -1000.0)
    data[radius < 0.1] = 700
    data += np.random.default_rng(0).normal(0, 10, shape)
    return Volume(data.astype(np.float32), np.diag([*spacing, 1.0]), mask=radius < 1.0)


@pytest.fixture(scope="module")
def segmenter() -> UNetBayes:
    return UNetBayes(weights="random", precision="float32")


def test_batch_region_order_and_threads_do_not_matter(segmenter):
    work = segmenter.prepare(scan())[0]
    whole = Region((0, 0, 0), work.data.shape)
    want = segmenter.draw(work, whole, index=2, seed=7)
    many = list(segmenter.draw_many(work, whole, count=3, seed=7))
    assert torch.equal(many[2], want)
    part = Region((5, 4, 3), (31, 40, 6))
    assert torch.equal(segmenter.draw(work, part, index=2, seed=7), want[:, 5:31, 4:40, 3:6])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(segmenter.draw(work, whole, index=2, seed=7), want)
    finally:
        torch.set_num_threads(threads)


def test_outside_the_body_there_is_background_only(segmenter):
    work = segmenter.prepare(scan())[0]
    assert not work.mask.all()
    draw = segmenter.draw(work, Region((0, 0, 0), work.data.shape), index=0, seed=0)
    outside = torch.from_numpy(~work.mask)
    assert (draw[0][outside] == 1).all()
    assert (draw[1:, outside] == 0).all()


def test_bfloat16_stays_near_float32(segmenter):
    other = UNetBayes(weights="random", precision="bfloat16")
    work = segmenter.prepare(scan())[0]
    region = segmenter.regions(work)[0]
    a = segmenter.draw(work, region, index=0, seed=0)
    b = other.draw(work, region, index=0, seed=0)
    assert (a - b).abs().max() < 0.05
    assert (a - b).abs().mean() < 0.002


def test_hu_window_is_linear_and_clamped():
    got = normalised(np.array([-1000.0, -150, 100, 350, 3000], np.float32), (-150, 350))
    np.testing.assert_allclose(got, [-1, -1, 0, 1, 1])


def test_body_mask_keeps_two_legs_fills_gas_and_drops_crumbs():
    class Threshold(torch.nn.Module):
        def forward(self, x):
            return torch.cat([-x, x], 1) * 20

    data = np.full((60, 40, 9), -1000, np.float32)
    data[5:25, 10:30] = 40
    data[35:55, 10:30] = 40
    data[12:16, 16:20] = -1000
    data[28:30, 35:38, 4] = 40
    volume = Volume(data, np.diag([4.0, 4, 3, 1]))
    mask = body_mask(data, volume.grid, Threshold(), torch.device("cpu"), torch.float32)
    assert mask[15, 20, 4]
    assert mask[45, 20, 4]
    assert mask[13, 18, 4]
    assert not mask[28:30, 35:38].any()
    assert mask.sum() == 2 * 20 * 20 * 9


def test_options_that_contradict_the_weights_are_refused():
    with pytest.raises(UsageError, match="no variant"):
        UNetBayes(weights="random", variant="7layers")
    with pytest.raises(WeightsError, match="no weights named 'nosuch'"):
        UNetBayes(weights="nosuch")
    with pytest.raises(UsageError, match=r"CUDA devices|is no device"):
        UNetBayes(weights="random", device="cuda:99")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_draws_what_a_cpu_draws(segmenter):
    other = UNetBayes(weights="random", precision="float32", device="cuda")
    work = segmenter.prepare(scan())[0]
    region = segmenter.regions(work)[0]
    a = segmenter.draw(work, region, index=0, seed=0)
    b = other.draw(work, region, index=0, seed=0).cpu()
    assert (a - b).abs().max() < 1e-3

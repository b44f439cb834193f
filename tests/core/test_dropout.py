"""Masks depend on (seed, draw, place, site) and on nothing else."""

import pytest
import torch
from torch import nn

from mskt.core.dropout import Draw, McDropout, number_sites, random_words, sampling
from mskt.core.seeding import random_words as numpy_words


def network(p=0.5) -> nn.Module:
    net = nn.Sequential(McDropout(p), nn.ReLU(), McDropout(p)).eval()
    number_sites(net)
    return net


def test_without_a_draw_it_passes_everything_on():
    x = torch.randn(2, 6, 5, 4)
    assert torch.equal(McDropout(0.5).eval()(x), x)


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_share_and_scale(p):
    x = torch.ones(1, 32, 40, 40)
    module = McDropout(p).eval()
    with sampling([Draw(1, 0, 0)]):
        y = module(x)
    assert y.eq(0).float().mean().item() == pytest.approx(p, abs=0.01)
    assert y.max().item() == pytest.approx(1 / (1 - p), rel=2e-3)


def test_an_element_of_a_batch_equals_the_element_alone():
    net, x = network(), torch.randn(3, 6, 5, 7)
    draws = [Draw(9, 0, 4), Draw(9, 1, 4), Draw(9, 0, 5)]
    with torch.inference_mode():
        with sampling(draws):
            together = net(x)
        for n in range(3):
            with sampling([draws[n]]):
                assert torch.equal(net(x[n : n + 1])[0], together[n])


def test_every_part_of_the_key_matters():
    x = torch.ones(1, 8, 16, 16)
    net = nn.ModuleList([McDropout(), McDropout()]).eval()
    number_sites(net)
    seen = []
    for module, draw in [
        (net[0], Draw(1, 0, 0)),
        (net[0], Draw(2, 0, 0)),
        (net[0], Draw(1, 1, 0)),
        (net[0], Draw(1, 0, 1)),
        (net[1], Draw(1, 0, 0)),
    ]:
        with sampling([draw]):
            seen.append(module(x))
    for a in range(len(seen)):
        for b in range(a):
            agreement = (seen[a] == seen[b]).float().mean().item()
            assert 0.4 < agreement < 0.6


def test_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    with sampling([Draw(1, 0, 0)]):
        McDropout().eval()(torch.ones(1, 4, 4, 4))
    assert torch.equal(before, torch.get_rng_state())


def test_wrong_number_of_draws_is_refused():
    with (
        pytest.raises(ValueError, match="2 draws named for a batch of 1"),
        sampling([Draw(1, 0, 0)] * 2),
    ):
        McDropout().eval()(torch.ones(1, 4, 4, 4))


def test_impossible_probability_is_refused():
    with pytest.raises(ValueError, match="not in"):
        McDropout(1.0)


@pytest.mark.parametrize("start", [0, 1, 2**63 - 1, 2**63, 2**64 - 1])
def test_another_device_makes_the_same_words(start):
    there = random_words(100, [start], torch.device("cpu"))
    assert (there[0].numpy().view("uint64") == numpy_words(100, start)).all()


@pytest.mark.parametrize("p", [0.5, 0.2])
@pytest.mark.parametrize("shape", [(5, 7, 3), (1, 1, 1), (8, 16, 16), (3, 4, 5, 2)])
def test_masks_made_on_another_device_are_the_same(p, shape):
    module, draws = McDropout(p).eval(), [Draw(3, 0, 2), Draw(3, -1, 2), Draw(3, 1, 2)]
    x = torch.ones(3, *shape)
    with sampling(draws):
        here = module(x)
    assert torch.equal(module._masks_there(draws, x), here)


@pytest.mark.parametrize("p", [0.2, 0.5])
@pytest.mark.parametrize(
    ("shape", "order"),
    [
        ((3, 8, 40, 41), torch.contiguous_format),
        ((3, 8, 40, 41), torch.channels_last),
        ((2, 8, 9, 10, 41), torch.channels_last_3d),
        ((2, 41, 96), torch.contiguous_format),
    ],
)
def test_in_training_each_activation_is_dropped_with_its_chance(p, shape, order):
    module = McDropout(p).train()
    x = torch.ones(shape).contiguous(memory_format=order).requires_grad_()
    with torch.random.fork_rng():
        torch.manual_seed(5)
        y = module(x)
        again = module(x)
        torch.manual_seed(5)
        assert torch.equal(module(x), y)
    assert not torch.equal(again, y)
    assert y.stride() == x.stride()
    dropped = y.eq(0)
    share = pytest.approx(p, abs=4 * (p * (1 - p) / x.numel()) ** 0.5 + 1 / 512)
    assert dropped.float().mean().item() == share
    assert y[~dropped].unique().tolist() == pytest.approx([1 / (1 - p)], rel=2e-3)
    # Not the same for every image of the batch, nor for every channel.
    assert not torch.equal(dropped[0], dropped[1])
    assert not torch.equal(dropped[:, 0], dropped[:, 1])
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient, y.detach())


def test_in_training_gaps_in_memory_do_not_matter():
    x = torch.ones(4, 8, 20, 20)[:, :, ::2, ::2]
    y = McDropout(0.5).train()(x)
    assert set(y.unique().tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("p", [0.5, 0.2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_bits_cut_off_are_the_masks_of_every_device(p, dtype):
    """Once a convolution does the scaling; what is not drawn is scaled back."""
    module = McDropout(p).eval()
    weight = torch.ones(2)
    module.absorb(weight)
    module.absorb(weight)  # once
    assert torch.equal(weight, torch.full((2,), module.scale))
    x = torch.randn(3, 5, 7, 6).to(dtype).contiguous(memory_format=torch.channels_last)
    draws = [Draw(1, 0, 2), Draw(1, -1, 2), Draw(1, 4, 2)]
    with sampling(draws):
        got = module(x.clone())
    torch.testing.assert_close(got, x * module._masks_there(draws, x))
    assert torch.equal(got[0] != 0, McDropout(p)._mask(draws[0], x[:1])[0] != 0)
    assert torch.equal(module(x), x / module.scale)

"""The 2-D baselines: their networks are what the papers say, and folding changes nothing."""

import numpy as np
import pytest
import torch

from mskt.core.dropout import Draw, sampling
from mskt.core.errors import UsageError, WeightsError
from mskt.core.interfaces import Region
from mskt.core.volume import Volume
from mskt.networks.inference import count, for_inference
from mskt.networks.slice_variant import SliceVariant, UNetVariant, build_unet
from mskt.plugins.baselines import fcn8s, unet2d


def network(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    built = {
        "unet2d": lambda: build_unet(unet2d.VARIANTS["compact"], 5),
        "fcn8s": lambda: fcn8s.FCN8s(fcn8s.VARIANTS["compact"], 5),
        "resnet34": lambda: build_unet(UNetVariant(backbone="resnet34", dropout=0.0), 5),
    }
    return built[name]().eval()


@pytest.mark.parametrize("name", ["unet2d", "fcn8s", "resnet34"])
@torch.inference_mode()
def test_network_for_inference_equals_the_trained_one(name):
    made = network(name)
    for module in made.modules():  # statistics as after training: folding must not need the default
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 1, 64, 96)
    wanted = made(x)
    assert wanted.shape == (2, 5, 64, 96)
    got = for_inference(made, torch.device("cpu"), torch.float32)(x)
    assert wanted.std() > 1e-3
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def test_sizes_are_those_of_the_papers():
    with torch.device("meta"):
        fcn = count(fcn8s.FCN8s(fcn8s.VARIANTS["paper"], 23))
        plain = count(build_unet(unet2d.VARIANTS["paper"], 23))
    assert fcn == pytest.approx(134.3e6, rel=0.01)  # Long 2015, table 1: 134 M
    assert plain == pytest.approx(11.0e6, rel=0.01)


def test_dropout_of_fcn_is_drawn_by_number_and_absent_without_one():
    made = for_inference(network("fcn8s"), torch.device("cpu"), torch.float32)
    x = torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        plain = made(x)
        with sampling([Draw(1, 0, 3)]):
            first = made(x)
        with sampling([Draw(1, 0, 3)]):
            again = made(x)
        with sampling([Draw(1, 1, 3)]):
            other = made(x)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, plain)


def test_fcn_is_coarse():
    """Between two centres of its 8-pixel grid the logits are linear: it cannot follow a thin edge."""
    made = network("fcn8s")
    with torch.inference_mode():
        y = made(torch.randn(1, 1, 64, 64))[0, 0].double()
    inner = y[4:60, 4:60]  # centres lie at 3.5, 11.5, …: 4 to 11 is one linear piece
    bend = inner[:, 0:8].diff(n=2, dim=1).abs().max()
    assert bend < 1e-4 * inner.abs().max()


@pytest.mark.parametrize("factory", [unet2d.unet2d, fcn8s.fcn8s])
def test_outside_the_mask_there_is_background(factory):
    segmenter = factory(weights="random", precision="float32")
    data = np.random.default_rng(0).normal(40, 20, (40, 36, 3)).astype(np.float32)
    mask = np.zeros(data.shape, bool)
    mask[8:30, 5:25, 1] = True
    work = Volume(data, np.diag([2.0, 2.0, 3.0, 1.0]), mask=mask)
    draw = segmenter.draw(work, Region((0, 0, 0), (40, 36, 3)), index=0, seed=0)
    assert draw.shape == (23, 40, 36, 3)
    assert (draw[0][torch.from_numpy(~mask)] == 1).all()
    assert (draw[0][torch.from_numpy(mask)] < 1).any()


def test_variant_survives_json():
    import json

    for made in (unet2d.VARIANTS["compact"], fcn8s.VARIANTS["paper"]):
        again = type(made).from_dict(json.loads(json.dumps(made.as_dict())))
        assert again == made
        assert isinstance(made, SliceVariant)


def test_what_cannot_be_is_refused_by_name():
    with pytest.raises(UsageError, match="has an encoder of its own"):
        fcn8s.fcn8s(weights="random", backbone="resnet34")
    with pytest.raises(UsageError, match="no variant of unet2d named 'papre'"):
        unet2d.unet2d(weights="random", variant="papre")
    with pytest.raises(WeightsError, match="made for segmenter 'unet_bayes', not 'unet2d'"):
        unet2d.unet2d(weights="unet_bayes-compact")
    with pytest.raises(UsageError, match="none come with 'fcn8s'"):
        fcn8s.fcn8s()
    with pytest.raises(UsageError, match="'nosuch' cannot be used as an encoder"):
        unet2d.unet2d(weights="random", backbone="nosuch")

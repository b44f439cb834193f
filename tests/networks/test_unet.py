"""The network of the papers: size, places of the dropout, folding, backbones."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from mskt.core.dropout import Draw, McDropout, number_sites, sampling
from mskt.core.errors import UsageError
from mskt.networks import inference
from mskt.networks.backbone import BackboneUNet
from mskt.networks.fused import ConvReLU, ConvSumReLU, fuses
from mskt.networks.inference import count, for_inference
from mskt.networks.slice_variant import UNetVariant, build_unet
from mskt.networks.unet import BayesianUNet, PoolPositive
from mskt.plugins.unet_bayes.variants import VARIANTS


@pytest.mark.parametrize(("name", "millions"), [("5layers", 10.99), ("6layers", 44.03)])
def test_parameter_counts_of_the_papers(name, millions):
    with torch.device("meta"):
        network = build_unet(VARIANTS[name], 23)
    assert count(network) / 1e6 == pytest.approx(millions, abs=0.01)


def test_dropout_stands_before_each_pooling_and_after_each_up_convolution():
    network = BayesianUNet(levels=4, base=2)
    for stage in network.pool:
        assert [type(m) for m in stage] == [McDropout, nn.MaxPool2d]
    for stage in network.up:
        assert [type(m) for m in stage] == [nn.ConvTranspose2d, McDropout]
    assert number_sites(network) == 6
    assert all(m.p == 0.5 for m in network.modules() if isinstance(m, McDropout))


def test_folded_batch_norm_gives_the_same_logits():
    network = build_unet(UNetVariant(levels=3, base=4, batch_norm=True), 5)
    network.train()
    for _ in range(3):
        network(torch.randn(2, 1, 16, 16) * 3 + 1)
    x = torch.randn(1, 1, 16, 16)
    with torch.inference_mode():
        want = network.eval()(x)
        got = for_inference(network, torch.device("cpu"), torch.float32)(x)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)


def ready_and_plain(dtype, dropout=0.5):
    """A network for inference and the same with nothing but its batch normalisation folded."""
    torch.manual_seed(0)
    made = UNetVariant(levels=3, base=4, batch_norm=True, dropout=dropout)
    network = build_unet(made, 5).train()
    network(torch.randn(2, 1, 16, 16) * 3 + 1)
    plain = deepcopy(network).eval()
    number_sites(plain)
    for module in list(plain.modules()):
        if isinstance(module, nn.Sequential):
            inference._fold(module)
    plain = plain.to(dtype, memory_format=torch.channels_last)
    return for_inference(network, torch.device("cpu"), dtype), plain


DRAWS = (Draw(1, 2, 3), Draw(1, 0, 7), Draw(1, -1, 3))


def outputs(network, dtype):
    torch.manual_seed(1)
    x = torch.randn(1, 1, 24, 16).to(dtype).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        found = [network(x)]
        for draw in DRAWS:
            with sampling([draw]):
                found.append(network(x))
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scaling_inside_the_convolutions_changes_nothing(dtype, monkeypatch):
    """Draw by draw and without one; doubling is exact in every precision."""
    monkeypatch.setattr(inference, "fuses", lambda dtype: False)
    ready, plain = ready_and_plain(dtype)
    assert ready.split is None
    assert not any(isinstance(m, ConvReLU | ConvSumReLU) for m in ready.modules())
    assert all(m.absorbed for m in ready.modules() if isinstance(m, McDropout))
    for got, want in zip(outputs(ready, dtype), outputs(plain, dtype), strict=True):
        assert torch.equal(got, want)


@pytest.mark.parametrize("dropout", [0.5, 0.2, 0.0])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 2e-6), (torch.bfloat16, 0.02)])
def test_network_of_a_cpu_differs_by_rounding(dropout, dtype, error):
    """ReLU inside convolutions, the finest block cut in two, bits cut off by dropout."""
    ready, plain = ready_and_plain(dtype, dropout)
    assert (ready.split is not None) == fuses(dtype)
    if ready.split is not None:
        assert sum(isinstance(m, ConvReLU) for m in ready.modules()) == 9
    for got, want in zip(outputs(ready, dtype), outputs(plain, dtype), strict=True):
        assert (got - want).abs().max() <= error * want.abs().max()


def test_several_draws_at_once_are_those_of_each():
    ready, _ = ready_and_plain(torch.float32, 0.2)
    x = torch.randn(1, 1, 16, 16).expand(3, -1, -1, -1)
    with torch.inference_mode():
        with sampling(DRAWS):
            together = ready(x.contiguous(memory_format=torch.channels_last))
        for number, draw in enumerate(DRAWS):
            with sampling([draw]):
                alone = ready(x[:1].contiguous(memory_format=torch.channels_last))
            torch.testing.assert_close(together[number], alone[0])


def test_a_network_is_made_ready_twice_without_harm():
    ready, plain = ready_and_plain(torch.float32)
    again = for_inference(ready, torch.device("cpu"), torch.float32)
    for got, want in zip(outputs(again, torch.float32), outputs(plain, torch.float32), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_pooling_of_what_is_not_negative(dtype):
    x = torch.randn(2, 3, 8, 6).relu().to(dtype)
    x[0, 0, 0, 0] = torch.inf
    assert torch.equal(PoolPositive()(x), nn.functional.max_pool2d(x, 2))


def test_stem_and_rest_make_the_whole():
    network = BayesianUNet(levels=3, base=4).eval()
    x = torch.randn(1, 1, 16, 24)
    with torch.inference_mode():
        assert torch.equal(network(x), network.after_stem(network.stem(x)))


@pytest.mark.parametrize("name", ["resnet18", "efficientnet-b0", "tu-convnext_atto", "mit_b0"])
def test_backbones_are_random_where_the_papers_networks_are(name):
    network = BackboneUNet(name, channels=3, classes=4).eval()
    sites = number_sites(network)
    assert sites == len(network.down_dropout) + 5
    assert len(network.down_dropout) >= 3
    x = torch.randn(1, 3, 64, 32)
    with torch.inference_mode():
        plain = network(x)
        with sampling([Draw(0, 0, 0)]):
            first, again = network(x), network(x)
        with sampling([Draw(0, 1, 0)]):
            second = network(x)
        for module in network.up.modules():
            if isinstance(module, McDropout):
                module.p = 0.0
        with sampling([Draw(0, 1, 0)]):
            encoder_only = network(x)
    assert plain.shape == (1, 4, 64, 32)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(encoder_only, plain), "no dropout inside the encoder"


def test_skip_connections_of_a_backbone_are_not_dropped():
    network = BackboneUNet("resnet18", channels=1, classes=2).eval()
    number_sites(network)
    x = torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        plain = network.encoder(x)
        with sampling([Draw(0, 0, 0)]):
            random = network.encoder(x)
    assert torch.equal(plain[1], random[1])
    assert not torch.equal(plain[2], random[2])


def test_unknown_backbone_is_refused_with_examples():
    with pytest.raises(UsageError, match="resnet34"):
        BackboneUNet("resnot34")

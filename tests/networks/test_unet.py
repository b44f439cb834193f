"""The network of the papers: size, places of the dropout, folding, backbones."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from mskt.core.dropout import Draw, McDropout, number_sites, sampling
from mskt.core.errors import UsageError
from mskt.networks import inference
from mskt.networks.backbone import BackboneUNet
from mskt.networks.inference import count, for_inference
from mskt.networks.slice_variant import UNetVariant, build_unet
from mskt.networks.unet import BayesianUNet
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


@pytest.mark.parametrize("missing", [False, True])
def test_relu_inside_the_convolution_changes_nothing(missing, monkeypatch):
    """In 16 bits on a CPU, draw by draw; a torch without the operator goes the ordinary way."""
    if missing:
        monkeypatch.setattr(inference, "_fuses_relu", lambda: False)
    torch.manual_seed(0)
    network = build_unet(UNetVariant(levels=3, base=4, batch_norm=True), 5).eval()
    plain = deepcopy(network)
    number_sites(plain)
    for module in list(plain.modules()):
        if isinstance(module, nn.Sequential):
            inference._fold(module)
    plain = plain.to(torch.bfloat16, memory_format=torch.channels_last)
    fused = for_inference(network, torch.device("cpu"), torch.bfloat16)
    count_fused = sum(isinstance(m, inference.ConvReLU) for m in fused.modules())
    assert count_fused == (0 if missing or not inference._fuses_relu() else 10)
    x = torch.randn(1, 1, 24, 16).bfloat16().to(memory_format=torch.channels_last)
    with torch.inference_mode(), sampling([Draw(1, 2, 3)]):
        assert torch.equal(fused(x), plain(x))


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

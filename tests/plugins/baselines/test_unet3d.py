"""The 3-D U-Net is that of its paper; what segmenters share is tested with unetr."""

from dataclasses import fields

import pytest
import torch

from mskt.core.dropout import Draw, number_sites, sampling
from mskt.networks.blocks3d import InstanceNorm
from mskt.networks.inference import count
from mskt.networks.patch_variant import PatchVariant
from mskt.networks.unet3d import UNet3d
from mskt.plugins.baselines.unet3d import VARIANTS, training
from mskt.plugins.baselines.unet3d import segmenter as unet3d_segmenter
from mskt.plugins.unetr.variants import VARIANTS as UNETR_VARIANTS


def test_size_is_that_of_the_paper():
    """Çiçek 2016: 19 069 955 parameters with 3 input channels and 3 classes.

    Ours has one input channel, neither biases of normalised convolutions nor affine normalisation.
    """
    with torch.device("meta"):
        assert count(UNet3d(VARIANTS["paper"], 3)) == pytest.approx(19.07e6, rel=0.003)
        assert count(UNet3d(VARIANTS["compact"], 23)) < 1e6


def test_the_compact_size_sees_what_the_compact_unetr_sees():
    """Else comparing the two would compare windows."""
    ours, theirs = VARIANTS["compact"], UNETR_VARIANTS["compact"]
    for shared in fields(PatchVariant):
        assert getattr(ours, shared.name) == getattr(theirs, shared.name), shared.name


@torch.inference_mode()
def test_shapes_and_dropout():
    made = VARIANTS["tiny"]
    net = UNet3d(made, 4).eval()
    assert number_sites(net) == 2 * (made.levels - 1)
    x = torch.rand(1, 1, *made.window)
    plain = net(x)
    assert plain.shape == (1, 4, *made.window)
    with sampling([Draw(1, 0, 3)]):
        first, again = net(x), net(x)
    assert torch.equal(first, again) and not torch.equal(first, plain)


def test_instance_normalisation_is_that_of_torch():
    x = torch.randn(2, 5, 6, 7, 4) * 3 + 2
    torch.testing.assert_close(InstanceNorm()(x), torch.nn.InstanceNorm3d(5)(x))


def test_windows_fit_the_poolings():
    for made in VARIANTS.values():
        assert all(side % 2 ** (made.levels - 1) == 0 for side in made.window)


def test_segmenter_and_its_training():
    made = unet3d_segmenter(weights="random", device="cpu")
    assert made.label_set.name == "msk22"
    assert made.tags.stochastic
    (task,) = training(made.label_set, {"variant": "tiny"})
    assert task.card["variant_name"] == "tiny"
    assert task.patch == VARIANTS["tiny"].window

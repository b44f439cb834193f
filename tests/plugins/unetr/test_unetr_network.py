"""The network is that of the paper and of MONAI."""

import pytest
import torch

from mskt.core.dropout import Draw, number_sites, sampling
from mskt.core.errors import WeightsError
from mskt.networks.inference import count
from mskt.plugins.unetr.network import UNETR, UnetrVariant, from_monai
from mskt.plugins.unetr.variants import VARIANTS

SMALL = UnetrVariant(window=(32, 48, 32), embedding=48, heads=4, mlp=96, features=8)


def monai_network(tokens):
    pytest.importorskip("einops", reason="MONAI's attention needs einops")
    nets = pytest.importorskip("monai.networks.nets")
    torch.manual_seed(0)
    return nets.UNETR(
        1,
        7,
        SMALL.window,
        SMALL.features,
        SMALL.embedding,
        SMALL.mlp,
        SMALL.heads,
        proj_type=tokens,
    ).eval()


@pytest.mark.parametrize("tokens", ["conv", "perceptron"])
@torch.inference_mode()
def test_weights_of_monai_give_the_outputs_of_monai(tokens):
    theirs = monai_network(tokens)
    ours = UNETR(SMALL, 7).eval()
    ours.load_state_dict(from_monai(theirs.state_dict()))
    x = torch.rand(2, 1, *SMALL.window)
    wanted = theirs(x)
    assert wanted.std() > 0.1
    torch.testing.assert_close(ours(x), wanted, rtol=0, atol=1e-4)


def monai_names(state):
    """Ours as MONAI writes them, by hand for one of each kind."""
    return {
        "vit.patch_embedding.patch_embeddings.weight": state["tokens.weight"],
        "vit.patch_embedding.position_embeddings": state["position"],
        "vit.blocks.7.mlp.linear1.bias": state["blocks.7.mlp.fc1.bias"],
        "vit.blocks.11.attn.out_proj.weight": state["blocks.11.attn.proj.weight"],
        "vit.blocks.0.attn.qkv.weight": state["blocks.0.attn.qkv.weight"],
        "vit.norm.weight": state["norm.weight"],
        "encoder1.layer.conv3.conv.weight": state["skip.shortcut.0.weight"],
        "encoder2.transp_conv_init.conv.weight": state["lift.0.first.weight"],
        "encoder2.blocks.1.0.conv.weight": state["lift.0.more.1.0.weight"],
        "encoder3.blocks.0.1.conv2.conv.weight": state["lift.1.more.0.1.second.weight"],
        "decoder5.transp_conv.conv.weight": state["decoder.0.up.weight"],
        "decoder2.conv_block.conv1.conv.weight": state["decoder.3.block.first.weight"],
        "out.conv.conv.bias": state["head.bias"],
    }


def test_names_of_monai():
    state = UNETR(SMALL, 7).state_dict()
    theirs = monai_names(state)
    mapped = from_monai({**theirs, "vit.blocks.0.norm_cross_attn.weight": torch.ones(48)})
    assert len(mapped) == len(theirs)
    for name, value in mapped.items():
        assert value is state[name]


def test_what_is_not_monais_is_refused():
    with pytest.raises(WeightsError, match=r"module\.vit"):
        from_monai({"module.vit.norm.weight": torch.ones(3)})


def test_sizes():
    """MONAI's UNETR of this size has 92.8 M parameters that it uses; ours for two cores under 8 M."""
    with torch.device("meta"):
        sizes = {name: count(UNETR(made, 31)) / 1e6 for name, made in VARIANTS.items()}
    assert sizes["vitb"] == pytest.approx(92.78, abs=0.01)
    assert sizes["compact"] < 8
    paper = VARIANTS["vitb"]
    assert (paper.embedding, paper.depth, paper.heads, paper.mlp) == (768, 12, 12, 3072)
    assert (paper.window, paper.spacing_mm, paper.dropout) == ((96, 96, 96), (1.5, 1.5, 2.0), 0)
    assert (paper.hu_window, paper.gamma) == ((-57, 164), 2)


@torch.inference_mode()
def test_dropout_of_the_transformer_is_drawn_by_number():
    net = UNETR(VARIANTS["tiny"], 3).eval()
    assert number_sites(net) == 1 + 3 * VARIANTS["tiny"].depth
    x = torch.rand(1, 1, *VARIANTS["tiny"].window)
    plain = net(x)
    out = []
    for draw in (Draw(1, 0, 3), Draw(1, 0, 3), Draw(1, 1, 3), Draw(1, 0, 4)):
        with sampling([draw]):
            out.append(net(x))
    assert torch.equal(out[0], out[1])
    assert not any(torch.equal(out[0], other) for other in (plain, out[2], out[3]))

"""Networks, votes, draws and the way back, with untrained networks."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from legs_scan import scan

from mskt.core.anatomy import label_set
from mskt.core.dropout import Draw, McDropout, number_sites, sampling
from mskt.core.errors import UsageError, WeightsError
from mskt.core.pipeline import segment_case
from mskt.core.volume import Volume
from mskt.networks.inference import for_inference
from mskt.plugins.uncertainty.estimators import DeterministicEstimator, McDropoutEstimator
from mskt.plugins.unet25d.fusion import FUSIONS
from mskt.plugins.unet25d.network import TwoSkipUNet
from mskt.plugins.unet25d.segmenter import UNet25D
from mskt.plugins.unet25d.variants import VARIANTS, PlaneVariant, build


def made(**options) -> UNet25D:
    return UNet25D(weights="random", variant="tiny", device="cpu", precision="float32", **options)


def test_there_are_two_skips_whatever_the_depth() -> None:
    net = TwoSkipUNet(3, 11, (8, 16, 24, 24), batch_norm=True, dropout=0.0).eval()
    widths = [block[0].in_channels for block in net.decoder]
    assert widths == [24, 32, 16]  # coarse: no skip; then two with one
    assert net(torch.zeros(1, 3, 24, 16)).shape == (1, 11, 24, 16)


def test_sizes_and_cards() -> None:
    sizes = {n: sum(p.numel() for p in build(v, 11).parameters()) for n, v in VARIANTS.items()}
    assert 3e5 < sizes["compact"] < 1e6
    for variant in VARIANTS.values():
        assert variant.stride(0) * variant.grid_mm[0] == variant.neighbour_mm
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in variant.as_dict().items()}
        assert PlaneVariant.from_dict(plain) == variant


PLANES = torch.tensor([[[0.6, 0.3, 0.1]], [[0.1, 0.9, 0.0]], [[0.5, 0.3, 0.2]]]).transpose(1, 2)


@pytest.mark.parametrize(
    ("rule", "want"),
    [
        ("wta", [0.1, 0.9, 0.0]),
        ("mean", [0.4, 0.5, 0.1]),
        ("max", [0.6 / 1.7, 0.9 / 1.7, 0.2 / 1.7]),
        ("majority", [2 / 3, 1 / 3, 0.0]),
    ],
)
def test_votes_are_what_they_say(rule: str, want: list[float]) -> None:
    out = FUSIONS[rule](iter(PLANES))
    torch.testing.assert_close(out[:, 0], torch.tensor(want))


def test_a_split_vote_is_decided_by_the_mean() -> None:
    split = torch.tensor([[0.5, 0.4, 0.1], [0.1, 0.5, 0.4], [0.0, 0.45, 0.55]])[:, :, None]
    torch.testing.assert_close(FUSIONS["majority"](iter(split)), split.mean(0))


def test_members_are_the_planes_and_their_mean_is_the_mean_vote() -> None:
    image = scan()
    planes, mean = made(members="planes"), made(fusion="mean")
    assert planes.tags.members == 3
    work = planes.prepare(image)[0]
    (region,) = planes.regions(work)
    draws = [planes.draw(work, region, index=i, seed=1) for i in range(3)]
    fused = mean.draw(work, region, index=0, seed=1)
    torch.testing.assert_close(sum(draws) / 3, fused, atol=1e-5, rtol=0)
    assert not torch.equal(draws[0], draws[1])


def test_options_that_exclude_each_other_and_unknown_ones() -> None:
    with pytest.raises(UsageError, match="members=planes"):
        made(members="planes", fusion="wta")
    for option in ("fusion", "members"):
        with pytest.raises(UsageError, match=option):
            made(**{option: "nonsense"})


def test_without_weights_the_error_lists_what_there_is(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("MSKT_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match="no weights named"):
        UNet25D(weights="unet25d-nonsense")


@pytest.mark.parametrize("labels", ["thigh10", "msk22"])
def test_both_legs_come_back_to_the_grid_of_the_scan(labels: str) -> None:
    image = scan()
    result = segment_case(image, made(label_set=labels), McDropoutEstimator(samples=2))
    assert result.labels.data.shape == image.data.shape
    assert result.labels.data.max() <= len(label_set(labels).names)
    assert result.uncertainty.max() > 0
    assert result.uncertainty[~image.mask].max() < result.uncertainty.max()


def test_no_leg_gives_an_empty_result_that_says_why() -> None:
    image = Volume(np.full((20, 20, 20), -1000, np.float32), np.diag([3.0, 3, 3, 1]))
    result = segment_case(image, made(), DeterministicEstimator())
    assert result.labels.data.max() == 0
    assert any("no femur found" in note for note in result.notes)


def test_network_made_ready_for_inference_differs_by_rounding():
    torch.manual_seed(0)
    network = TwoSkipUNet(3, 4, (4, 8, 8), batch_norm=True, dropout=0.2).eval()
    number_sites(network)
    ready = for_inference(deepcopy(network), torch.device("cpu"), torch.float32)
    assert all(m.absorbed for m in ready.modules() if isinstance(m, McDropout))
    x = torch.randn(1, 3, 16, 24)
    for draw in (Draw(1, 0, 2), Draw(1, -1, 2)):
        with torch.inference_mode(), sampling([draw]):
            torch.testing.assert_close(ready(x), network(x), rtol=1e-4, atol=1e-5)

"""The region check between body network and muscle network."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from mskt.core.errors import UsageError
from mskt.core.interfaces import Region
from mskt.core.levelnet import LevelNet, network_input, shipped, slice_levels
from mskt.core.regions import LEVELS_MM, standard_mm
from mskt.core.viewcheck import NOT_IN_VIEW, level_network
from mskt.core.volume import Volume
from mskt.plugins.unet_bayes.segmenter import UNetBayes

REAL = Path(os.environ.get("MSKT_SHARED", Path(__file__).parents[4] / "shared")) / "ct"


class Told(torch.nn.Module):
    """Reads the level off the brightness of the middle of a slice: 1 HU a mm, 0 HU at −940 mm."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hu = (x[:, 1, 40, 32] + 1) * 800 - 1000  # the middle slice in the wide window
        levels = torch.tensor(LEVELS_MM - LEVELS_MM[0])
        return -0.5 * ((hu[:, None] * 4 - levels) / 20) ** 2


def person(low_mm: float, high_mm: float, spacing: float = 8.0) -> Volume:
    """A cylinder whose brightness says at which height of the standard person a slice lies."""
    heights = np.arange(low_mm, high_mm, spacing)
    i, j = np.indices((52, 40))
    inside = ((i - 26) / 20) ** 2 + ((j - 20) / 14) ** 2 < 1
    data = np.full((52, 40, len(heights)), -1000, np.float32)
    data[inside] = ((heights - LEVELS_MM[0]) / 4).astype(np.float32)
    return Volume(data, np.diag([6.0, 6.0, spacing, 1.0]))


@pytest.fixture(scope="module")
def segmenter() -> UNetBayes:
    made = UNetBayes(weights="random", precision="float32")
    made._levels = Told()
    return made


def whole(work: Volume) -> Region:
    return Region((0, 0, 0), work.data.shape)


def test_levels_are_read_at_every_slice():
    image = person(-300, 300, spacing=3.0)
    levels = slice_levels(image.data, image.grid, None, Told())
    truth = np.arange(-300, 300, 3.0)
    assert np.abs(standard_mm(levels.coordinate) - truth).max() < 30


def test_what_cannot_be_there_is_background(segmenter):
    work = segmenter.prepare(person(-640, 640))[0]
    draw = segmenter.draw(work, whole(work), index=0, seed=1)
    torch.testing.assert_close(draw.sum(0), torch.ones_like(draw[0]))
    zoom = work.grid.spacing_mm[2]
    height = np.linspace(-644, 640, work.data.shape[2] + 1)[:-1] + zoom / 2
    names = segmenter.labels
    for name, low, high in (
        ("gluteus_maximus", -250, 220),
        ("vastus_medialis", -600, 100),
        ("psoas_major", -220, 420),
    ):
        there = (draw[names.index(name)] > 0).any(0).any(0).numpy()
        assert there[(height > low + 130) & (height < high - 130)].all(), name
        assert not there[(height < low) | (height > high)].any(), name
    assert not work.mask[:, :, height > 480].any()
    assert "left out" in " ".join(work.notes)


def test_hip_and_thigh_lose_nothing(segmenter):
    image = person(-380, 120)
    work = segmenter.prepare(image)[0]
    assert work.mask.all()
    assert not work.notes
    free = UNetBayes(weights="random", precision="float32")
    other = free.prepare(image)[0]
    middle = Region((0, 0, 70), (*work.data.shape[:2], 80))
    a = segmenter.draw(work, middle, index=0, seed=1)
    b = free.draw(other, middle, index=0, seed=1)
    assert torch.equal(a[names_at(segmenter, "femur")], b[names_at(segmenter, "femur")])


def names_at(segmenter: UNetBayes, name: str) -> int:
    return segmenter.labels.index(name)


@pytest.mark.parametrize(("low", "high"), [(380, 780), (-900, -620)])
def test_without_hip_or_thigh_nothing_is_computed_and_it_says_so(segmenter, low, high, monkeypatch):
    work = segmenter.prepare(person(low, high))[0]
    assert any(NOT_IN_VIEW in note for note in work.notes)
    monkeypatch.setattr(segmenter._sweep, "_network", None)  # calling it would fail
    draw = segmenter.draw(work, whole(work), index=0, seed=1)
    assert (draw[0] == 1).all()


def test_switch():
    assert level_network("off", random=False) is None
    assert level_network("on", random=True) is None
    assert isinstance(level_network(True, random=False), LevelNet)
    with pytest.raises(UsageError, match="neither on nor off"):
        UNetBayes(weights="random", region_check="maybe")


def test_input_is_centred_on_the_tissue_and_padded_with_air():
    small = np.full((30, 100, 3), -1000, np.float32)
    small[4:14, 60:90] = 40
    x = network_input(small, 0)
    assert x.shape == (6, 80, 64)
    tissue = np.argwhere(x[1] > 0)
    np.testing.assert_allclose(tissue.mean(axis=0), (39.5, 31.5), atol=1.5)
    assert x.min() == -1


def test_shipped_network_is_small():
    network = shipped()
    assert sum(p.numel() for p in network.parameters()) < 150_000


@pytest.mark.shared
@pytest.mark.skipif(not REAL.exists(), reason=f"no real CT at {REAL} (set MSKT_SHARED)")
def test_real_pelvis_lies_between_hip_joint_and_iliac_crest():
    import nibabel as nib

    image = nib.load(REAL / "vhf_pelvis" / "ct.nii.gz")
    data = np.asarray(image.dataobj)[::2, ::2, ::2].astype(np.float32)
    grid = Volume(data, np.diag([2.0, 2, 2, 1])).grid
    levels = slice_levels(data, grid, None, shipped())
    u = levels.coordinate
    assert (np.diff(u) > -0.02).all()
    assert u[0] == pytest.approx(1.0, abs=0.25)  # femoral heads
    assert u[-1] == pytest.approx(2.0, abs=0.35)  # L4

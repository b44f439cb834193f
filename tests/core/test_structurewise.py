"""Doubt about structures against the definitions, written out on whole arrays."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mskt.core.interfaces import Estimate, Region
from mskt.core.recorder import Recorder
from mskt.core.structurewise import structurewise
from mskt.core.volume import Volume

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
SHAPE = (21, 18, 6)
CLASSES = 4
SIDES = {"right": [1], "left": [2], "both": [0, 1, 2]}


def draws(count, seed, shape=SHAPE):
    """Softmax draws that agree in most places, ``(T, C, *shape)``; class 3 lies in the left half."""
    generator = torch.Generator().manual_seed(seed)
    base = 4 * torch.randn((CLASSES, *shape), generator=generator)
    noise = 2 * torch.randn((count, CLASSES, *shape), generator=generator)
    return (base + noise).softmax(1)


def final_maps(mean, seed):
    """Labels and sides as a run has them: the argmax with some voxels removed, halves as sides."""
    labels = mean.argmax(0).to(torch.uint8).numpy().copy()
    labels[np.random.default_rng(seed).random(labels.shape) < 0.05] = 0
    sides = np.where(np.arange(SHAPE[0])[:, None, None] < SHAPE[0] / 2, 1, 2).astype(np.uint8)
    return labels, np.where(labels > 0, sides, 0).astype(np.uint8)


def recorded(all_draws, hu, boxes, mask=None):
    recorder = Recorder(Volume(hu, AFFINE, mask=mask), CLASSES)
    for start, stop in boxes:
        region = Region(start, stop)
        part = all_draws[(slice(None), slice(None), *region.slices)]
        mean = part.mean(0)
        variance = part.var(0, unbiased=False).mean(0)
        assert len(list(recorder.watched(region, part))) == len(part)
        recorder.add(region, Estimate(mean, variance, {"most": 1 - mean.amax(0)}), "spread")
    return recorder


def whole():
    return [((0, 0, 0), SHAPE)]


def halves():
    """A partition whose borders are no multiples of a cell, in any order."""
    i, j, k = SHAPE
    return [
        ((0, 7, 0), (i, j, 4)),
        ((0, 0, 4), (13, j, k)),
        ((13, 0, 4), SHAPE),
        ((0, 0, 0), (i, 7, 4)),
    ]


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 6), st.integers(0, 999), st.booleans())
def test_equals_the_definitions(count, seed, parts):
    all_draws = draws(count, seed)
    hu = np.random.default_rng(seed).normal(50, 20, SHAPE).astype(np.float32)
    mean = all_draws.mean(0)
    labels, sides = final_maps(mean, seed)
    recorder = recorded(all_draws, hu, halves() if parts else whole())
    got = structurewise([recorder], labels, sides, Volume(hu, AFFINE).grid)
    assert got.draws == count

    spread = all_draws.var(0, unbiased=False).mean(0).numpy()
    votes = all_draws.argmax(1).numpy()
    unanimous = (votes == votes[0]).all(0)
    votes = np.where(unanimous & (labels == 0), 0, votes)  # taken away with a stray component
    for index, codes in itertools.product((1, 2, 3), SIDES.values()):
        mine = (labels == index) & np.isin(sides, codes)
        assert got.voxels[index, codes].sum() == mine.sum()
        assert got.doubt(index, codes, "mean", "spread") == pytest.approx(
            spread[mine].mean(), rel=2e-3
        )
        inner = mine & inside(np.where(labels > 0, labels * 3 + sides, 0))
        assert got.interior[index, codes].sum() == inner.sum()
        border = mine & ~inner
        assert got.doubt(index, codes, "boundary", "spread") == pytest.approx(
            spread[border].mean(), rel=2e-3
        )
        if codes == SIDES["both"]:  # sides of unlabelled voxels are told by cells
            soft = 2 * mean[index].numpy()[mine].sum() / (mean[index].sum().item() + mine.sum())
            assert got.doubt(index, codes, "soft_dice") == pytest.approx(1 - soft, abs=2e-3)
            masks = [vote == index for vote in votes]
            volumes = np.array([mask.sum() for mask in masks])
            assert got.volume_cv(index, codes) == pytest.approx(
                volumes.std(ddof=1) / volumes.mean()
            )
            means = np.array([hu[mask].mean(dtype=float) for mask in masks])
            assert got.hu_sd(index, codes) == pytest.approx(means.std(ddof=1), rel=1e-4)
            dice = [
                2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in itertools.combinations(masks, 2)
            ]
            assert got.doubt(index, codes, "pairwise_dice") == pytest.approx(1 - np.mean(dice))
            label = 1 - mean[index].numpy()[mine].mean()
            assert got.doubt(index, codes, "combined") == pytest.approx(
                np.mean([label, 1 - soft, 1 - np.mean(dice)]), abs=2e-3
            )


def inside(code):
    """Voxels whose six neighbours have the same code."""
    padded = np.pad(code, 1, constant_values=-1)
    same = np.ones(code.shape, bool)
    for axis, step in itertools.product(range(3), (-1, 1)):
        same &= np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1] == code
    return same


def test_sides_add_up_and_are_told_by_place():
    """A structure on both sides: what is said of one depends on that side's voxels alone."""
    all_draws = draws(4, 1)
    calm = all_draws.clone()
    calm[:, :, :10] = calm[:1, :, :10]  # no disagreement on the right
    hu = np.zeros(SHAPE, np.float32)
    labels, sides = final_maps(calm.mean(0), 1)
    got = structurewise([recorded(calm, hu, halves())], labels, sides, Volume(hu, AFFINE).grid)
    for index in (1, 2, 3):
        assert got.doubt(index, [1], "mean", "spread") < got.doubt(index, [2], "mean", "spread")
        assert got.doubt(index, [2], "pairwise_dice") > 0.05
        assert got.volumes[index].sum(0) == pytest.approx(
            got.volumes[index, 0] + got.volumes[index, 1] + got.volumes[index, 2]
        )


def test_outside_the_mask_nothing_counts():
    all_draws = draws(3, 2)
    hu = np.zeros(SHAPE, np.float32)
    mask = np.zeros(SHAPE, bool)
    mask[:11] = True
    labels, sides = final_maps(all_draws.mean(0), 2)
    got = structurewise(
        [recorded(all_draws, hu, whole(), mask)], labels, sides, Volume(hu, AFFINE).grid
    )
    assert got.voxels[1:, 2].sum() == 0 < got.voxels[1:, 1].sum()
    assert got.doubt(1, [2], "mean", "spread") is None
    assert got.doubt(1, [2], "soft_dice") is None
    assert got.doubt(1, [2], "combined") is None


def test_one_draw_has_no_spread_but_a_soft_dice():
    all_draws = draws(1, 3)
    hu = np.zeros(SHAPE, np.float32)
    labels, sides = final_maps(all_draws.mean(0), 3)
    got = structurewise([recorded(all_draws, hu, whole())], labels, sides, Volume(hu, AFFINE).grid)
    both = SIDES["both"]
    assert got.doubt(1, both, "pairwise_dice") is None
    assert got.doubt(1, both, "volume_cv") is None
    assert got.hu_sd(1, both) is None
    assert np.isnan(got.half_width())
    assert 0 < got.doubt(1, both, "soft_dice") < 1
    label = 1 - all_draws[0, 1].numpy()[labels == 1].mean()
    expected = (label + got.doubt(1, both, "soft_dice")) / 2
    assert got.doubt(1, both, "combined") == pytest.approx(expected, abs=2e-3)


def test_nothing_found_gives_no_numbers():
    hu = np.zeros(SHAPE, np.float32)
    empty = np.zeros(SHAPE, np.uint8)
    background = torch.zeros((3, CLASSES, *SHAPE))
    background[:, 0] = 1
    got = structurewise([recorded(background, hu, whole())], empty, empty, Volume(hu, AFFINE).grid)
    for name in ("mean", "interior", "boundary"):
        assert got.doubt(1, [0, 1, 2], name, "spread") is None
    assert got.doubt(1, [0, 1, 2], "pairwise_dice") is None


def test_two_grids_are_one_patient():
    """Two legs, each on a grid of its own: sums, and regions that stopped early repeat their draws."""
    first, second = draws(4, 4), draws(2, 5)
    hu = np.zeros(SHAPE, np.float32)
    left, right = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    left[11:], right[:11] = True, True
    mean = torch.where(torch.from_numpy(left), first.mean(0), second.mean(0))
    labels, sides = final_maps(mean, 6)
    recorders = [recorded(first, hu, whole(), left), recorded(second, hu, halves(), right)]
    got = structurewise(recorders, labels, sides, Volume(hu, AFFINE).grid)
    assert got.draws == 4
    assert got.voxels.sum() == (labels > 0).sum()
    np.testing.assert_array_equal(got.volumes[2, 1, :2], got.volumes[2, 1, 2:])

"""Samples of slices and boxes: affine, what is known, and the same however they are shared out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from box_cases import BOXES, SHAPE, SPACING, case, task
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mskt.core.anatomy import label_set
from mskt.core.errors import UsageError
from mskt.plugins.unet_bayes.training import training
from mskt.training.augment import Placement, draw_placement, take
from mskt.training.cases import TrainingCase
from mskt.training.losses import IGNORED
from mskt.training.patches import PatchTask
from mskt.training.recipes import Augmentation, from_dict, load


def rng(seed=0):
    return np.random.default_rng(seed)


def recipe(**tables):
    return from_dict(tables, "test")


def test_taking_a_sample_leaves_its_source_alone():
    """Also where it is float32 and lies in memory as the sampler wants it."""
    source = rng().normal(size=(6, 5)).astype(np.float32)
    before = source.copy()
    placed = draw_placement((6, 5), np.array([2.5, 2.0]), SPACING, Augmentation(), rng())
    got = take(source, placed, fill=-1024.0, linear=True)
    assert np.array_equal(source, before)
    np.testing.assert_allclose(got, before, atol=1e-3)  # float32 around the fill of -1024


@given(st.sampled_from([(7, 6), (5, 4, 3)]), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_without_change_a_sample_is_a_crop(size, seed):
    """Also where it sticks out of the source: there is the fill value."""
    axes = len(size)
    source = rng(seed).integers(-1000, 3000, (9, 8, 7)[:axes]).astype(np.int16)
    start = rng(seed).integers(-3, 5, axes)
    centre = start + (np.array(size) - 1) / 2
    padded = np.pad(source, 10, constant_values=-1024)
    want = padded[tuple(slice(s + 10, s + 10 + n) for s, n in zip(start, size, strict=True))]
    placed = draw_placement(size, centre, SPACING, Augmentation(), rng())
    for linear in (True, False):
        got = take(source, placed, fill=-1024.0, linear=linear)
        np.testing.assert_allclose(got, want, atol=0.05)


def test_far_outside_there_is_nothing_but_fill():
    placed = Placement((3, 3), np.array([100.0, -50.0]), np.eye(2))
    assert (take(np.ones((5, 5)), placed, fill=-7.0, linear=True) == -7).all()


@pytest.mark.parametrize("axes", [2, 3])
def test_augmentation_moves_image_and_labels_alike(axes):
    """A disc of labels in an image with the same disc: they fall together after any affine."""
    shape = (40, 40, 20)[:axes]
    points = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    labels = (np.linalg.norm((points - np.array(shape) / 2), axis=-1) < 8).astype(np.uint8)
    varied = Augmentation(0.1, 1.0, 20.0, 0.2, 0.3, 0.5)
    for seed in range(10):
        placed = draw_placement(shape, (np.array(shape) - 1) / 2, (2, 2, 3), varied, rng(seed))
        image = take(labels * 100.0, placed, fill=0.0, linear=True)
        target = take(labels, placed, fill=0.0, linear=False)
        assert target.sum() > 50
        assert np.mean((image > 50) != (target > 0)) < 0.02


def test_rotation_is_one_of_space_not_of_the_array():
    """A square in mm, of voxels that are not square, keeps its edges when turned by 90 degrees."""
    varied = Augmentation(rotation_deg=90.0)
    spacing = (1.0, 4.0)
    seeds = (s for s in range(500) if abs(abs(rng(s).uniform(-1, 1, 3)[2]) - 1) < 0.01)
    generator = rng(next(seeds))
    placed = draw_placement((5, 5), np.zeros(2), spacing, varied, generator)
    lengths = np.linalg.norm(
        np.diag(spacing) @ placed.matrix @ np.diag(1 / np.array(spacing)), axis=0
    )
    np.testing.assert_allclose(lengths, 1, atol=1e-6)
    assert abs(placed.matrix[0, 1]) == pytest.approx(4, rel=0.01)


def test_flip_mirrors_right_and_left_only():
    source = rng().integers(0, 9, (6, 5)).astype(np.uint8)
    centre = (np.array(source.shape) - 1) / 2
    placed = draw_placement((6, 5), centre, SPACING, Augmentation(flip=1.0), rng())
    assert np.array_equal(take(source, placed, fill=0, linear=False), source[::-1])


def test_scale_above_one_makes_things_larger():
    found = []
    for seed in range(20):
        placed = draw_placement((4, 4), np.zeros(2), SPACING, Augmentation(scale=0.3), rng(seed))
        found.append(placed.matrix[0, 0])
    assert 1 / 1.3 <= min(found) < 0.9 and 1.1 < max(found) <= 1 / 0.7


AUGMENTED = {
    "sampling": {"size": 6, "crop": [16, 12], "labelled": 0.85},
    "augmentation": {
        "rotation_deg": 10,
        "scale": 0.2,
        "flip": 0.5,
        "hu_shift_sd": 6,
        "hu_gain": 0.04,
    },
}


def test_a_batch_depends_on_seed_and_step_alone():
    made, cases = recipe(**AUGMENTED), [case("a", n) for n in range(3)]
    first = task(context=1).batch(3, cases, made, seed=1)
    assert first.image.shape == (6, 3, 16, 12) and first.target.shape == (6, 16, 12)
    assert first.known.all() and first.known.shape == (6, 3)
    assert first.image.min() >= -1 and first.image.max() <= 1
    again = task(context=1).batch(3, cases, made, seed=1)
    assert torch.equal(first.image, again.image) and torch.equal(first.target, again.target)
    for step, seed in ((4, 1), (3, 2)):
        assert not torch.equal(first.image, task(context=1).batch(step, cases, made, seed).image)


@pytest.mark.parametrize("ranks", [2, 4])
def test_shares_of_processes_make_the_whole_batch(ranks):
    made, cases = recipe(**AUGMENTED), [case("a", n) for n in range(3)]
    whole = task().batch(3, cases, made, seed=1)
    for rank in range(ranks):
        part = task().batch(3, cases, made, seed=1, rank=rank, ranks=ranks)
        assert torch.equal(part.image, whole.image[rank::ranks])
        assert torch.equal(part.target, whole.target[rank::ranks])


def test_known_classes_travel_with_their_sample():
    cases = [case("a", 1, known=("bright",))]
    batch = task().batch(0, cases, recipe(sampling={"size": 2}), seed=0)
    assert batch.known.tolist() == [[True, True, False]] * 2


def test_what_is_outside_the_body_is_air_where_the_recipe_says_so():
    one = case()
    noisy = TrainingCase(np.where(one.body, one.image, 500).astype(np.int16), one.target, one.body)
    for masked, want in ((1.0, -1.0), (0.0, 1.0)):
        made = recipe(sampling={"size": 4, "masked": masked, "crop": list(SHAPE[:2])})
        image = task().batch(0, [noisy], made, seed=0).image
        assert (image[:, :, 0] == want).all()
        tile, _ = next(task().tiles(noisy, made))
        assert (tile[:, 0] == want).all()


def test_tiles_are_all_slices_or_evenly_spaced_ones():
    one, made = case(), recipe(sampling={"size": 4})
    targets = torch.cat([b.target for b in task(multiple=16).validation(one, made)])
    assert targets.shape == (6, 32, 32)
    assert np.array_equal(targets[:, :24, :20].numpy(), one.target.transpose(2, 0, 1))
    assert not targets[:, 24:].any()
    few = list(task().tiles(one, recipe(checks={"slices": 3})))
    assert len(few) == 3
    assert np.array_equal(few[2][1], one.target[:, :, 5])
    assert task().samples_in(one, made) == 6


def box_task():
    return PatchTask("net", lambda: nn.Conv3d(1, 3, 1), BOXES, SPACING, patch=(16, 16, 4))


def test_boxes_of_a_3d_network():
    made = recipe(sampling={"size": 2, "per_case": 3, "labelled": 1.0}, augmentation={"scale": 0.1})
    cases = [case("a", 1), case("b", 2, known=("dark",))]
    batch = box_task().batch(0, cases, made, seed=0)
    assert batch.image.shape == (6, 1, 16, 16, 4) and batch.target.shape == (6, 16, 16, 4)
    assert batch.target.flatten(1).any(1).all()  # each has labels in it
    for first in (0, 3):  # three samples of one case
        assert (batch.known[first : first + 3] == batch.known[first]).all()
    assert box_task().samples_in(cases[0], made) == 3


def test_tiles_of_boxes_cover_the_case_once():
    one = case()
    tiles = list(box_task().tiles(one, recipe()))
    assert len(tiles) == 2 * 2 * 2
    counted = sum(int((target != IGNORED).sum()) for _, target in tiles)
    assert counted == one.target.size
    labelled = sum(int((target == 1).sum()) for _, target in tiles)
    assert labelled == (one.target == 1).sum()


def test_the_last_box_begins_where_it_fits():
    """As in inference: no box is half full of air that is not in the scan."""
    one = case()
    one = replace(one, image=np.full(one.image.shape, 100, one.image.dtype))
    made = recipe(sampling={"masked": 0.0})
    assert any(n % s for n, s in zip(one.image.shape, (16, 16, 4), strict=True))
    tiles = list(box_task().tiles(one, made))
    first, last = tiles[0][0], tiles[-1][0]
    assert (first == first.flat[0]).all() and (last == first.flat[0]).all()
    small = replace(box_task(), patch=(64, 64, 64))
    ((image, target),) = small.tiles(one, made)
    assert (target == IGNORED).sum() == 64**3 - one.target.size
    assert len(np.unique(image)) == 2


def test_recipes_for_other_dimensions_are_refused():
    with pytest.raises(UsageError, match="2-D network"):
        task().batch(0, [case()], load("kim2024"), seed=0)
    with pytest.raises(UsageError, match="3-D network"):
        box_task().batch(0, [case()], load("mskt"), seed=0)


def test_unet_bayes_has_a_body_part_of_half_the_resolution():
    body, muscles = training(label_set("msk22"), {"variant": "compact"})
    assert (body.name, muscles.name, muscles.classes, body.classes) == ("body", "muscles", 23, 2)
    inside = np.zeros((192, 144, 3), bool)
    inside[40:150, 30:110] = True
    air = np.where(inside, 40, -1000).astype(np.int16)
    one = TrainingCase(air, inside.astype(np.uint8), inside, known=("femur",))
    made = load("mskt").for_part("body")
    batch = body.batch(0, [one], made, seed=0)
    assert batch.image.shape == (16, 1, 96, 80) and batch.target.shape == (16, 96, 80)
    assert batch.known.all() and set(batch.target.unique().tolist()) == {0, 1}
    assert batch.target[0].sum() == 55 * 40
    assert next(body.validation(one, made)).image.shape == (3, 1, 96, 80)
    seen = muscles.batch(0, [one], load("mskt"), seed=0)
    assert seen.image.shape == (16, 5, 128, 112)
    with pytest.raises(UsageError, match="Did you mean 'variant'"):
        training(label_set("msk22"), {"varaint": "compact"})

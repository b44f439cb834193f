"""Loss and Dice, and what partial annotation means for them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from mskt.training.losses import IGNORED, dice_counts, mean_dice, merged, segmentation_loss

CLASSES = 5
SHAPES = [(3, 4), (2, 3, 2)]


@st.composite
def problems(draw):
    """Logits, a target and known classes, in 2-D and 3-D; some pixels are ignored."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    shape = draw(st.sampled_from(SHAPES))
    logits = 3 * torch.randn((2, CLASSES, *shape), generator=generator)
    target = torch.randint(0, CLASSES, (2, *shape), generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.2] = IGNORED
    known = torch.rand((2, CLASSES), generator=generator) < 0.5
    known[:, 0] = True
    return logits, target, known


def restricted(target, known):
    """The target as it is when nobody annotated the others."""
    out = target.clone()
    for sample, mask in zip(out, known, strict=True):
        for c in range(1, CLASSES):
            if not mask[c]:
                sample[sample == c] = 0
    return out


def plain(logits, target, ce, dice):
    """The textbook: cross-entropy, and soft Dice of the classes present, class by class."""
    valid = target != IGNORED
    loss = ce * functional.cross_entropy(logits, target, ignore_index=IGNORED)
    p, terms = logits.softmax(1), []
    for c in range(1, CLASSES):
        there = (target == c).float()
        if there.sum():
            q = p[:, c] * valid
            terms.append(2 * (q * there).sum() / (q.sum() + there.sum()))
    return loss + dice * (1 - torch.stack(terms).mean()) if terms else loss


@given(problems(), st.sampled_from([(1.0, 0.0), (0.0, 1.0), (1.0, 0.7)]))
@settings(max_examples=40, deadline=None)
def test_with_all_known_it_is_the_textbook_loss(problem, weights):
    logits, target, _ = problem
    ce, dice = weights
    want = plain(logits, target, ce, dice)
    everything = torch.ones(2, CLASSES, dtype=torch.bool)
    for known in (None, everything):
        got = segmentation_loss(logits, target, known, ce=ce, dice=dice)
        torch.testing.assert_close(got, want)


@given(problems(), st.floats(0.05, 0.95))
@settings(max_examples=40, deadline=None)
def test_mass_may_move_between_background_and_unknown_classes(problem, part):
    """The loss sees their sum only."""
    logits, target, known = problem
    p = logits.double().softmax(1)
    unknown = ~known.view(2, CLASSES, *(1 for _ in p.shape[2:]))
    pool = p[:, 0] + (p * unknown).sum(1)
    moved = torch.where(unknown, p * (1 - part), p)
    moved[:, 0] = pool - (moved * unknown).sum(1)
    target = restricted(target, known)
    before = segmentation_loss(logits, target, known)
    after = segmentation_loss(moved.log(), target, known)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


@given(problems())
@settings(max_examples=40, deadline=None)
def test_an_unknown_class_is_pushed_exactly_as_the_background_is(problem):
    """Gradients of background and unknown classes are in the ratio of their probabilities: the loss
    says nothing about which of them it is."""
    logits, target, known = problem
    logits.requires_grad_()
    segmentation_loss(logits, restricted(target, known), known).backward()
    p, slope = logits.detach().softmax(1), logits.grad
    for n in range(2):
        for c in range(1, CLASSES):
            if not known[n, c]:
                torch.testing.assert_close(
                    slope[n, c] * p[n, 0], slope[n, 0] * p[n, c], atol=1e-6, rtol=1e-4
                )


@given(problems())
@settings(max_examples=30, deadline=None)
def test_it_does_not_matter_what_an_unknown_class_has_in_the_target(problem):
    logits, target, known = problem
    torch.testing.assert_close(
        segmentation_loss(logits, target, known),
        segmentation_loss(logits, restricted(target, known), known),
    )


@given(problems())
@settings(max_examples=30, deadline=None)
def test_ignored_pixels_have_neither_loss_nor_gradient(problem):
    logits, target, known = problem
    ignored = (target == IGNORED)[:, None].expand_as(logits)
    other = torch.where(ignored, -logits.flip(0), logits).requires_grad_()
    loss = segmentation_loss(other, target, known)
    torch.testing.assert_close(loss, segmentation_loss(logits, target, known))
    loss.backward()
    assert not other.grad[ignored].any()
    assert torch.isfinite(other.grad).all()


@given(problems())
@settings(max_examples=20, deadline=None)
def test_merged_probabilities_sum_to_one(problem):
    logits, _, known = problem
    p = merged(logits, known).exp()
    torch.testing.assert_close(p.sum(1), torch.ones_like(p[:, 0]))
    assert not p.movedim(1, -1).flatten(1, -2)[0][:, ~known[0]].any()


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_nothing_to_count_is_no_loss(weights):
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    target = torch.full((1, 4, 4), IGNORED)
    loss = segmentation_loss(logits, target, ce=weights[0], dice=weights[1])
    assert loss.item() == 0
    loss.backward()
    assert not logits.grad.any()


def test_a_perfect_prediction_has_no_loss_and_dice_one():
    target = torch.randint(0, 3, (1, 6, 6))
    logits = 50 * functional.one_hot(target, 3).permute(0, 3, 1, 2).float()
    assert segmentation_loss(logits, target).item() < 1e-4
    assert mean_dice(logits, target) == pytest.approx(1)


def test_counts_of_hard_labels():
    target = torch.tensor([[[0, 1, 1, 2, IGNORED]]])
    guess = torch.tensor([[[0, 1, 2, 2, 1]]])
    logits = 9 * functional.one_hot(guess, 3).permute(0, 3, 1, 2).float()
    assert dice_counts(logits, target).tolist() == [[1, 1, 1], [1, 1, 2], [1, 2, 1]]
    known = torch.tensor([[True, True, False]])  # guesses of class 2 become background
    assert dice_counts(logits, target, known).tolist() == [[2, 1, 0], [3, 1, 0], [2, 2, 0]]
    assert mean_dice(logits, target, known) == pytest.approx(2 / 3)


def test_the_sum_over_processes_is_the_loss_of_the_whole_batch():
    logits, target = torch.randn(4, 3, 5, 5), torch.randint(0, 3, (4, 5, 5))
    parts = []

    def note(sums):
        parts.append(sums)
        return sums

    for half in (slice(0, 2), slice(2, 4)):
        segmentation_loss(logits[half], target[half], total=note)
    both = segmentation_loss(logits[:2], target[:2], total=lambda _: parts[0] + parts[1])
    torch.testing.assert_close(both, segmentation_loss(logits, target))

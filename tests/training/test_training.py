"""The training loop learns, goes on where it was killed, and never saves nonsense."""

import numpy as np
import pytest
import torch
from torch import nn

from mskt.core.anatomy import label_set
from mskt.core.errors import MsktError
from mskt.training.cases import TrainingCase
from mskt.training.loop import Schedule, train
from mskt.training.losses import IGNORED, dice_cross_entropy, mean_dice
from mskt.training.slices import SliceBatches


def batch(step):
    """Bright squares are class 1; depends on the step alone."""
    generator = torch.Generator().manual_seed(step)
    target = torch.zeros((2, 16, 16), dtype=torch.int64)
    row, column = torch.randint(0, 8, (2,), generator=generator).tolist()
    target[:, row : row + 8, column : column + 8] = 1
    return target[:, None].float() + 0.1 * torch.randn((2, 1, 16, 16), generator=generator), target


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout2d(0.2),
        nn.Conv2d(8, 2, 1),
    )


def test_it_learns(tmp_path):
    net = network()
    average = train(net, batch, Schedule(40, lr=0.02, warmup=5), tmp_path, report=lambda _: None)
    net.load_state_dict(average)
    image, target = batch(1000)
    assert mean_dice(net.eval()(image), target) > 0.95


def test_a_resumed_run_ends_with_the_same_bits(tmp_path):
    plan = Schedule(12, save_every=5)
    whole = train(network(), batch, plan, tmp_path / "a", report=lambda _: None)

    def killed(step):
        if step == 8:
            raise KeyboardInterrupt
        return batch(step)

    with pytest.raises(KeyboardInterrupt):
        train(network(), killed, plan, tmp_path / "b", report=lambda _: None)
    again = train(network(), batch, plan, tmp_path / "b", report=lambda _: None)
    assert all(torch.equal(whole[key], again[key]) for key in whole)


def test_a_loss_that_is_no_number_stops_and_keeps_batch_and_checkpoint(tmp_path):
    def broken(step):
        image, target = batch(step)
        return (image * float("nan") if step == 7 else image), target

    with pytest.raises(MsktError, match=r"bad_batch\.pt"):
        train(network(), broken, Schedule(12, save_every=5), tmp_path, report=lambda _: None)
    assert (tmp_path / "bad_batch.pt").exists()
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["step"] == 5
    assert all(torch.isfinite(value).all() for value in state["network"].values())


def test_ignored_pixels_count_for_nothing():
    logits = torch.randn(1, 3, 4, 4)
    target = torch.randint(0, 3, (1, 4, 4))
    target[0, :2] = IGNORED
    other = logits.clone()
    other[:, :, :2] = 50 * torch.randn(1, 3, 2, 4)
    assert dice_cross_entropy(logits, target) == pytest.approx(
        dice_cross_entropy(other, target).item()
    )


def test_a_perfect_prediction_has_no_loss():
    target = torch.randint(0, 3, (1, 6, 6))
    logits = 50 * nn.functional.one_hot(target, 3).permute(0, 3, 1, 2).float()
    assert dice_cross_entropy(logits, target).item() < 1e-4


def test_batches_depend_on_the_step_alone_and_hide_what_is_not_body():
    rng = np.random.default_rng(0)
    atoms = np.zeros((40, 30, 9), np.uint8)
    atoms[10:20, 8:20] = 34  # right femur
    atoms[24:30, 8:20] = 134
    body = np.zeros(atoms.shape, bool)
    body[5:35, 4:26] = True
    target = label_set("msk22").from_atoms(atoms)
    case = TrainingCase(rng.integers(-200, 400, atoms.shape).astype(np.int16), target, body)
    batches = SliceBatches(2, (32, 48), (-150, 350), batch=6)
    image, target = batches.get(3, [case])
    again, _ = batches.get(3, [case])
    other, _ = batches.get(4, [case])
    assert image.shape == (6, 5, 32, 48)
    assert target.shape == (6, 32, 48)
    assert np.array_equal(image, again)
    assert not np.array_equal(image, other)
    assert set(np.unique(target)) == {0, 21}
    assert image.min() >= -1
    assert image.max() <= 1

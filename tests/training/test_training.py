"""The training loop learns, goes on where it was killed, and never saves nonsense."""

from __future__ import annotations

import os

import pytest
import torch
from box_cases import case, network, task
from torch import nn

from mskt.core.errors import MsktError, OutputError, UsageError
from mskt.training.logs import read
from mskt.training.loop import Conditions, Training
from mskt.training.recipes import from_dict
from mskt.training.task import Batch

CASES = [case("a", seed) for seed in range(3)]


def recipe(**changes):
    table = {
        "optimiser": {"name": "adamw", "lr": 0.02},
        "schedule": {"kind": "polynomial", "warmup": 3},
        "loss": {"kind": "dice_ce"},
        "sampling": {"size": 4, "crop": [16, 16]},
        "weights": {"ema": 0.9},
        "checks": {"save_every": 5, "validate_every": 10},
    }
    for key, value in changes.items():
        table[key] = {**table.get(key, {}), **value}
    return from_dict(table, "test")


def training(folder, steps, made=None, *, net=None, **more):
    made = made or recipe()
    torch.manual_seed(0)
    return Training(net or network(), made, steps, folder, task().class_names, **more), made


def batches(made):
    return lambda step: task().batch(step, CASES, made, seed=0)


def validation(made):
    held = case("z", 50)
    return lambda: iter([task().validation(held, made)])


def run(folder, steps, made=None, *, give=None, validate=True, **more):
    loop, made = training(folder, steps, made, **more)
    return loop.run(give or batches(made), validation(made) if validate else None)


def tensors(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def equal(first, second):
    return all(torch.equal(first[key], second[key]) for key in {**first, **second})


def test_it_learns_and_keeps_the_best(tmp_path):
    done = run(tmp_path, 60)
    assert done.dice > 0.9 and done.steps == 60 and not done.stopped_early
    rows = read(tmp_path / "validation.csv")
    assert [row["step"] for row in rows] == ["10", "20", "30", "40", "50", "60"]
    best = max(rows, key=lambda row: float(row["mean_dice"]))
    kept = torch.load(tmp_path / "best.pt", weights_only=True)
    assert done.step == kept["step"] == int(best["step"])
    assert equal(kept["tensors"], done.tensors)
    assert set(rows[0]) == {"step", "loss", "mean_dice", "bright", "dark"}
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert any((tmp_path / "tensorboard").iterdir())


@pytest.mark.parametrize(
    "changes",
    [
        {"optimiser": {"name": "adam"}, "weights": {"ema": 0.0}, "schedule": {"kind": "cosine"}},
        {
            "optimiser": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "clip": 5.0},
            "loss": {"kind": "ce"},
        },
        {"loss": {"kind": "dice"}, "schedule": {"kind": "inverse_time", "decay": 1e-3}},
    ],
)
def test_every_optimiser_schedule_and_loss_learns(tmp_path, changes):
    assert run(tmp_path, 60, recipe(**changes)).dice > 0.55


def test_bfloat16_learns_too(tmp_path):
    assert run(tmp_path, 50, conditions=Conditions(dtype=torch.bfloat16)).dice > 0.8


def test_a_resumed_run_ends_with_the_same_bits_and_the_same_tables(tmp_path):
    whole = run(tmp_path / "a", 24)
    made = recipe()

    def killed(step):
        if step == 23:
            raise KeyboardInterrupt
        return batches(made)(step)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", 24, give=killed)
    assert tensors(tmp_path / "b")["step"] == 20
    again = run(tmp_path / "b", 24)
    assert equal(whole.tensors, again.tensors)
    assert equal(tensors(tmp_path / "a")["network"], tensors(tmp_path / "b")["network"])
    for name in ("log.csv", "validation.csv"):
        drop = ("seconds_per_step",)
        first, second = (
            [{k: v for k, v in row.items() if k not in drop} for row in read(tmp_path / x / name)]
            for x in "ab"
        )
        assert first == second


def test_dropout_masks_leave_the_callers_generator_alone(tmp_path):
    torch.manual_seed(5)
    want = torch.rand(3)
    loop, made = training(tmp_path, 3)
    torch.manual_seed(5)
    loop.run(batches(made))
    assert torch.equal(torch.rand(3), want)


def test_a_finished_training_is_left_as_it_is(tmp_path):
    first = run(tmp_path, 10)

    def none(step):
        raise AssertionError("a step was made")

    again = run(tmp_path, 10, give=none)
    assert equal(first.tensors, again.tensors)
    assert len(read(tmp_path / "validation.csv")) == 1


def test_it_stops_when_dice_does_not_rise(tmp_path):
    made = recipe(optimiser={"lr": 1e-12}, checks={"patience": 2, "validate_every": 3})
    plain = nn.Conv2d(1, 3, 1)
    done = run(tmp_path, 60, made, net=plain)
    assert done.stopped_early and done.steps == 9 and done.step == 3
    assert run(tmp_path, 60, made, net=plain).steps == 9  # also when asked to go on


def test_another_training_is_not_continued(tmp_path):
    identity = {"recipe": {"optimiser": {"lr": 0.02}}, "data": ["a", "b"]}
    run(tmp_path, 5, identity=identity)
    other = {"recipe": {"optimiser": {"lr": 0.01}}, "data": ["a", "c"]}
    with pytest.raises(UsageError) as caught:
        run(tmp_path, 5, identity=other)
    assert "recipe.optimiser.lr was 0.02, now 0.01" in str(caught.value)
    assert "data was ['a', 'b'], now ['a', 'c']" in str(caught.value)
    assert "--overwrite" in str(caught.value)
    with pytest.raises(UsageError, match="does not fit"):
        run(tmp_path, 5, identity=identity, net=nn.Conv2d(1, 3, 1))


def test_a_damaged_checkpoint_is_named(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"PK no zip")
    with pytest.raises(MsktError, match=r"checkpoint\.pt: is no readable checkpoint"):
        run(tmp_path, 5)


def test_a_loss_that_is_no_number_stops_and_keeps_batch_and_checkpoint(tmp_path):
    made = recipe()

    def broken(step):
        batch = batches(made)(step)
        return Batch(batch.image * float("nan"), batch.target, batch.known) if step == 7 else batch

    with pytest.raises(MsktError, match=r"nan in step 7(.|\n)*bad_batch\.pt"):
        run(tmp_path, 12, give=broken)
    bad = torch.load(tmp_path / "bad_batch.pt", weights_only=True)
    assert bad["image"].isnan().all() and bad["target"].shape == (4, 16, 16)
    state = tensors(tmp_path)
    assert state["step"] == 5
    assert all(torch.isfinite(value).all() for value in state["network"].values())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")  # noqa: PTH110
def test_a_full_disk_leaves_the_last_checkpoint(tmp_path):
    """The file beside the checkpoint is one to which nothing can be written: a real ENOSPC."""
    made = recipe()

    def filling(step):
        if step == 8:
            part = tmp_path / f".checkpoint.pt.{os.getpid()}.part"
            part.symlink_to("/dev/full")
        return batches(made)(step)

    with pytest.raises(OutputError, match="the disk is full"):
        run(tmp_path, 12, give=filling)
    assert tensors(tmp_path)["step"] == 5
    again = run(tmp_path, 12)
    whole = run(tmp_path.parent / "whole", 12)
    assert equal(again.tensors, whole.tensors)


def test_a_compiled_network_gives_weights_with_their_own_names(tmp_path, monkeypatch):
    """Compiling puts the network into another module; here nothing else is done to it."""
    monkeypatch.setattr(torch, "compile", nn.Sequential)
    plain = run(tmp_path / "a", 6)
    made = run(tmp_path / "b", 6, conditions=Conditions(compile=True))
    assert equal(made.tensors, plain.tensors)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpu_learns_what_a_cpu_learns(tmp_path, dtype):
    plain = run(tmp_path / "cpu", 12)
    where = Conditions(device=torch.device("cuda"), dtype=dtype)
    made = run(tmp_path / "gpu", 12, conditions=where)
    assert made.dice == pytest.approx(plain.dice, abs=0.1)
    assert all(torch.isfinite(value).all() for value in made.tensors.values())

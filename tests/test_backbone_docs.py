"""The page on backbones: its files are the example's, and the example does what the page says."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from mskt.core.anatomy import label_set
from mskt.networks.family import PART
from mskt.testing import run_checks
from mskt.training.cases import TrainingCase
from mskt.training.losses import segmentation_loss
from mskt.training.recipes import load

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "mskt-dilated"
PAGE = (ROOT / "docs" / "backbones.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\w+ file=(\S+)\n(.*?)^```$", PAGE, re.M | re.S)


@pytest.fixture
def model(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLE))
    yield importlib.import_module("mskt_dilated.model")


@pytest.mark.parametrize(("file", "code"), BLOCKS, ids=[file for file, _ in BLOCKS])
def test_files_on_the_page_are_those_of_the_example(file, code):
    assert (EXAMPLE / file).read_text(encoding="utf-8") == code


def test_example_is_shown_whole_and_its_model_is_about_thirty_lines():
    made = {str(p.relative_to(EXAMPLE)) for p in EXAMPLE.rglob("*") if p.suffix in (".py", ".toml")}
    assert {file for file, _ in BLOCKS} == made
    code = dict(BLOCKS)["mskt_dilated/model.py"]
    assert len([line for line in code.splitlines() if line.strip()]) <= 33


def test_example_keeps_the_contract(model):
    bad = [r for r in run_checks(lambda: model.segmenter(weights="random")) if not r.ok]
    assert not bad, "\n".join(f"{r.name}: {r.message}" for r in bad)


def test_example_learns(model):
    (task,) = model.training(label_set("thigh10"), {})
    assert (task.name, task.classes) == (PART, 11)
    rng = np.random.default_rng(0)
    target = np.zeros((64, 48, 4), np.uint8)
    target[20:40, 10:30] = 3
    image = np.where(target > 0, 200, -100) + rng.normal(0, 5, target.shape)
    case = TrainingCase(image.astype(np.int16), target, np.ones(target.shape, bool))
    torch.manual_seed(0)
    network = task.network().train()
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    losses = []
    for step in range(12):
        batch = task.batch(step, [case], load("mskt"), seed=1)
        loss = segmentation_loss(network(batch.image), batch.target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3]), losses

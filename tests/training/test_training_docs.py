"""The page on training is true: its network is trained and segments, its recipe and tables exist."""

from __future__ import annotations

import re
import sys
import tomllib
import types
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from box_cases import BOXES, case, open_boxes

import mskt.training.datasets
from mskt.core.volume import Volume
from mskt.training import recipes, run
from mskt.training.loop import Conditions
from mskt.training.recipes import Recipe, from_dict

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


def block(language):
    return re.search(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S).group(1)


def test_the_network_of_the_page_learns_and_segments(tmp_path, monkeypatch):
    acme = types.ModuleType("acme")
    monkeypatch.setitem(sys.modules, "acme", acme)
    exec(compile(block("python"), "docs/training.md", "exec"), acme.__dict__)
    monkeypatch.setattr(mskt.training.datasets, "open_data", open_boxes)
    recipe = from_dict(
        {
            "name": "quick",
            "optimiser": {"lr": 0.02},
            "schedule": {"steps": 60},
            "loss": {"kind": "dice_ce"},
            "sampling": {"size": 4, "crop": [24, 24]},
        },
        "quick",
    )
    request = run.Request("slim", recipe, ("boxes",), BOXES)
    tasks = acme.SPEC.load_training()(BOXES, {})
    run.train(request, tasks, None, tmp_path, run.Setting(Conditions(), workers=0))
    segmenter = acme.SPEC.load()(str(tmp_path / "weights.safetensors"))
    held = case("z", 77)
    image = Volume(held.image.astype(np.float32), np.diag([2.0, 2.0, 3.0, 1.0]))
    draw = segmenter.draw(image, segmenter.regions(image)[0], index=0, seed=0)
    guess = draw.argmax(0).numpy()
    for index in (1, 2):
        agree = 2 * ((guess == index) & (held.target == index)).sum()
        assert agree / ((guess == index).sum() + (held.target == index).sum()) > 0.6


def test_recipe_and_table_of_the_page_are_those_of_the_code(tmp_path):
    file = tmp_path / "page.toml"
    file.write_text(block("toml"))
    made = recipes.load(str(file))
    assert made.for_part("body").schedule.steps == 3000
    assert {"base", *tomllib.loads(block("toml"))} <= {"base", *(f.name for f in fields(Recipe))}
    for name in ("optimiser", "schedule", "loss", "sampling", "augmentation", "weights", "checks"):
        row = re.search(rf"^\| `{name}` \|(.*)\|$", PAGE, re.M).group(1)
        there = {f.name for f in fields(getattr(made, name))}
        assert there == {word for word in re.findall(r"`(\w+)`", row)}, name


@pytest.mark.parametrize("name", recipes.available())
def test_every_number_of_a_recipe_has_a_comment_or_a_remark_above(name):
    """At least one comment a table: where the numbers are from."""
    text = (Path(recipes.__file__).parent / "recipes" / f"{name}.toml").read_text("utf-8")
    assert text.startswith("#")
    assert text.count("#") >= 3


def test_commands_page_lists_the_options():
    from typer.main import get_command

    from mskt.cli import app

    command = get_command(app).commands["train"]
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    section = page.split("## mskt train")[1].split("\n## ")[0]
    for option in command.params:
        assert option.opts[0] in section, option.opts[0]

"""``mskt train``: folds, members and parts in their folders, weights that run, and wrong calls."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from box_cases import BOXES, case, open_boxes
from typer.testing import CliRunner

import mskt.training.datasets
from mskt.cli import app
from mskt.core import weights
from mskt.core.anatomy import label_set
from mskt.core.errors import WeightsError
from mskt.core.volume import Volume
from mskt.plugins.unet_bayes.segmenter import UNetBayes
from mskt.plugins.unet_bayes.training import training
from mskt.training import run as training_run
from mskt.training.recipes import load
from mskt.training.request import Request
from mskt.training.run import chosen_parts
from mskt.training.transfer import fill, part_of

TINY = """
base = "mskt"
[schedule]
warmup = 0
[sampling]
size = 2
crop = [32, 32]
window = 2
[checks]
validate_every = 1
slices = 2
[parts.body.sampling]
crop = [32, 32]
"""


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Calls ``mskt train`` on boxes with a tiny recipe; the network is the compact one."""
    monkeypatch.setattr(mskt.training.datasets, "open_data", open_boxes)
    (tmp_path / "tiny.toml").write_text(TINY)
    (tmp_path / "boxes.tsv").write_text("index\tname\n1\tbright\n2\tdark\n")
    usual = {
        "--data": "boxes",
        "--recipe": tmp_path / "tiny.toml",
        "--label-set": tmp_path / "boxes.tsv",
        "--out": tmp_path / "out",
        "--max-steps": 2,
        "--workers": 0,
        "--precision": "float32",
    }

    def made(*words, **changes):
        options = {**usual, **{f"--{k.replace('_', '-')}": v for k, v in changes.items()}}
        given = [str(w) for pair in options.items() if pair[1] is not None for w in pair]
        return CliRunner().invoke(app, ["train", *given, *map(str, words)])

    return made


def test_folds_and_members_get_folders_and_the_weights_run(call, tmp_path):
    done = call("--json", "--fold", 1, folds=2, members=2)
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    folders = [tmp_path / "out" / "fold1" / f"member{n}" for n in range(2)]
    assert [entry["folder"] for entry in told] == [str(folder) for folder in folders]
    assert [entry["seed"] for entry in told] == [0, 1]
    assert {*told[0]["fold"]["train"], *told[0]["fold"]["validation"]} == {*"abcd"}
    for folder in folders:
        there = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
        assert {
            "run.json",
            "recipe.toml",
            "weights.json",
            "weights.safetensors",
            "muscles/checkpoint.pt",
            "muscles/best.pt",
            "muscles/log.csv",
            "muscles/validation.csv",
            "muscles/curve.png",
        } <= there
        assert load(str(folder / "recipe.toml")).schedule.steps == 2
    made = [
        weights.load(weights.find(str(f / "weights.safetensors"), "unet_bayes")) for f in folders
    ]
    assert not torch.equal(made[0]["muscles.head.weight"], made[1]["muscles.head.weight"])
    # The body network is the shipped one.
    shipped = weights.load(weights.find("unet_bayes-compact", "unet_bayes"))
    assert torch.equal(made[0]["body.head.weight"], shipped["body.head.weight"])
    file = str(folders[0] / "weights.safetensors")
    segmenter = UNetBayes(weights=file, precision="float32", region_check="off")  # boxes are no hip
    assert segmenter.label_set.names == ("bright", "dark")
    image = Volume(case().image.astype(np.float32), np.diag([2.0, 2.0, 3.0, 1.0]))
    (prepared,) = segmenter.prepare(image)
    region = segmenter.regions(prepared)[0]
    assert segmenter.draw(prepared, region, index=0, seed=0).shape[0] == 3


def test_parts_one_after_the_other_and_what_is_there_is_kept(call, tmp_path):
    first = call("--part", "body", max_steps=1)
    assert first.exit_code == 0, first.stderr
    assert "'muscles' is missing" in first.stderr
    assert not (tmp_path / "out" / "weights.safetensors").exists()
    second = call(max_steps=1)  # another part: nothing is in its way
    assert second.exit_code == 0, second.stderr
    card = json.loads((tmp_path / "out" / "weights.json").read_text())
    assert card["parts"] == {"body": "this training", "muscles": "this training"}
    assert card["steps"] == {"body": 1, "muscles": 1}
    body = torch.load(tmp_path / "out" / "body" / "checkpoint.pt", weights_only=True)["average"]
    found = weights.load(weights.find(str(tmp_path / "out" / "weights.safetensors"), "unet_bayes"))
    torch.testing.assert_close(found["body.head.weight"], body["head.weight"], atol=1e-3, rtol=1e-3)
    refused = call()
    assert refused.exit_code == 2 and "--resume goes on with it" in refused.stderr
    changed = call("--resume", "--seed", 4)
    assert changed.exit_code == 2 and "seed was 0, now 4" in changed.stderr
    further = call("--resume")  # to two steps
    assert further.exit_code == 0, further.stderr
    assert "goes on from step 1" in further.stderr
    assert json.loads((tmp_path / "out" / "weights.json").read_text())["steps"]["muscles"] == 2
    again = call("--overwrite", "--seed", 4, "-q", max_steps=1)
    assert again.exit_code == 0 and again.stderr == again.stdout == ""


def test_list_of_recipes():
    done = CliRunner().invoke(app, ["train", "--list-recipes", "--json"])
    assert {"hiasa2020", "mskt"} <= {entry["name"] for entry in json.loads(done.stdout)}
    assert "kim2024" in CliRunner().invoke(app, ["train", "--list-recipes"]).stdout


@pytest.mark.parametrize(
    ("words", "changes", "said"),
    [
        ((), {"data": None}, "--data: is missing"),
        ((), {"segmenter": "unet_base"}, "Did you mean 'unet_bayes'"),
        ((), {"recipe": "hiasa"}, "Did you mean 'hiasa2020'"),
        ((), {"recipe": "kim2024"}, "is a 2-D network"),
        ((), {"recipe": "haque2019", "data": "endless", "max_steps": None}, "Give --max-steps"),
        (("--part", "bones"), {}, "Available: all, body, muscles"),
        (("--resume", "--overwrite"), {}, "contradict"),
        (("--leave-one-out",), {"folds": 2}, "Give one of"),
        (("--fold", 0), {}, "of what"),
        (("--fold", 2), {"folds": 2}, "not below the number of folds"),
        (("--option", "varaint=compact"), {}, "Did you mean 'variant'"),
        ((), {"spacing": "2,2"}, "is no voxel size"),
        ((), {"device": "tpu"}, "is no device"),
    ],
)
def test_wrong_calls_are_explained(call, words, changes, said, monkeypatch):
    if changes.get("data") == "endless":

        def endless(specs, **_):
            data = open_boxes(specs)
            source = type(data.sources[0])(follows_folds=False)
            return type(data)(sources=(source,))

        monkeypatch.setattr(mskt.training.datasets, "open_data", endless)
    done = call(*words, **changes)
    assert done.exit_code == 2, done.output
    assert said in done.stderr, done.stderr


def test_a_segmenter_without_training_is_named_with_those_that_have_it(monkeypatch):
    from mskt.core.registry import Announced, registry
    from mskt.core.specs import SegmenterSpec

    spec = SegmenterSpec("plain", "acme:Plain", "no training")
    known = registry()
    monkeypatch.setattr(
        known, "_found", {**known._found, "segmenter": {
            **known._found["segmenter"], "plain": [Announced(spec, "acme", "acme", "1")],
        }}
    )  # fmt: skip
    done = CliRunner().invoke(app, ["train", "--data", "x", "--segmenter", "plain"])
    assert done.exit_code == 2
    assert "cannot be trained" in done.stderr and "unet_bayes" in done.stderr


def test_label_sets_with_gaps_are_refused(call, tmp_path):
    (tmp_path / "gaps.tsv").write_text("index\tname\n1\tbright\n4\tdark\n")
    done = call(label_set=tmp_path / "gaps.tsv")
    assert done.exit_code == 2 and "has the indices 1, 4" in done.stderr


def test_spacing_goes_into_the_card(call, tmp_path):
    done = call("--option", "variant=compact", spacing="3,3,4", max_steps=1)
    assert done.exit_code == 0, done.stderr
    card = json.loads((tmp_path / "out" / "weights.json").read_text())
    assert card["variant"]["spacing_mm"] == [3, 3, 4]


def test_epochs_are_counted_in_samples():
    """Four cases of six slices in batches of eight: three steps an epoch."""
    _, muscles = training(BOXES, {})
    recipe = load("haque2019")
    assert training_run._steps(recipe, muscles, open_boxes(["boxes"]), None) == 300


def test_begin_with_weights_of_another_label_set():
    """All but the output layer is taken; weights of another network are refused."""
    _, muscles = training(BOXES, {})
    tensors = weights.load(weights.find("unet_bayes-compact", "unet_bayes"))
    part = part_of(tensors, "muscles")
    network = muscles.network()
    assert fill(network, part, "x") == ["head.weight", "head.bias"]
    assert torch.equal(network.encoder[0][0].weight, part["encoder.0.0.weight"])
    _, same = training(label_set("msk22"), {})
    assert fill(same.network(), part, "x") == []
    _, other = training(BOXES, {"variant": "5layers"})
    with pytest.raises(WeightsError, match="another network"):
        fill(other.network(), part, "x")


def test_the_main_part_is_the_last():
    tasks = training(BOXES, {})
    request = Request("unet_bayes", load("mskt"), ("x",), BOXES)
    assert [task.name for task in chosen_parts(request, tasks)] == ["muscles"]

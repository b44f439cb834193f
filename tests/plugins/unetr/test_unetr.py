"""The 3-D segmenters: grid, crop, refusals and odd images."""

import json

import numpy as np
import pytest
import torch

from mskt.core.errors import MsktError, UsageError, WeightsError
from mskt.core.interfaces import Segmenter
from mskt.core.pipeline import segment_case
from mskt.core.registry import registry
from mskt.core.viewcheck import Stack
from mskt.core.volume import Volume
from mskt.core.weights import label_facts, save
from mskt.networks.patch_segmenter import cropped
from mskt.plugins.baselines import unet3d
from mskt.plugins.unetr.network import UNETR
from mskt.plugins.unetr.segmenter import unetr
from mskt.plugins.unetr.training import training
from mskt.plugins.unetr.variants import VARIANTS

MAKERS = {"unetr": unetr, "unet3d": unet3d.segmenter}


def untrained(name="unetr", **options) -> Segmenter:
    return MAKERS[name](weights="random", precision="float32", device="cpu", **options)


def scan(shape, spacing=(6.0, 6.0, 6.0)):
    data = np.random.default_rng(0).normal(40, 40, shape).astype(np.float32)
    return Volume(data, np.diag([*spacing, 1.0]))


def run(image, name="unetr"):
    announced = registry().find("uncertainty", "mcdropout")
    return segment_case(image, untrained(name), announced.spec.load()(samples=2), seed=1)


def test_the_crop_is_an_affine():
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = [-10, 5, 7]
    data = np.arange(20 * 18 * 16, dtype=np.float32).reshape(20, 18, 16)
    mask = np.zeros(data.shape, bool)
    mask[6:9, 1:4, 10:16] = True
    permitted = np.arange(32).reshape(16, 2) % 3 == 0
    got = cropped(Stack(data.copy(), affine, mask=mask.copy(), permitted=permitted), (2, 3, 4))
    assert got.data.shape == (7, 7, 10)
    voxel = np.array([1, 2, 3, 1])
    there = np.linalg.inv(affine) @ got.affine @ voxel
    assert got.data[1, 2, 3] == data[tuple(there[:3].round().astype(int))]
    assert (got.permitted == permitted[6:]).all()
    assert got.mask.sum() == mask.sum()
    assert not got.data.flags.writeable and not got.mask.flags.writeable
    empty = cropped(Stack(data, affine, mask=np.zeros_like(mask)), (2, 3, 4))
    assert empty.data.shape == data.shape


def test_labels_come_back_on_the_grid_of_the_input():
    image = scan((40, 36, 20), (7.0, 6.0, 5.0))
    image.data[:14] = image.data[:, :10] = -1000
    mask = image.data > -500
    result = run(Volume(image.data, image.affine, mask=mask))
    assert result.labels.data.shape == mask.shape
    assert result.uncertainty.max() > 0
    assert not result.uncertainty[:12, :8].any()


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((3, 4, 2), (6.0, 6.0, 6.0)),  # smaller than a patch
        ((40, 30, 1), (6.0, 6.0, 6.0)),  # a single slice
        ((60, 40, 60), (4.0, 4.0, 0.4)),
        ((30, 24, 12), (8.0, 8.0, 6.0)),
    ],
)
def test_odd_images(name, shape, spacing):
    result = run(scan(shape, spacing), name)
    assert result.labels.data.shape == shape
    assert np.isfinite(result.uncertainty).all()


def test_feet_first_is_the_same_anatomy():
    image = scan((30, 26, 20))
    image = Volume(np.cumsum(image.data, axis=2, dtype=np.float32) / 5, image.affine)
    affine = image.affine.copy()
    affine[2] *= -1
    affine[2, 3] = (image.data.shape[2] - 1) * image.affine[2, 2]
    turned = Volume(image.data[:, :, ::-1], affine)
    first, second = run(image), run(turned)
    assert (first.labels.data == second.labels.data[:, :, ::-1]).mean() > 0.999


def test_air_only_has_no_body():
    image = Volume(
        np.full((20, 20, 20), -1000, np.float32), np.eye(4), mask=np.zeros((20,) * 3, bool)
    )
    result = run(image)
    assert not result.labels.data.any() and not result.uncertainty.any()


def test_label_sets():
    assert untrained().label_set.name == "thigh30"
    assert untrained(label_set="thigh10").label_set.name == "thigh10"


def test_weights_that_are_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("MSKT_HOME", str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        unetr(weights="unetr-nowhere")
    assert "unetr-nowhere" in str(caught.value) and "vailable" in str(caught.value)


def test_trained_weights_bring_their_variant(tmp_path):
    made = VARIANTS["tiny"]
    (task,) = training(untrained(label_set="thigh10").label_set, {"variant": "tiny"})
    torch.manual_seed(3)
    network = task.network()
    assert isinstance(network, UNETR)
    card = {
        **json.loads(json.dumps(task.card)),
        "segmenter": "unetr",
        **label_facts(task.label_set),
    }
    tensors = {f"{task.name}.{k}": v for k, v in network.state_dict().items()}
    info = save(tmp_path, "mine", tensors, card)
    options = {"weights": str(info.path), "device": "cpu", "region_check": "off"}
    found = unetr(**options)
    assert found.label_set.name == "thigh10"
    assert found.describe()["variant_name"] == "tiny"
    assert found.describe()["window"] == made.window
    json.dumps(found.describe())
    with pytest.raises(UsageError, match="'compact' was asked for"):
        unetr(**options, variant="compact")
    with pytest.raises(WeightsError, match="made for segmenter 'unetr'"):
        unet3d.segmenter(**options)


@pytest.mark.parametrize(
    "wrong", [{"overlap": 1}, {"blend": "mean"}, {"variant": "vitx"}, {"region_check": "maybe"}]
)
def test_wrong_options_are_named(wrong):
    with pytest.raises(MsktError):
        untrained(**wrong)


def test_training_takes_what_inference_gives():
    (task,) = training(untrained().label_set, {})
    compact = VARIANTS["compact"]
    assert (task.name, task.classes) == ("muscles", len(untrained().labels))
    assert (task.patch, task.spacing_mm) == (compact.window, compact.spacing_mm)
    assert (task.hu_window, task.gamma) == (compact.hu_window, compact.gamma)
    assert all(a >= b for a, b in zip(task.shape, task.patch, strict=True))
    with pytest.raises(UsageError, match="Did you mean 'variant'"):
        training(untrained().label_set, {"varaint": "tiny"})

"""Recipes are those of the papers, and what is written wrong in one is said."""

from __future__ import annotations

import math
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mskt.core.errors import InputError, UsageError
from mskt.training import recipes
from mskt.training.recipes import Schedule, from_dict, load

HIASA_AUGMENTATION = {
    "translation": 0.25,
    "translation_px": 0.0,
    "rotation_deg": 10.0,
    "scale": 0.35,
    "shear_rad": math.pi / 8,
    "flip": 0.5,
    "hu_shift_sd": 0.0,
    "hu_gain": 0.0,
}
BAYESIAN = {"hiasa2020": 100_000, "soufi2024-5layers-20": 150_000} | dict.fromkeys(
    ("soufi2024-5layers-50", "soufi2024-6layers-50"), 200_000
)


@pytest.mark.parametrize(("name", "steps"), BAYESIAN.items())
def test_bayesian_unet(name, steps):
    """Adam, lr 1e-4, batch 3, cross-entropy, He initialisation; iterations differ."""
    recipe = load(name)
    assert recipe.name == name
    assert (recipe.optimiser.name, recipe.optimiser.lr) == ("adam", 1e-4)
    assert recipe.optimiser.weight_decay == recipe.optimiser.clip == recipe.weights.ema == 0
    assert (recipe.schedule.steps, recipe.schedule.kind) == (steps, "constant")
    assert (recipe.schedule.warmup, recipe.schedule.factor(steps - 1, steps)) == (0, 1.0)
    assert recipe.loss.weights == (1.0, 0.0)
    assert (recipe.sampling.size, recipe.sampling.crop) == (3, ())
    assert recipe.weights.initialisation == "he"
    assert vars(recipe.augmentation) == pytest.approx(HIASA_AUGMENTATION)
    layers = "6layers" if "6layers" in name else "5layers"
    assert recipe.network == {"unet_bayes": {"variant": layers}}


def test_haque():
    """Adam 1e-4 (0.9, 0.999), decay 1e-3, 100 epochs, Dice; scale 10 %, shift 10 px, 20 degrees."""
    recipe = load("haque2019")
    assert (recipe.optimiser.name, recipe.optimiser.lr) == ("adam", 1e-4)
    assert recipe.optimiser.betas == (0.9, 0.999)
    assert (recipe.schedule.epochs, recipe.schedule.steps) == (100, 0)
    assert recipe.schedule.factor(1000, 5000) == pytest.approx(1 / 2)  # 1 / (1 + 1e-3 · 1000)
    assert recipe.loss.weights == (0.0, 1.0)
    varied = recipe.augmentation
    assert (varied.scale, varied.translation_px, varied.rotation_deg) == (0.1, 10.0, 20.0)
    assert (varied.translation, varied.shear_rad) == (0.0, 0.0)


def test_kim():
    """AdamW 8e-5, weight decay 1e-5, batch 2, four crops of 96³, 5000 epochs, Dice."""
    recipe = load("kim2024")
    assert (recipe.optimiser.name, recipe.optimiser.lr) == ("adamw", 8e-5)
    assert recipe.optimiser.weight_decay == 1e-5
    assert (recipe.sampling.size, recipe.sampling.per_case) == (2, 4)
    assert recipe.sampling.crop == (96, 96, 96)
    assert recipe.schedule.epochs == 5000
    assert recipe.loss.weights == (0.0, 1.0)


def test_our_own():
    recipe = load("mskt")
    assert (recipe.optimiser.name, recipe.optimiser.lr) == ("adamw", 1.5e-3)
    assert (recipe.optimiser.weight_decay, recipe.optimiser.clip) == (1e-4, 5.0)
    assert recipe.schedule.factor(0, 4000) == pytest.approx(0.01)
    assert recipe.schedule.factor(2000, 4000) == pytest.approx(0.5**0.9)
    assert recipe.weights.ema == 0.998
    assert (recipe.sampling.size, recipe.sampling.crop) == (16, (128, 112))
    body = recipe.for_part("body")
    assert (body.optimiser.lr, body.optimiser.clip) == (3e-3, 5.0)
    assert (body.schedule.steps, body.schedule.warmup) == (1200, 100)
    assert (body.sampling.size, body.sampling.steps_per_case) == (16, 12)
    assert recipe.for_part("muscles").schedule == recipe.schedule


def test_our_own_for_3d_networks():
    """That of 2-D networks, but for sizes and rates; no crop: the window of inference."""
    recipe, flat = load("mskt3d"), load("mskt")
    assert (recipe.optimiser.lr, recipe.weights.ema) == (5e-4, 0.995)
    assert (recipe.sampling.size, recipe.sampling.per_case, recipe.sampling.crop) == (2, 1, ())
    assert (recipe.loss, recipe.augmentation) == (flat.loss, flat.augmentation)
    assert recipe.network["unetr"] == recipe.network["unet3d"] == {"variant": "compact"}


def test_all_recipes_are_there_and_survive_a_journey():
    assert {*BAYESIAN, "haque2019", "kim2024", "mskt", "mskt3d"} == {*recipes.available()}
    for name in recipes.available():
        recipe = load(name)
        assert recipe.summary
        assert from_dict(tomllib.loads(recipes.to_toml(recipe.as_dict())), name) == recipe


@given(
    st.sampled_from(["constant", "polynomial", "cosine", "inverse_time"]),
    st.integers(1, 500),
    st.integers(0, 50),
)
def test_rates_never_rise_after_the_warm_up(kind, steps, warmup):
    schedule = Schedule(kind=kind, warmup=warmup, decay=1e-2)
    factors = [schedule.factor(step, steps) for step in range(steps)]
    assert all(0 <= factor <= 1 for factor in factors)
    after = factors[warmup:]
    assert after == sorted(after, reverse=True)
    assert factors[:warmup] == sorted(factors[:warmup])


def test_a_recipe_of_ones_own_builds_upon_another(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        'base = "hiasa2020"\n[optimiser]\nlr = 5e-4\n[parts.body.schedule]\nsteps = 9\n'
    )
    recipe = load(str(file))
    assert (recipe.name, recipe.optimiser.lr, recipe.schedule.steps) == ("mine", 5e-4, 100_000)
    assert recipe.for_part("body").schedule.steps == 9
    file.write_text(f'base = "{file.as_posix()}"\n')
    with pytest.raises(InputError, match="builds upon itself"):
        load(str(file))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[optimizer]\nlr = 1", "Did you mean 'optimiser'"),
        ("[optimiser]\nlearning = 1", "optimiser.learning is unknown"),
        ("[optimiser]\nname = 'adm'", "Did you mean 'adam'"),
        ("[optimiser]\nlr = 0", "optimiser.lr is 0.0"),
        ("[optimiser]\nlr = 'fast'", "optimiser.lr is 'fast'"),
        ("[sampling]\nsize = 1.5", "sampling.size is 1.5"),
        ("[sampling]\ncrop = [0, 4]", "sampling.crop is 0"),
        ("[sampling]\nlabelled = 1.5", "from 0 to 1.0"),
        ("[weights]\nema = -0.1", "from 0 to 1.0"),
        ("optimiser = 3", "must be a table"),
        ("[parts.body.optimiser]\nlr = -1", "part body"),
        ("[network]\nunet_bayes = 3", "network holds 3"),
        ("not toml", "cannot be read as a recipe"),
    ],
)
def test_wrong_recipes_are_explained(tmp_path, text, said):
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        load(str(file))
    assert said in str(caught.value)


def test_unknown_recipe():
    with pytest.raises(UsageError, match="Did you mean 'hiasa2020'"):
        load("hiasa2021")
    with pytest.raises(InputError, match="cannot be read"):
        load("nowhere.toml")

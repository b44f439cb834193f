"""Recipes: how a network is trained, as data.

A recipe is a TOML file. Those of the papers come with mskt and have the source of each number in a
comment; a file of the user's own may build upon any of them (``base = "hiasa2020"``).
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

from mskt.core.anatomy import suggestion
from mskt.core.errors import InputError, UsageError


@dataclass(frozen=True)
class Optimiser:
    """Which optimiser, and how fast.

    Attributes:
        name: ``adam``, ``adamw`` or ``sgd`` (with Nesterov momentum where there is momentum).
        lr: peak learning rate.
        clip: largest norm of the gradient; 0 leaves it as it is.
    """

    name: str = "adam"
    lr: float = 1e-4
    betas: tuple[float, ...] = (0.9, 0.999)
    momentum: float = 0.0
    weight_decay: float = 0.0
    clip: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """How long, and how the learning rate changes on the way.

    Attributes:
        steps: optimiser steps; 0 where ``epochs`` says it.
        epochs: times that each sample of annotated data is seen: slices for a 2-D network, cases
            times ``sampling.per_case`` for a 3-D one.
        kind: ``constant``; ``polynomial``: ``(1 − step/steps) ** power``; ``cosine``: to zero;
            ``inverse_time``: ``1 / (1 + decay · step)``, the ``decay`` of Keras' optimisers.
        warmup: steps in which the rate rises linearly.
    """

    steps: int = 0
    epochs: int = 0
    kind: str = "constant"
    power: float = 0.9
    decay: float = 0.0
    warmup: int = 0

    def factor(self, step: int, steps: int) -> float:
        """Of the peak learning rate, in ``step`` (0, 1, …) of ``steps``."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        part = min(1.0, step / steps)
        if self.kind == "polynomial":
            return float((1 - part) ** self.power)
        if self.kind == "cosine":
            return 0.5 * (1 + math.cos(math.pi * part))
        if self.kind == "inverse_time":
            return 1 / (1 + self.decay * step)
        return 1.0


@dataclass(frozen=True)
class Loss:
    """``ce``, ``dice`` or ``dice_ce``: cross-entropy plus ``dice_weight`` times soft Dice."""

    kind: str = "ce"
    dice_weight: float = 1.0

    @property
    def weights(self) -> tuple[float, float]:
        """Of cross-entropy and Dice."""
        return (float(self.kind != "dice"), 0.0 if self.kind == "ce" else self.dice_weight)


@dataclass(frozen=True)
class Sampling:
    """What a batch is made of.

    Attributes:
        size: cases a batch (2-D: slices, each of a case of its own).
        per_case: crops drawn from each of these.
        crop: pixels (x, y) or voxels (x, y, z); empty: the whole matrix of the network's grid.
        labelled: chance to look for a slice with labels (2-D) or a labelled voxel (3-D) first.
        masked: chance that what is outside the body is replaced by air, as at inference.
        steps_per_case: steps after which the oldest case leaves the window for a new one.
        window: cases in memory.
    """

    size: int = 3
    per_case: int = 1
    crop: tuple[int, ...] = ()
    labelled: float = 0.0
    masked: float = 1.0
    steps_per_case: int = 4
    window: int = 8


@dataclass(frozen=True)
class Augmentation:
    """Random changes of each sample; ± ranges are uniform around no change.

    Attributes:
        translation: ± part of the matrix.
        translation_px: ± pixels; added to the former.
        rotation_deg: ± degrees; in 3-D about each axis.
        scale: ± part; one factor for all axes.
        shear_rad: ± angle.
        flip: chance to mirror right and left.
        hu_shift_sd: standard deviation of a shift of all values, HU.
        hu_gain: ± part by which all values are multiplied.
    """

    translation: float = 0.0
    translation_px: float = 0.0
    rotation_deg: float = 0.0
    scale: float = 0.0
    shear_rad: float = 0.0
    flip: float = 0.0
    hu_shift_sd: float = 0.0
    hu_gain: float = 0.0


@dataclass(frozen=True)
class Weights:
    """The beginning and what is kept.

    Attributes:
        initialisation: ``he`` (He et al. 2015) or ``network``: what the network itself does.
        ema: decay of the moving average of the weights that is validated and kept; 0: none.
    """

    initialisation: str = "network"
    ema: float = 0.0


@dataclass(frozen=True)
class Checks:
    """How often what is looked at.

    Attributes:
        save_every: steps between checkpoints.
        validate_every: steps between validations; 0: never.
        patience: validations without a better Dice after which training stops; 0: never.
        slices: of a validation case, evenly spaced (2-D); 0: all.
        synthetic: validation cases made by synthesis where no annotated case is held out.
    """

    save_every: int = 200
    validate_every: int = 500
    patience: int = 0
    slices: int = 0
    synthetic: int = 0


_CHOICES = {
    "optimiser.name": ("adam", "adamw", "sgd"),
    "schedule.kind": ("constant", "polynomial", "cosine", "inverse_time"),
    "loss.kind": ("ce", "dice", "dice_ce"),
    "weights.initialisation": ("he", "network"),
}
_PARTS = ("sampling.labelled", "sampling.masked", "augmentation.flip", "weights.ema")
_POSITIVE = (
    "optimiser.lr",
    "sampling.size",
    "sampling.per_case",
    "sampling.steps_per_case",
    "sampling.window",
    "checks.save_every",
)


@dataclass(frozen=True)
class Recipe:
    """All of it.

    Attributes:
        network: options of the network by segmenter, ``{"unet_bayes": {"variant": "5layers"}}``.
        parts: what differs for a part of a segmenter: ``{"body": {"schedule": {"steps": 900}}}``.
    """

    name: str = ""
    summary: str = ""
    optimiser: Optimiser = field(default_factory=Optimiser)
    schedule: Schedule = field(default_factory=Schedule)
    loss: Loss = field(default_factory=Loss)
    sampling: Sampling = field(default_factory=Sampling)
    augmentation: Augmentation = field(default_factory=Augmentation)
    weights: Weights = field(default_factory=Weights)
    checks: Checks = field(default_factory=Checks)
    network: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for TOML and JSON."""
        return {
            key: {k: list(v) if isinstance(v, tuple) else v for k, v in value.items()}
            if isinstance(value, dict)
            else value
            for key, value in asdict(self).items()
        }

    def with_changes(self, changes: Mapping[str, Mapping[str, Any]]) -> Recipe:
        """The recipe with some values replaced: ``{"schedule": {"steps": 100}}``."""
        return from_dict(_merged(self.as_dict(), changes), self.name)

    def for_part(self, part: str) -> Recipe:
        """What holds for one part of a segmenter."""
        plain = self.as_dict()
        own = plain.pop("parts").get(part, {})
        return from_dict(_merged(plain, own), f"{self.name}, part {part}")


def available() -> tuple[str, ...]:
    """Names of the recipes that come with mskt."""
    folder = resources.files("mskt.training") / "recipes"
    return tuple(sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".toml")))


def load(name: str) -> Recipe:
    """The recipe of that name, or of that file (``.toml``).

    Raises:
        UsageError: there is none of that name.
        InputError: the file cannot be read, or says what no recipe can say.
    """
    return from_dict(_table(name, ()), name)


def _table(name: str, below: tuple[str, ...]) -> dict[str, Any]:
    """The raw table, the one that it builds upon already merged in."""
    if name in below:
        raise InputError(name, "builds upon itself", "Change its 'base'.")
    if name.endswith(".toml"):
        file: Any = Path(name)
    elif name in available():
        file = resources.files("mskt.training") / "recipes" / f"{name}.toml"
    else:
        raise UsageError(
            "",
            f"no recipe named {name!r}.",
            suggestion(name, available()) + "\nOr give a file of your own: NAME.toml.",
        )
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            Path(name).name, f"cannot be read as a recipe ({error})", "A recipe is a TOML file."
        ) from error
    table.setdefault("name", Path(name).stem)
    base = table.pop("base", None)
    return table if base is None else _merged(_table(str(base), (*below, name)), table)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = _merged(out[key], value) if both else value
    return out


def from_dict(table: Mapping[str, Any], name: str) -> Recipe:
    """A recipe from plain values; unknown names and impossible values are refused.

    Raises:
        InputError: with the key, what is wrong, and what is possible.
    """
    recipe: Recipe = _built(Recipe, table, name, "")
    for part, own in recipe.parts.items():
        plain = {key: value for key, value in recipe.as_dict().items() if key != "parts"}
        _built(Recipe, _merged(plain, own), f"{name}, part {part}", "")
    return recipe


def _built(cls: type, table: Any, name: str, where: str) -> Any:
    if not isinstance(table, Mapping):
        raise InputError(name, f"{where.rstrip('.')} is {table!r}", "It must be a table, [NAME].")
    hints = get_type_hints(cls)
    values = {}
    for key, value in table.items():
        if key not in hints:
            raise InputError(name, f"{where}{key} is unknown", suggestion(key, tuple(hints)))
        wanted = hints[key]
        if isinstance(wanted, type) and is_dataclass(wanted):
            values[key] = _built(wanted, value, name, f"{key}.")
        else:
            values[key] = _value(wanted, value, name, f"{where}{key}")
    made = cls(**values)
    for one in fields(made):
        _check(name, f"{where}{one.name}", getattr(made, one.name))
    return made


def _value(wanted: Any, value: Any, name: str, where: str) -> Any:
    """``value`` as the type that the field wants."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if wanted is float and number:
        return float(value)
    if wanted is int and number and value == int(value):
        return int(value)
    if wanted is str and isinstance(value, str):
        return value
    items = value if isinstance(value, list | tuple) else None
    if wanted == tuple[int, ...] and items is not None and all(isinstance(v, int) for v in items):
        return tuple(items)
    if wanted == tuple[float, ...] and items is not None:
        return tuple(_value(float, v, name, where) for v in items)
    if where in ("network", "parts") and isinstance(value, Mapping):
        return {key: dict(_value_table(inner, name, where)) for key, inner in value.items()}
    raise InputError(name, f"{where} is {value!r}", "Its type is wrong; see docs/training.md.")


def _value_table(value: Any, name: str, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(name, f"{where} holds {value!r}", f"Write [{where}.NAME] with values.")
    return value


def _check(name: str, where: str, value: Any) -> None:
    choices = _CHOICES.get(where)
    if choices and value not in choices:
        raise InputError(name, f"{where} is {value!r}", suggestion(str(value), choices))
    numbers = value if isinstance(value, tuple) else (value,)
    for number in numbers:
        if not isinstance(number, int | float):
            continue
        low = 1e-12 if where in _POSITIVE or where == "sampling.crop" else 0.0
        high = 1.0 if where in _PARTS else math.inf
        if not (low <= number <= high and math.isfinite(number)):
            raise InputError(
                name,
                f"{where} is {number}",
                "It must be above 0." if low else f"It must be from 0 to {high}.",
            )


def to_toml(table: Mapping[str, Any]) -> str:
    """Plain values as TOML; the inverse of ``tomllib.loads`` for what recipes hold."""
    lines: list[str] = []
    _write_table(table, (), lines)
    return "\n".join(lines).strip() + "\n"


def _write_table(table: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    plain = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
    if path and (plain or not table):
        lines += ["", "[" + ".".join(map(_quoted, path)) + "]"]
    lines += [f"{_quoted(key)} = {_literal(value)}" for key, value in plain.items()]
    for key, value in table.items():
        if isinstance(value, Mapping):
            _write_table(value, (*path, key), lines)


def _quoted(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() else _literal(key)


def _literal(value: Any) -> str:
    import json

    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    # JSON's text, numbers, true and false are TOML's; only NaN and infinity differ, and none is.
    return json.dumps(value, ensure_ascii=False)

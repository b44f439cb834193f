"""Cross-validation inside a benchmark: whoever can be trained is trained on the other folds."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mskt.cli.benchmark_data import splits_file
from mskt.cli.benchmark_options import without_folders
from mskt.cli.benchmark_process import start
from mskt.core import atomic
from mskt.report.outputs import read_json, write_json

if TYPE_CHECKING:
    from mskt.cli.benchmark_data import Data
    from mskt.cli.benchmark_options import BenchmarkOptions, Contestant
    from mskt.cli.benchmark_process import Say
    from mskt.core.registry import Registry

TRAINING, NOTE = "training", "benchmark.json"


@dataclass(frozen=True)
class Trained:
    """What became of a contestant's training.

    Attributes:
        weights: of each fold; empty where it failed.
        reason: why it failed; empty where it did not.
        seconds: wall time of all folds.
    """

    weights: tuple[Path, ...]
    reason: str
    seconds: float | None


def folds_of(data: Data, k: int, seed: int) -> list[list[str]]:
    """Cases of each fold: whole patients, every case in one of them.

    Raises:
        UsageError: more folds than patients.
    """
    from mskt.training import splits

    made = splits.folds(set(data.patient_of.values()), k, seed)
    return [
        [case.case_id for case in data.cases if data.patient_of[case.case_id] in fold.validation]
        for fold in made
    ]


def can_be_trained(contestant: Contestant, registry: Registry) -> bool:
    """It has a training and the user has not given weights."""
    from mskt.core.specs import SegmenterSpec

    spec = registry.find("segmenter", contestant.segmenter).spec
    return (
        isinstance(spec, SegmenterSpec)
        and bool(spec.training)
        and "weights" not in contestant.options
    )


def prepare(options: BenchmarkOptions, data: Data, folds: Sequence[Sequence[str]]) -> None:
    """Write folds and recipe for all trainings.

    ``mskt train`` keeps the weights that validate best. Here the held-out fold is what is tested, so it
    must not choose them: the last weights are taken.

    Raises:
        UsageError: an unknown recipe.
    """
    from mskt.training import recipes

    folder = options.out / TRAINING
    recipe = recipes.load(options.recipe)
    blind = {"checks": {"validate_every": 0, "patience": 0}}
    recipe = recipe.with_changes({**blind, "parts": {part: blind for part in recipe.parts}})
    atomic.make_folder(folder)
    atomic.write_text(folder / "recipe.toml", recipes.to_toml(recipe.as_dict()))
    splits_file(folder / "splits_final.json", folds, [case.case_id for case in data.cases])


def train(
    contestant: Contestant, options: BenchmarkOptions, data: Data, folds: int, say: Say
) -> Trained:
    """Train one contestant, all folds; what is trained already stays as it is."""
    folder = options.out / TRAINING / contestant.name
    weights = tuple(folder / f"fold{n}" / "weights.safetensors" for n in range(folds))
    known = read_json(folder / NOTE) or {}
    if known.get("finished") and all(path.is_file() for path in weights):
        return Trained(weights, "", known.get("seconds"))
    ended = start(_command(contestant, options, data, folder), say=say)
    if ended.interrupted:
        raise KeyboardInterrupt
    seconds = ended.seconds + float(known.get("seconds", 0.0))
    reason = "" if ended.code == 0 else f"training: {without_folders(ended.why)}"
    if not reason and not all(path.is_file() for path in weights):
        reason = (
            "training gave no complete weights: this segmenter has several networks. "
            f"--train-option {contestant.name}.part=all trains every one"
        )
    atomic.make_folder(folder)
    write_json(folder / NOTE, {"finished": not reason, "seconds": seconds, "reason": reason})
    return Trained(() if reason else weights, reason, seconds)


def _command(
    contestant: Contestant, options: BenchmarkOptions, data: Data, folder: Path
) -> list[str]:
    home = options.out / TRAINING
    words: dict[str, Any] = {
        "--segmenter": contestant.segmenter,
        "--data": data.spec,
        "--splits": home / "splits_final.json",
        "--recipe": home / "recipe.toml",
        "--label-set": options.classes,
        "--seed": options.seed,
        "--device": _device(options.devices),
        "--out": folder,
        "--cache": home / "cache",
    }
    if options.max_steps is not None:
        words["--max-steps"] = options.max_steps
    if options.threads is not None:
        words["--threads"] = options.threads
    listed = [str(word) for pair in words.items() for word in pair]
    return [sys.executable, "-m", "mskt", "train", *listed, *_own(contestant.training), "--resume"]


def _own(training: Mapping[str, Any]) -> list[str]:
    """Its own options of the network; ``part`` is one of the command."""
    words = []
    for name, value in training.items():
        if name == "part":
            words += [word for part in str(value).split(",") for word in ("--part", part)]
        else:
            words += ["--option", f"{name}={value}"]
    return words


def _device(devices: Sequence[str]) -> str:
    """A GPU if one competes, else the first."""
    quick = [name for name in devices if name.startswith(("cuda", "gpu", "mps"))]
    return (quick or list(devices))[0]

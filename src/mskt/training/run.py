"""From data, a segmenter and a recipe to a folder with trained weights and all that repeats them."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from mskt.core import atomic, weights
from mskt.core.anatomy import suggestion
from mskt.core.errors import UsageError
from mskt.core.registry import Registry
from mskt.core.seeding import key
from mskt.core.specs import SegmenterSpec
from mskt.training import recipes
from mskt.training.cases import CaseWindow, TrainingCase
from mskt.training.distributed import World
from mskt.training.export import export
from mskt.training.loop import Conditions, Outcome, Training
from mskt.training.provenance import facts as facts_of
from mskt.training.provenance import now
from mskt.training.recipes import Recipe
from mskt.training.request import Request, Setting
from mskt.training.splits import Fold
from mskt.training.task import Batch, TrainingTask
from mskt.training.transfer import fill, he, part_of

if TYPE_CHECKING:
    from mskt.training.datasets import Dataset

ALL_PARTS = "all"


def tasks_of(request: Request, registry: Registry) -> tuple[TrainingTask, ...]:
    """The networks of the segmenter, each as its plugin says that it is trained.

    Raises:
        UsageError: no segmenter of that name, or it cannot be trained.
    """
    spec = registry.find("segmenter", request.segmenter).spec
    assert isinstance(spec, SegmenterSpec)
    if not spec.training:
        able = [
            a.spec.name
            for a in registry.announced("segmenter")
            if isinstance(a.spec, SegmenterSpec) and a.spec.training
        ]
        raise UsageError(
            f"segmenter {request.segmenter!r}",
            "cannot be trained by mskt.",
            f"These can: {', '.join(able) or 'none'}. Its author would name a function in "
            "SegmenterSpec(training=…).",
        )
    indices = [structure.index for structure in request.label_set.structures]
    if indices != list(range(1, len(indices) + 1)):
        raise UsageError(
            f"label set {request.label_set.name!r}",
            f"has the indices {_few(indices)}; the classes of a network are 1, 2, 3, …",
            "Number its structures 1 to n in a table of its own; the data may keep their values.",
        )
    options = {**request.recipe.network.get(request.segmenter, {}), **request.options}
    tasks: Sequence[TrainingTask] = spec.load_training()(request.label_set, options)
    if request.spacing_mm is not None:
        tasks = [_respaced(task, request.spacing_mm) for task in tasks]
    return tuple(tasks)


def _few(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:6])) + (", …" if len(numbers) > 6 else "")


def _respaced(task: TrainingTask, spacing_mm: tuple[float, float, float]) -> TrainingTask:
    """The task on another grid, where the card can say so: inference must use the same."""
    variant = task.card.get("variant")
    if not isinstance(variant, Mapping) or "spacing_mm" not in variant:
        return task
    card = {**task.card, "variant": {**variant, "spacing_mm": spacing_mm}}
    extent = np.multiply(task.shape, task.spacing_mm)
    shape = tuple(int(round(e / s / 16) * 16) for e, s in zip(extent, spacing_mm, strict=True))
    return replace(task, spacing_mm=spacing_mm, shape=shape, card=card)  # type: ignore[type-var]


def chosen_parts(request: Request, tasks: Sequence[TrainingTask]) -> tuple[TrainingTask, ...]:
    """Those to train: what was asked for; the main one, the last, where nothing was."""
    names = tuple(task.name for task in tasks)
    if not request.parts:
        return (tasks[-1],)
    if ALL_PARTS in request.parts:
        return tuple(tasks)
    for part in request.parts:
        if part not in names:
            raise UsageError("--part", f"{part!r} is none.", suggestion(part, (*names, ALL_PARTS)))
    return tuple(task for task in tasks if task.name in request.parts)


def train(
    request: Request, tasks: Sequence[TrainingTask], fold: Fold | None, out: Path, setting: Setting
) -> dict[str, Any]:
    """Train the parts asked for, one after the other, and write the weights.

    Args:
        request: what to train.
        tasks: of :func:`tasks_of`.
        fold: who trains and who validates; None: everybody trains.
        out: the run's folder: ``run.json``, ``recipe.toml``, ``weights.safetensors``,
            ``weights.json``, and a folder for each part (see :class:`~mskt.training.loop.Training`).
        setting: where it runs.

    Returns:
        What ``run.json`` says.
    """
    first = setting.conditions.world.first
    facts = facts_of(request, fold, setting)
    kept = _earlier(out / "run.json")
    facts["begun"] = kept.get("begun", facts["begun"])
    if first:
        atomic.make_folder(out)
        atomic.sweep(out)
        atomic.write_text(out / "recipe.toml", recipes.to_toml(request.recipe.as_dict()))
        _write_json(out / "run.json", facts)
    outcomes = {}
    for task in chosen_parts(request, tasks):
        parts = dict(kept.get("parts", {}))
        outcome, told = _part(request, task, fold, out / task.name, setting)
        if math.isnan(outcome.pace):  # it was finished before
            told["seconds_per_step"] = parts.get(task.name, {}).get("seconds_per_step")
        outcomes[task.name] = outcome
        facts["parts"] = {**parts, **facts.get("parts", {}), task.name: told}
        if first:
            _write_json(out / "run.json", facts)
    facts["ended"] = kept.get("ended") or now()
    if first:
        info = export(request, tasks, outcomes, facts, out, setting)
        facts["weights_sha256"] = info and info.sha256
        _write_json(out / "run.json", facts)
    setting.conditions.world.wait()
    return facts


def _part(
    request: Request, task: TrainingTask, fold: Fold | None, folder: Path, setting: Setting
) -> tuple[Outcome, dict[str, Any]]:
    recipe, where = request.recipe.for_part(task.name), setting.conditions
    _check_share(recipe, where.world.size)
    if where.world.first:  # the others find the prepared data in the cache
        data = opened(request, task, setting)
    where.world.wait()
    if not where.world.first:
        data = opened(request, task, setting)
    if fold is not None:
        data.check(fold)
    steps = _steps(recipe, task, data, fold)
    network = _begun(request, task, recipe, where)
    described = {"data": data.describe(), "fold": fold and [fold.train, fold.validation]}
    identity = {
        "segmenter": request.segmenter,
        "network": {name: list(value.shape) for name, value in network.state_dict().items()},
        "recipe": _decisive(recipe),
        "labels": list(task.class_names),
        "spacing_mm": task.spacing_mm,
        "start_from": request.start_from and Path(request.start_from).name,
        "seed": request.seed,
        **described,
    }
    window = CaseWindow(
        data.stream(fold.train if fold else None),
        recipe.sampling.window,
        setting.workers,
        task.adapted,
    )
    training = Training(
        network,
        recipe,
        steps,
        folder,
        task.class_names,
        seed=request.seed,
        identity=identity,
        conditions=where,
    )

    def batch(step: int) -> Batch:
        cases = window.at(step // recipe.sampling.steps_per_case)
        return task.batch(
            step, cases, recipe, request.seed, rank=where.world.rank, ranks=where.world.size
        )

    held = _Validation(task, recipe, _held_out(data, recipe, fold), where.world)
    try:
        outcome = training.run(batch, held.cases if held.count else None)
    finally:
        window.close()
    told = {
        "steps": outcome.steps,
        "weights_of_step": outcome.step,
        "validation_dice": None if math.isnan(outcome.dice) else outcome.dice,
        "stopped_early": outcome.stopped_early,
        "seconds_per_step": None if math.isnan(outcome.pace) else outcome.pace,
        "parameters": sum(p.numel() for p in network.parameters()),
        "recipe": recipe.as_dict(),
        **described,
    }
    return outcome, told


def _endless(data: Dataset) -> bool:
    """True where nothing but synthesis gives cases."""
    return not any(source.follows_folds for source in data.sources)


def _held_out(data: Dataset, recipe: Recipe, fold: Fold | None) -> Sequence[TrainingCase]:
    """The cases to validate on: the fold's; without a fold synthetic ones that training never sees."""
    if fold is not None:
        found = data.cases(fold.validation)
    elif _endless(data):
        found = data.cases(None)
    else:
        return ()
    return found[: recipe.checks.synthetic] if _endless(data) else found


class _Validation:
    """Validation cases and this process' share of them."""

    def __init__(
        self, task: TrainingTask, recipe: Recipe, found: Sequence[TrainingCase], world: World
    ) -> None:
        self._task, self._recipe, self._found = task, recipe, found
        self._mine = range(len(found))[world.rank :: world.size]
        self._kept: dict[int, Sequence[TrainingCase]] = {}
        self.count = len(found)

    def cases(self) -> Iterator[Iterator[Batch]]:
        """The cases of this process, each as its batches; they are made once and kept.

        Annotated cases are memory-mapped: keeping them takes no memory.
        """
        for number in self._mine:
            if number not in self._kept:
                self._kept[number] = self._task.adapted(self._found[number])
            for case in self._kept[number]:
                yield self._task.validation(case, self._recipe)


def opened(request: Request, task: TrainingTask, setting: Setting) -> Dataset:
    """The data as a task wants them."""
    from mskt.training.datasets import open_data

    return open_data(
        request.data,
        label_set=task.label_set,
        spacing_mm=task.spacing_mm,
        shape=task.shape,
        seed=request.seed,
        cache=setting.cache,
        report=setting.conditions.progress.say,
    )


def _check_share(recipe: Recipe, processes: int) -> None:
    batch = recipe.sampling.size * recipe.sampling.per_case
    if processes > batch:
        raise UsageError(
            "torchrun",
            f"has started {processes} processes for batches of {batch}",
            "Start fewer, or take a recipe with larger batches.",
        )


def _steps(recipe: Recipe, task: TrainingTask, data: Dataset, fold: Fold | None) -> int:
    """Optimiser steps: what the recipe says, or its epochs counted in samples of the data."""
    if recipe.schedule.steps:
        return recipe.schedule.steps
    if not recipe.schedule.epochs or _endless(data):
        raise UsageError(
            f"recipe {recipe.name!r}",
            f"counts {recipe.schedule.epochs} epochs, which need annotated cases"
            if recipe.schedule.epochs
            else "does not say for how long",
            "Give --max-steps N.",
        )
    found = data.cases(fold.train if fold else None)
    samples = sum(task.samples_in(case, recipe) for case in found)
    batch = recipe.sampling.size * recipe.sampling.per_case
    return recipe.schedule.epochs * max(1, math.ceil(samples / batch))


def _decisive(recipe: Recipe) -> dict[str, Any]:
    """What a resumed training must share. Its length may change: the schedule then spans that."""
    table = recipe.as_dict()
    table["schedule"] = {k: v for k, v in table["schedule"].items() if k not in ("steps", "epochs")}
    table["checks"] = {k: v for k, v in table["checks"].items() if k in ("slices", "synthetic")}
    for name in ("summary", "network", "parts"):
        table.pop(name)
    return table


def _begun(request: Request, task: TrainingTask, recipe: Recipe, where: Conditions) -> nn.Module:
    """The network at its beginning: the same for the same seed, and in every process."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key("network", task.name, request.seed) % 2**63)
        network = task.network()
        if recipe.weights.initialisation == "he":
            he(network)
    if request.start_from:
        info = weights.find(request.start_from, request.segmenter)
        left = fill(network, part_of(weights.load(info), task.name), info.name)
        if left:
            where.progress.say(f"{info.name}: not taken, since shapes differ: {', '.join(left)}")
    return network


def begin(out: Path, parts: Sequence[str], *, resume: bool, overwrite: bool) -> None:
    """Make sure that nothing is lost by accident.

    Args:
        out: folder of the run.
        parts: those that are to be trained; others in the folder are left as they are.
        resume: go on with them.
        overwrite: begin them again.

    Raises:
        UsageError: the folder holds a training of one of them, and neither was asked for.
    """
    for part in parts:
        if overwrite:
            _clear(out / part)
        elif not resume and (out / part / "checkpoint.pt").exists():
            raise UsageError(
                str(out),
                f"holds a training of {part!r} already.",
                "--resume goes on with it, --overwrite begins it again.",
            )


def _clear(folder: Path) -> None:
    """Remove what a training has written, and nothing else."""
    for name in ("checkpoint.pt", "best.pt", "log.csv", "validation.csv", "curve.png"):
        (folder / name).unlink(missing_ok=True)
    for batch in folder.glob("bad_batch*.pt"):
        batch.unlink()
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)


def _earlier(path: Path) -> dict[str, Any]:
    """What an interrupted run has written down."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    atomic.write_text(path, json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n")

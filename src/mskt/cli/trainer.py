"""What ``mskt train`` does: check the call, then train fold by fold and member by member."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mskt.cli.console import print_json, stderr, stdout
from mskt.cli.options import parse_extra
from mskt.core.errors import InputError, UsageError

if TYPE_CHECKING:
    import torch

    from mskt.training.recipes import Recipe
    from mskt.training.request import Request, Setting
    from mskt.training.splits import Fold
    from mskt.training.task import TrainingTask


@dataclass(frozen=True)
class TrainOptions:
    """The call; see ``mskt train --help``."""

    data: tuple[str, ...]
    segmenter: str
    parts: tuple[str, ...]
    label_set: str
    settings: tuple[str, ...]
    spacing: str | None
    recipe: str
    max_steps: int | None
    steps_per_case: int | None
    patience: int | None
    start_from: str
    members: int
    seed: int
    device: str
    precision: str
    compile: bool
    threads: int | None
    workers: int | None
    folds: int | None
    leave_one_out: bool
    splits: Path | None
    fold: int | None
    out: Path
    cache: Path | None
    card: Path | None
    resume: bool
    overwrite: bool
    json: bool
    quiet: bool
    verbose: bool

    def check(self) -> None:
        """Refuse combinations that contradict each other.

        Raises:
            UsageError: with what to leave out.
        """
        if not self.data:
            raise UsageError(
                "--data", "is missing.", "Name a dataset, or synthesis; see docs/training.md."
            )
        if self.resume and self.overwrite:
            raise UsageError(
                "--resume and --overwrite",
                "contradict each other.",
                "--resume goes on where it stopped, --overwrite begins again.",
            )
        ways = {
            "--folds": self.folds is not None,
            "--leave-one-out": self.leave_one_out,
            "--splits": self.splits is not None,
        }
        given = [name for name, there in ways.items() if there]
        if len(given) > 1:
            raise UsageError(
                " and ".join(given), "contradict each other.", f"Give one of {', '.join(ways)}."
            )
        if self.fold is not None and not given:
            raise UsageError(
                "--fold", f"{self.fold} of what?", f"Give one of {', '.join(ways)} with it."
            )


def train(options: TrainOptions) -> None:
    """Do what the call says."""
    options.check()
    import torch

    from mskt.core.device import resolve_device, resolve_precision
    from mskt.core.registry import registry
    from mskt.training import distributed
    from mskt.training.loop import Conditions
    from mskt.training.request import Setting
    from mskt.training.run import tasks_of

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = distributed.local_device(resolve_device(options.device))
    request = _request(options)
    tasks = tasks_of(request, registry())
    card = _card(options.card)
    with distributed.world(device) as world:
        progress = _Progress(options, talk=world.first)
        conditions = Conditions(
            device, resolve_precision(options.precision, device), options.compile, world, progress
        )
        setting = Setting(
            conditions,
            _workers(options, device, world.size),
            options.cache or options.out / "cache",
            card,
            ("mskt", *sys.argv[1:]),
        )
        with progress.running():
            runs = _runs(options, request, tasks, setting)
        if world.first:
            _report(options, runs)


def _request(options: TrainOptions) -> Request:
    from mskt.training.prepared import named
    from mskt.training.request import Request

    return Request(
        segmenter=options.segmenter,
        recipe=_recipe(options),
        data=options.data,
        label_set=named(options.label_set),
        options=parse_extra(list(options.settings)),
        parts=options.parts,
        spacing_mm=None if options.spacing is None else _spacing(options.spacing),
        start_from=options.start_from,
        seed=options.seed,
    )


def _recipe(options: TrainOptions) -> Recipe:
    """The recipe with what the call changes, for every part."""
    from mskt.training import recipes

    recipe = recipes.load(options.recipe)
    asked = {
        "schedule": {"steps": options.max_steps},
        "sampling": {"steps_per_case": options.steps_per_case},
        "checks": {"patience": options.patience},
    }
    changes = {
        table: {key: value for key, value in values.items() if value is not None}
        for table, values in asked.items()
    }
    parts = {part: changes for part in recipe.parts}
    return recipe.with_changes({**changes, "parts": parts})


def _spacing(text: str) -> tuple[float, float, float]:
    from mskt.cli.phantom import parse_spacing

    return parse_spacing(text)


def _card(path: Path | None) -> Mapping[str, Any]:
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(path.name, f"is no readable JSON ({error})", "") from error
    if not isinstance(found, dict):
        raise InputError(path.name, "holds no object", 'Write {"licence": "…"}.')
    return found


def _workers(options: TrainOptions, device: torch.device, processes: int) -> int:
    """One beside a network on the CPU; the cores that a GPU leaves idle."""
    if options.workers is not None:
        return options.workers
    cores = (os.cpu_count() or 2) // processes
    return 1 if device.type == "cpu" else max(1, min(8, cores - 1))


def _runs(
    options: TrainOptions, request: Request, tasks: Sequence[TrainingTask], setting: Setting
) -> list[dict[str, Any]]:
    """One run a fold and member, each in its folder."""
    from mskt.training import run

    world = setting.conditions.world
    parts = [task.name for task in run.chosen_parts(request, tasks)]
    found = []
    for folder, fold, seed in _plan(options, request, tasks, setting):
        if world.first:
            run.begin(folder, parts, resume=options.resume, overwrite=options.overwrite)
        world.wait()
        setting.conditions.progress.say(f"{folder}:")
        facts = run.train(replace(request, seed=seed), tasks, fold, folder, setting)
        found.append({"folder": str(folder), **facts})
    return found


def _plan(
    options: TrainOptions, request: Request, tasks: Sequence[TrainingTask], setting: Setting
) -> list[tuple[Path, Fold | None, int]]:
    """Folder, fold and seed of each run."""
    from mskt.training import splits
    from mskt.training.run import chosen_parts, opened

    chosen: list[tuple[str, Fold | None]] = [("", None)]
    if options.folds or options.leave_one_out or options.splits:
        data = opened(request, chosen_parts(request, tasks)[-1], setting)
        if options.splits:
            made = splits.read_splits(options.splits, data.patient_of)
        elif options.folds:
            made = splits.folds(data.patients, options.folds, request.seed)
        else:
            made = splits.leave_one_out(data.patients)
        if options.fold is not None and options.fold >= len(made):
            raise UsageError(
                "--fold",
                f"{options.fold} is not below the number of folds, {len(made)}.",
                f"Folds are numbered 0 … {len(made) - 1}.",
            )
        numbers = range(len(made)) if options.fold is None else (options.fold,)
        chosen = [(f"fold{number}", made[number]) for number in numbers]
    members = range(options.members)
    return [
        (
            options.out / name / (f"member{member}" if options.members > 1 else ""),
            fold,
            options.seed + member,
        )
        for name, fold in chosen
        for member in members
    ]


def _report(options: TrainOptions, runs: Sequence[Mapping[str, Any]]) -> None:
    if options.json:
        print_json([dict(run) for run in runs])
        return
    if options.quiet:
        return
    from rich.table import Table

    table = Table("folder", "part", "steps", "weights of step", "validation Dice", "s/step")
    for run in runs:
        for part, told in run["parts"].items():
            dice, pace = told["validation_dice"], told["seconds_per_step"]
            table.add_row(
                run["folder"],
                part,
                str(told["steps"]),
                str(told["weights_of_step"]),
                "" if dice is None else f"{dice:.3f}",
                "" if pace is None else f"{pace:.2f}",
            )
    stdout().print(table)
    weights = Path(runs[0]["folder"]) / "weights.safetensors"
    if not runs[0]["weights_sha256"]:
        return
    stderr().print(
        f"Use them: mskt run SCAN --weights {weights}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def list_recipes(as_json: bool) -> None:
    """The recipes that come with mskt."""
    from mskt.training import recipes

    found = [recipes.load(name) for name in recipes.available()]
    if as_json:
        print_json([recipe.as_dict() for recipe in found])
        return
    from rich.table import Table

    table = Table("recipe", "what it is")
    for recipe in found:
        table.add_row(recipe.name, recipe.summary)
    stdout().print(table)


class _Progress:
    """A bar with the time left on a terminal; elsewhere a line every now and then."""

    def __init__(self, options: TrainOptions, *, talk: bool) -> None:
        self._console = stderr(options.quiet or options.json or not talk)
        self._every = 20 if options.verbose else 200
        self._bar: Any = None
        self._task: Any = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Show the bar, where there is a terminal to show it on."""
        if self._console.quiet or not self._console.is_terminal:
            yield
            return
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (
            TextColumn("step {task.completed}/{task.total}"),
            BarColumn(),
            "{task.description}",
        )
        with Progress(*columns, console=self._console, transient=True) as self._bar:
            self._task = self._bar.add_task("", total=None)
            yield
        self._bar = None

    def step(self, step: int, steps: int, loss: float, dice: float, pace: float) -> None:
        """Steps are done."""
        left = pace * (steps - step)
        text = f"loss {loss:.3f} Dice {dice:.3f} {pace:.2f} s/step, {_spoken(left)} left"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, total=steps, description=text)
        if (self._bar is None and step % self._every == 0) or step == steps:
            self.say(f"step {step}/{steps} {text}")

    def say(self, text: str) -> None:
        """A remark that stays on the screen."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _spoken(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

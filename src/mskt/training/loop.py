"""The training loop: any network, any source of batches, resumable at any step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mskt.core import atomic
from mskt.core.errors import MsktError, UsageError
from mskt.core.seeding import key
from mskt.training import checkpoint
from mskt.training.distributed import World
from mskt.training.logs import Logs
from mskt.training.losses import dice_counts, mean_dice, segmentation_loss
from mskt.training.recipes import Optimiser, Recipe
from mskt.training.task import Batch

LOG_EVERY = 20
Tensors = dict[str, Tensor]


class Progress(Protocol):
    """Who is told how it goes."""

    def step(self, step: int, steps: int, loss: float, dice: float, pace: float) -> None:
        """Steps are done; ``pace`` is in seconds a step."""

    def say(self, text: str) -> None:
        """A remark."""


class Silent:
    """Says nothing."""

    def step(self, step: int, steps: int, loss: float, dice: float, pace: float) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Conditions:
    """Where and how a training runs; no number in the result should hang on it but by rounding.

    Attributes:
        device: of the network.
        dtype: of its convolutions: float32 or bfloat16 (autocast).
        compile: let ``torch.compile`` work on the network first.
        world: processes that share the batches.
        progress: is told how it goes.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    compile: bool = False
    world: World = field(default_factory=World)
    progress: Progress = field(default_factory=Silent)


@dataclass
class Outcome:
    """What a training gave.

    Attributes:
        tensors: of the best validated network, or of the last; averaged where the recipe says so.
        step: which step they are of.
        steps: done in all.
        dice: mean validation Dice of ``tensors``; NaN without validation.
        pace: seconds a step in this process, without validation; NaN if none was done.
        stopped_early: training stopped because Dice did not rise any more.
    """

    tensors: Tensors
    step: int
    steps: int
    dice: float
    pace: float
    stopped_early: bool


@dataclass
class _State:
    """Everything that a later process needs to go on."""

    network: nn.Module
    optimiser: torch.optim.Optimizer
    average: Tensors
    step: int = 0
    best_step: int = 0
    best_dice: float = math.nan
    stale: int = 0

    def pack(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
            "best_step": self.best_step,
            "best_dice": self.best_dice,
            "stale": self.stale,
        }

    def unpack(self, held: Mapping[str, Any]) -> None:
        self.network.load_state_dict(held["network"])
        self.optimiser.load_state_dict(held["optimiser"])
        for name, value in self.average.items():
            value.copy_(held["average"][name])
        for name in ("step", "best_step", "best_dice", "stale"):
            setattr(self, name, held[name])


class Training:
    """One network on its way; :meth:`run` goes on from the checkpoint in the folder, if there is one.

    Args:
        network: changed in place.
        recipe: optimiser, schedule, loss and the rest.
        steps: in all.
        folder: ``checkpoint.pt`` and ``best.pt`` (replaced as a whole), ``log.csv``,
            ``validation.csv``, ``tensorboard/``, ``curve.png``.
        class_names: of the channels of the network but the first.
        seed: of the dropout masks.
        identity: what a checkpoint must have been made with to be continued.
        conditions: where it runs.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        steps: int,
        folder: Path,
        class_names: Sequence[str],
        *,
        seed: int = 0,
        identity: Mapping[str, Any] | None = None,
        conditions: Conditions | None = None,
    ) -> None:
        self._where = conditions or Conditions()
        self._recipe, self._steps, self._folder, self._seed = recipe, steps, folder, seed
        self._names = tuple(class_names)
        self._identity = dict(identity or {})
        network.to(self._where.device)
        self._layout = _channels_last(network)
        network.to(memory_format=self._layout)  # type: ignore[call-overload]
        average = {k: v.detach().clone().float() for k, v in network.state_dict().items()}
        self._state = _State(network, _optimiser(network, recipe.optimiser), average)
        self._pace = math.nan

    def run(
        self,
        batches: Callable[[int], Batch],
        validation: Callable[[], Iterator[Iterator[Batch]]] | None = None,
    ) -> Outcome:
        """Train to the end.

        Args:
            batches: gives this process' share of the batch of a step; a function of the step alone,
                so that a resumed run sees what an uninterrupted one would have seen. It is called
                one step ahead, from another thread.
            validation: gives this process' validation cases, each as its batches.

        Raises:
            MsktError: the loss is no number; the batch is kept in ``bad_batch.pt``.
            OutputError: the disk is full; the last checkpoint is intact.
            UsageError: the checkpoint in the folder is that of another training.
        """
        state = self._state
        self._restore()
        logs = self._open_logs()
        try:
            if state.step < self._steps and not self._exhausted:
                self._train(batches, validation, logs)
        finally:
            if logs is not None:
                logs.close()
        return self._outcome()

    def _train(
        self,
        batches: Callable[[int], Batch],
        validation: Callable[[], Iterator[Iterator[Batch]]] | None,
        logs: Logs | None,
    ) -> None:
        state, checks = self._state, self._recipe.checks
        where = self._where
        trained = where.world.shared(state.network)
        if where.compile:
            trained = torch.compile(trained)  # type: ignore[assignment]
        trained.train()
        begin, first, checking = time.perf_counter(), state.step, 0.0
        with _ahead(batches, state.step, self._steps, where.device) as upcoming:
            for batch in upcoming:
                loss, dice = self._step(trained, batch)
                state.step += 1
                self._pace = (time.perf_counter() - begin - checking) / (state.step - first)
                last = state.step == self._steps
                if state.step % LOG_EVERY == 0 or last:
                    self._log(logs, loss, dice)
                if validation and (last or _due(state.step, checks.validate_every)):
                    started = time.perf_counter()
                    self._validate(validation, logs)
                    trained.train()
                    checking += time.perf_counter() - started
                if last or self._exhausted or state.step % checks.save_every == 0:
                    self._save()
                if self._exhausted:
                    where.progress.say(
                        f"stopped at step {state.step}: no better Dice since {state.best_step}"
                    )
                    return

    def _step(self, trained: nn.Module, batch: Batch) -> tuple[float, float]:
        state, recipe, where = self._state, self._recipe, self._where
        rate = recipe.optimiser.lr * recipe.schedule.factor(state.step, self._steps)
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        ce, dice = recipe.loss.weights
        with _random_numbers(where.device, self._seed, state.step, where.world.rank):
            logits = self._logits(trained, batch)
            loss = segmentation_loss(
                logits, batch.target, batch.known, ce=ce, dice=dice, total=where.world.total
            )
            value = loss.item()
            if not math.isfinite(value):
                self._refuse(batch, value)
            state.optimiser.zero_grad(set_to_none=True)
            loss.backward()
        if recipe.optimiser.clip:
            nn.utils.clip_grad_norm_(state.network.parameters(), recipe.optimiser.clip)
        state.optimiser.step()
        self._follow()
        log = (state.step + 1) % LOG_EVERY == 0 or state.step + 1 == self._steps
        return value, mean_dice(logits, batch.target, batch.known) if log else math.nan

    def _logits(self, network: nn.Module | Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        image = batch.image.contiguous(memory_format=self._layout)
        half = self._where.dtype == torch.bfloat16
        context: Any = (
            torch.autocast(self._where.device.type, torch.bfloat16) if half else nullcontext()
        )
        with context:
            logits: Tensor = network(image)
        return logits

    def _refuse(self, batch: Batch, value: float) -> None:
        rank = self._where.world.rank
        name = f"bad_batch_{rank}.pt" if rank else "bad_batch.pt"
        checkpoint.save(
            self._folder / name,
            {"image": batch.image.cpu(), "target": batch.target.cpu(), "known": batch.known.cpu()},
        )
        raise MsktError(
            "training",
            f"the loss became {value} in step {self._state.step}",
            f"The batch is in {name}; the last checkpoint is intact. "
            "Lower the learning rate or look for impossible values in the batch.",
        )

    def _follow(self) -> None:
        """Move the averaged weights towards those of the network; or copy them."""
        state, ema = self._state, self._recipe.weights.ema
        decay = min(ema, (1 + state.step) / (10 + state.step))  # quick at first
        for name, value in state.network.state_dict().items():
            if ema:
                state.average[name].lerp_(value.detach().float(), 1 - decay)
            else:
                state.average[name].copy_(value)

    @torch.no_grad()
    def _validate(
        self, validation: Callable[[], Iterator[Iterator[Batch]]], logs: Logs | None
    ) -> None:
        """Loss and Dice of the weights that would be kept; the best so far are."""
        state = self._state
        state.network.eval()

        def averaged(image: Tensor) -> Tensor:
            out: Tensor = torch.func.functional_call(state.network, state.average, (image,))
            return out

        mine = []
        ce, dice = self._recipe.loss.weights
        for batches in validation():
            counts, losses = torch.zeros(3, len(self._names) + 1, dtype=torch.int64), []
            known = torch.zeros(len(self._names) + 1, dtype=torch.bool)
            for batch in batches:
                batch = batch.map(lambda t: t.to(self._where.device))
                logits = self._logits(averaged, batch)
                losses.append(
                    segmentation_loss(logits, batch.target, batch.known, ce=ce, dice=dice).item()
                )
                counts += dice_counts(logits, batch.target, batch.known).cpu()
                known |= batch.known.any(0).cpu()
            mine.append((losses, counts.tolist(), known.tolist()))
        state.network.train()
        self._judge(self._where.world.gather(mine), logs)

    def _judge(
        self, cases: Sequence[tuple[list[float], list[list[int]], list[bool]]], logs: Logs | None
    ) -> None:
        state = self._state
        losses = [loss for case in cases for loss in case[0]]
        dice: dict[str, float | None] = {}
        for channel, name in enumerate(self._names, start=1):
            scores = [
                2 * agree[channel] / (guessed[channel] + there[channel])
                for _, (agree, guessed, there), known in cases
                if known[channel] and there[channel]
            ]
            dice[name] = sum(scores) / len(scores) if scores else None
        defined = [value for value in dice.values() if value is not None]
        mean = sum(defined) / len(defined) if defined else 0.0
        loss = sum(losses) / len(losses) if losses else math.nan
        better = math.isnan(state.best_dice) or mean > state.best_dice
        state.stale = 0 if better else state.stale + 1
        if better:
            state.best_dice, state.best_step = mean, state.step
        if logs is not None:
            logs.check(state.step, loss, mean, dice)
            if better:
                content = {"step": state.step, "dice": mean, "tensors": self._kept()}
                checkpoint.save(self._folder / "best.pt", content)
        self._where.progress.say(
            f"step {state.step}: validation loss {loss:.3f}, Dice {mean:.3f}"
            + (" (best so far)" if better else f" (best {state.best_dice:.3f})")
        )

    @property
    def _exhausted(self) -> bool:
        patience = self._recipe.checks.patience
        return bool(patience) and self._state.stale >= patience

    def _kept(self) -> Tensors:
        return {name: value.cpu() for name, value in self._state.average.items()}

    def _log(self, logs: Logs | None, loss: float, dice: float) -> None:
        step, recipe = self._state.step, self._recipe
        if logs is not None:
            rate = recipe.optimiser.lr * recipe.schedule.factor(step - 1, self._steps)
            logs.step(step, loss, dice, rate, self._pace)
        self._where.progress.step(step, self._steps, loss, dice, self._pace)

    def _open_logs(self) -> Logs | None:
        if not self._where.world.first:
            return None
        atomic.make_folder(self._folder)
        return Logs(self._folder, self._names, self._state.step)

    def _save(self) -> None:
        if self._where.world.first:
            content = {**self._state.pack(), "identity": checkpoint.plain(self._identity)}
            checkpoint.save(self._folder / "checkpoint.pt", content)

    def _restore(self) -> None:
        path = self._folder / "checkpoint.pt"
        if not path.exists():
            return
        held = checkpoint.load(path)
        checkpoint.require_same(held.get("identity", {}), self._identity, self._folder.name)
        try:
            self._state.unpack(held)
        except (KeyError, RuntimeError, ValueError) as error:
            raise UsageError(
                self._folder.name,
                f"holds a checkpoint that does not fit this network ({type(error).__name__})",
                "Choose another --out, or begin again with --overwrite.",
            ) from error
        self._where.progress.say(f"goes on from step {self._state.step}")

    def _outcome(self) -> Outcome:
        state, best = self._state, self._folder / "best.pt"
        self._where.world.wait()
        tensors, step = self._kept(), state.step
        if not math.isnan(state.best_dice) and best.exists():
            held = checkpoint.load(best)
            tensors, step = held["tensors"], int(held["step"])
        return Outcome(
            tensors, step, state.step, state.best_dice, self._pace, state.step < self._steps
        )


def _due(step: int, every: int) -> bool:
    return bool(every) and step % every == 0


def _optimiser(network: nn.Module, chosen: Optimiser) -> torch.optim.Optimizer:
    parameters, lr, decay = network.parameters(), chosen.lr, chosen.weight_decay
    if chosen.name == "sgd":
        momentum = chosen.momentum
        return torch.optim.SGD(
            parameters, lr, momentum=momentum, weight_decay=decay, nesterov=momentum > 0
        )
    kind = torch.optim.AdamW if chosen.name == "adamw" else torch.optim.Adam
    betas = (chosen.betas[0], chosen.betas[1])
    return kind(parameters, lr, betas=betas, weight_decay=decay)


def _channels_last(network: nn.Module) -> torch.memory_format:
    """The memory layout in which convolutions are fastest."""
    volumetric = any(isinstance(m, nn.Conv3d) for m in network.modules())
    return torch.channels_last_3d if volumetric else torch.channels_last


@contextmanager
def _random_numbers(device: torch.device, *parts: int) -> Iterator[None]:
    """Torch's generators keyed by ``parts`` inside, untouched outside: for the dropout masks."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(key("dropout", *parts) % 2**63)
        yield


@contextmanager
def _ahead(
    batches: Callable[[int], Batch], first: int, steps: int, device: torch.device
) -> Iterator[Iterator[Batch]]:
    """The batches of the steps to come; the next is made while the network works on this one."""

    def make(step: int) -> Batch:
        batch = batches(step)
        return batch.map(Tensor.pin_memory) if device.type == "cuda" else batch

    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:

        def each() -> Iterator[Batch]:
            waiting: Future[Batch] = pool.submit(make, first)
            for step in range(first, steps):
                batch = waiting.result()
                if step + 1 < steps:
                    waiting = pool.submit(make, step + 1)
                yield batch.map(lambda t: t.to(device, non_blocking=True))

        try:
            yield each()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

"""What remains of a training to look at: CSV tables, TensorBoard events, a picture of the curves."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mskt.core import atomic

STEPS = ("step", "loss", "batch_dice", "learning_rate", "seconds_per_step")


class Table:
    """A CSV file that grows by a row at a time and is cut back when a training goes on.

    Args:
        path: of the file.
        columns: its first row; the first column is the step.
        after: rows of later steps are removed: they were written by a run that was killed after
            its last checkpoint, and come again.
    """

    def __init__(self, path: Path, columns: Sequence[str], after: int) -> None:
        self._path = path
        rows = [row for row in read(path) if int(row[columns[0]]) <= after] if after else []
        atomic.write_text(
            path, _csv([columns, *([row.get(c, "") for c in columns] for row in rows)])
        )

    def add(self, row: Sequence[Any]) -> None:
        """Append a row; numbers with six significant digits, None as nothing."""
        with atomic.explained(self._path.name), self._path.open("a", newline="") as file:
            file.write(_csv([[_cell(value) for value in row]]))


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a table; none if there is no file. A half-written last row is left out."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if None not in row.values()]


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    held = io.StringIO()
    csv.writer(held, lineterminator="\n").writerows(rows)
    return held.getvalue()


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


class Logs:
    """All records of one training in its folder.

    Args:
        folder: of the training.
        names: of the foreground classes.
        after: the step that it goes on from; 0 for a new one.
    """

    def __init__(self, folder: Path, names: Sequence[str], after: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        self._names = tuple(names)
        self._steps = Table(folder / "log.csv", STEPS, after)
        columns = ("step", "loss", "mean_dice", *self._names)
        self._checks = Table(folder / "validation.csv", columns, after)
        with atomic.explained("tensorboard"):
            self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=after or None)

    def step(self, step: int, loss: float, dice: float, rate: float, pace: float) -> None:
        """One line of the table of steps."""
        self._steps.add((step, loss, dice, rate, pace))
        self._scalars(step, {"train/loss": loss, "train/dice": dice, "train/learning_rate": rate})

    def check(
        self, step: int, loss: float, mean_dice: float, dice: Mapping[str, float | None]
    ) -> None:
        """One validation; a structure that no validation case has stays empty."""
        self._checks.add((step, loss, mean_dice, *(dice.get(name) for name in self._names)))
        single = {f"dice/{k}": v for k, v in dice.items() if v is not None}
        self._scalars(step, {"validation/loss": loss, "validation/dice": mean_dice, **single})

    def _scalars(self, step: int, values: Mapping[str, float]) -> None:
        with atomic.explained("tensorboard"):
            for name, value in values.items():
                if math.isfinite(value):
                    self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is left, and the picture."""
        with atomic.explained("tensorboard"):
            self._events.close()
        write_curve(self._folder)


def write_curve(folder: Path) -> None:
    """``curve.png``: loss and Dice over the steps, from the tables in ``folder``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps, checks = read(folder / "log.csv"), read(folder / "validation.csv")
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axis, rows, column, label in (
        (left, steps, "loss", "training batch"),
        (left, checks, "loss", "validation"),
        (right, steps, "batch_dice", "training batch"),
        (right, checks, "mean_dice", "validation"),
    ):
        points = [(int(row["step"]), float(row[column])) for row in rows if row.get(column)]
        if points:
            axis.plot(
                *zip(*points, strict=True), label=label, marker="." if len(points) < 9 else ""
            )
    left.set(xlabel="step", ylabel="loss")
    right.set(xlabel="step", ylabel="mean Dice", ylim=(0, 1))
    for axis in (left, right):
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend()
    held = io.BytesIO()
    FigureCanvasAgg(figure).print_png(held)
    atomic.write_bytes(folder / "curve.png", held.getvalue())

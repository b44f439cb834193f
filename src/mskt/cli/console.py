"""Talking to the user: errors without a traceback, results on stdout, all else on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from mskt.core.errors import MsktError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

_FILE_WIDTH = 120
SOME_FAILED, WRONG_CALL, INTERRUPTED = 1, 2, 130


class Group(TyperGroup):
    """Prints what a user can act upon, without a traceback, and sets the exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a :class:`MsktError` becomes its text and exit code 1 or 2."""
        try:
            return super().invoke(ctx)
        except MsktError as error:
            complain(error)
            raise typer.Exit(WRONG_CALL if isinstance(error, UsageError) else SOME_FAILED) from None
        except KeyboardInterrupt:
            print("Stopped.", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None


def complain(error: MsktError) -> None:
    """The error's text on stderr: first line in red on a terminal."""
    first, _, rest = str(error).partition("\n")
    console = stderr()
    console.print(
        f"error: {first}", style="bold red", markup=False, highlight=False, soft_wrap=True
    )
    if rest:
        console.print(rest, markup=False, highlight=False, soft_wrap=True)


def stderr(quiet: bool = False) -> Console:
    """For progress and remarks."""
    from rich.console import Console

    console = Console(stderr=True, quiet=quiet, emoji=False)
    if console.is_terminal:
        return console
    return Console(stderr=True, quiet=quiet, width=_FILE_WIDTH, emoji=False)


def stdout() -> Console:
    """For results; in a file or pipe wide enough for every table."""
    from rich.console import Console

    console = Console(emoji=False)
    return console if console.is_terminal else Console(width=_FILE_WIDTH, emoji=False)


def print_json(content: Any) -> None:
    """One JSON document on stdout, for programs."""
    import json

    typer.echo(json.dumps(content, indent=2, ensure_ascii=False, default=str))


class Reporter:
    """Says how a long run goes: a bar with the time left on a terminal, one line a case elsewhere.

    Args:
        total: number of cases.
        quiet: say nothing but errors.
    """

    def __init__(self, total: int, quiet: bool = False) -> None:
        self._console = stderr(quiet)
        self._total = total
        self._done = 0
        self._shown = 0.0
        self._bar: Any = None
        self._task: Any = None
        self.quiet = quiet

    @contextmanager
    def running(self) -> Iterator[Reporter]:
        """Show the bar, where there is a terminal to show it on."""
        if self.quiet or not self._console.is_terminal:
            yield self
            return
        from rich.progress import (
            BarColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as self._bar:
            self._task = self._bar.add_task("", total=self._total)
            yield self
        self._bar = None

    def stage(self, case_id: str, name: str, part: float) -> None:
        """A case has come to a stage; ``part`` of the stage is done."""
        if self._bar is not None:
            # Segmenting takes nearly all of the time, or preparing does (an atlas method); the other
            # stages count as its ends. The bar never goes back.
            share = {"prepare": 0.02 + 0.9 * part, "segment": 0.02 + 0.9 * part}.get(name, 0.95)
            self._shown = max(self._shown, self._done + share)
            self._bar.update(
                self._task,
                completed=self._shown,
                description=f"{case_id} ({self._done + 1}/{self._total}): {name}",
            )

    def case(self, line: str, style: str = "") -> None:
        """A case is finished."""
        self._done += 1
        self.say(f"[{self._done}/{self._total}] {line}", style)
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done)

    def say(self, text: str, style: str = "") -> None:
        """A remark that stays on the screen."""
        self._console.print(
            text, style=style or None, markup=False, highlight=False, soft_wrap=True
        )

"""Start a command, let its lines be seen, and learn from outside what it took."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mskt.cli.console import INTERRUPTED

_TAIL = 8
Say = Callable[[str], None]


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: exit code; negative: the signal that killed it; None: it could not be started.
        seconds: wall time from start to end.
        peak_memory_bytes: the largest of its processes; None where the system does not tell.
        tail: last lines of its stderr, or why it could not be started.
    """

    code: int | None
    seconds: float
    peak_memory_bytes: int | None
    tail: tuple[str, ...]

    @property
    def interrupted(self) -> bool:
        """It was stopped with Ctrl-C."""
        return self.code in (INTERRUPTED, -signal.SIGINT)

    @property
    def why(self) -> str:
        """One line about a command that did not end well."""
        last = " / ".join(line for line in self.tail[-3:] if line.strip())
        if self.code is None:
            return f"could not be started ({last})"
        if self.code < 0:
            name = _signal_name(-self.code)
            memory = "; most often memory ran out" if -self.code == signal.SIGKILL else ""
            return f"the process was killed by {name}{memory}" + (f": {last}" if last else "")
        return f"exit code {self.code}" + (f": {last}" if last else "")


def start(
    command: Sequence[str],
    *,
    text: str = "",
    say: Say = lambda _: None,
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Run a command to its end.

    Args:
        command: program and arguments; no shell sees them.
        text: for its stdin.
        say: gets each line that it writes to stderr.
        environment: further variables.

    Raises:
        KeyboardInterrupt: Ctrl-C; the command has got it too and has ended.
    """
    outside = Path(__file__).with_name("benchmark_outside.py")
    with tempfile.TemporaryDirectory(prefix="mskt-benchmark-") as folder:
        report = Path(folder) / "report.json"
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(outside), str(report), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, **(environment or {})},
        )
        tail = _followed(process, text, say)
        try:
            told: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            told = {"error": "what measures it was killed"}
    if "error" in told:
        return Ended(None, 0.0, None, (*tail, told["error"]))
    return Ended(told["code"], told["seconds"], told["peak_memory_bytes"], tail)


def _followed(process: subprocess.Popen[str], text: str, say: Say) -> tuple[str, ...]:
    """Feed it, pass on what it says, wait for its end."""
    assert process.stdin is not None and process.stderr is not None
    tail: deque[str] = deque(maxlen=_TAIL)
    try:
        try:
            process.stdin.write(text)
            process.stdin.close()
        except BrokenPipeError:  # it ended before it read; its exit code says why
            pass
        for line in process.stderr:
            tail.append(line.rstrip())
            say(line.rstrip())
        process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise
    finally:
        process.stderr.close()
    return tuple(tail)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

"""What the benchmarks have in common: seconds, peak memory, processes of their own, Markdown tables."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mskt.core.allocator import keep_freed_memory

ALLOCATORS = ("kept", "system")
Seconds = dict[str, float]
LIMITS = ("OMP", "MKL", "OPENBLAS", "NUMBA")


def seconds_of(action: Callable[[], object]) -> Seconds:
    """CPU and wall seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


def in_turn(ways: Mapping[str, Callable[[], object]], repeat: int) -> dict[str, list[Seconds]]:
    """Every way ``repeat`` times, taking turns: a busy machine slows all of them."""
    found: dict[str, list[Seconds]] = {name: [] for name in ways}
    for turn in range(repeat):
        for name, way in ways.items():
            found[name].append(seconds_of(way))
            tell(f"turn {turn + 1}, {name}: CPU {found[name][-1]['cpu']:.2f} s")
    return found


def median(rows: Sequence[Mapping[str, float]]) -> Seconds:
    """Of each figure on its own."""
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def peak_bytes(*, reset: bool = False) -> int:
    """Largest resident memory so far; with ``reset`` it counts from now on (Linux)."""
    if reset and Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this measurement of memory needs Linux")


def measured(action: Callable[[], object]) -> Seconds:
    """CPU and wall seconds of one call, and bytes that it took above what was there before."""
    before = peak_bytes(reset=True)
    found = seconds_of(action)
    return {**found, "peak": peak_bytes() - before}


def child(script: str, arguments: Iterable[object], threads: int = 1) -> dict[str, Any]:
    """What a script prints as JSON on its last line, run in a process of its own.

    Raises:
        SystemExit: it failed; what it said stands in the message.
    """
    env = os.environ | {f"{name}_NUM_THREADS": str(threads) for name in LIMITS}
    command = [sys.executable, script, *map(str, arguments)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def allocator(name: str) -> str:
    """Set how this process treats freed memory, for all that it measures; says what it is.

    Args:
        name: ``kept``, as ``mskt`` sets it for itself, or ``system``.
    """
    if name == "system" or not keep_freed_memory():
        return "freed memory goes back to the system"
    return "freed memory is kept, for all"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def tell(line: str) -> None:
    """Progress."""
    print(f"  {line}", file=sys.stderr, flush=True)

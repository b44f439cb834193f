"""Which of the two paths computes: NumPy and SciPy, always there, or loops compiled by numba.

``MSKT_METRICS`` settles it: ``numpy``, ``numba`` (an error where it is not installed), or ``auto``
(default). ``auto`` takes numba where it is installed and can keep what it compiles, once a process
has been given :data:`WORTHWHILE_VOXELS`: loading the compiled loops costs more than a small pair.
Both give the same results.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, TypeVar

from mskt.core.errors import UsageError

VARIABLE = "MSKT_METRICS"
PATHS = ("auto", "numpy", "numba")
WORTHWHILE_VOXELS = 8_000_000
"""Voxels of the boxes around the foreground of all pairs so far: about half a second of NumPy."""

_T = TypeVar("_T")
_R = TypeVar("_R")
_seen = 0


@dataclass(frozen=True)
class Kernels:
    """The functions of :mod:`mskt.plugins.metrics.kernels`, compiled.

    Attributes:
        kept: what was compiled stays on disk for the next process.
    """

    scan: Callable[..., tuple[int, int]]
    row_starts: Callable[..., None]
    nearest: Callable[..., int]
    kept: bool


def kernels_for(voxels: int) -> Kernels | None:
    """Choose the path for a pair.

    Args:
        voxels: of the box around the foreground.

    Returns:
        The compiled functions, or None for NumPy and SciPy.

    Raises:
        UsageError: ``MSKT_METRICS`` asks for something that is not there.
    """
    global _seen  # noqa: PLW0603 - what this process has done, and nothing about results
    asked = wanted()
    if asked == "numpy":
        return None
    if asked == "numba":
        return compiled()
    _seen += voxels
    if _seen < WORTHWHILE_VOXELS or not installed():
        return None
    try:
        found = compiled()
    except UsageError:
        return None
    # Compiling takes longer than a case: every process anew would be no gain.
    return found if found.kept else None


def wanted() -> str:
    """The path that ``MSKT_METRICS`` names.

    Raises:
        UsageError: it names none.
    """
    asked = os.environ.get(VARIABLE, "").strip().lower() or "auto"
    if asked not in PATHS:
        raise UsageError(
            f"{VARIABLE}={asked}", "is no way to compute metrics.", f"Set it to {', '.join(PATHS)}."
        )
    return asked


def installed() -> bool:
    """Whether numba is there; it is not loaded."""
    return find_spec("numba") is not None


def told() -> str:
    """The path that large pairs will take here, in words, without loading numba."""
    asked = wanted()
    if asked == "numpy":
        return f"NumPy and SciPy ({VARIABLE}=numpy)"
    if not installed():
        return "NumPy and SciPy (numba is not installed)"
    return f"compiled ({VARIABLE}=numba)" if asked == "numba" else "compiled for large scans"


@cache
def compiled() -> Kernels:
    """Load the compiled functions; each is compiled when it is first called.

    Raises:
        UsageError: numba cannot be loaded.
    """
    try:
        import numba
    except ImportError as error:
        raise UsageError(
            f"{VARIABLE}=numba",
            f"asks for compiled metrics, and numba cannot be loaded ({error}).",
            f"Install it (pip install 'mskt[fast]') or unset {VARIABLE}.",
        ) from error
    from mskt.plugins.metrics import kernels

    def made(cache: bool) -> Kernels:
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "cache": cache}
        return Kernels(
            numba.njit(**options)(kernels.scan),
            numba.njit(**options)(kernels.row_starts),
            numba.njit(**options)(kernels.nearest),
            kept=cache,
        )

    try:
        return made(cache=True)
    except RuntimeError:  # no folder to write to: neither beside the code nor the user's own
        return made(cache=False)


def threads() -> int:
    """Threads to use: ``OMP_NUM_THREADS`` as everywhere, else one for each core that is ours."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked):
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def each(work: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R]:
    """Results in the order of the items, several at a time: the loops let go of the interpreter."""
    number = threads()
    if number == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(number) as pool:
        yield from pool.map(work, items)

"""Calibrations that come with mskt: ``mskt/calibrations/NAME.json``, as ``mskt calibrate`` writes them."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from mskt.core.anatomy import suggestion
from mskt.core.errors import UsageError

SUFFIX = ".json"


def folder() -> Path:
    """Where they lie; the folder need not exist."""
    return Path(str(resources.files("mskt") / "calibrations"))


def names() -> tuple[str, ...]:
    """What there is, in the order of the alphabet."""
    there = folder()
    return tuple(sorted(file.stem for file in there.glob(f"*{SUFFIX}"))) if there.is_dir() else ()


def find(name: str) -> Path:
    """The file of a shipped calibration.

    Raises:
        UsageError: there is none of that name; similar ones are suggested.
    """
    known = names()
    if name not in known:
        raise UsageError(
            "--calibration",
            f"no shipped calibration and no file is called {name!r}.",
            f"{suggestion(name, known)}\nOr give the file that mskt calibrate has written.",
        )
    return folder() / f"{name}{SUFFIX}"

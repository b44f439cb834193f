"""The state of a training on disk: whole or not there, and only continued by the same training."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from mskt.core import atomic
from mskt.core.errors import InputError, UsageError

_SHOWN = 4


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Replace ``path`` as a whole; what was there stays if the disk is full.

    Raises:
        OutputError: it cannot be written.
    """
    held = io.BytesIO()  # torch's own writer turns a full disk into an error without its number
    torch.save(dict(content), held)
    with atomic.writing(path) as file:
        file.write(held.getbuffer())


def load(path: Path) -> dict[str, Any]:
    """What :func:`save` wrote, on the CPU.

    Raises:
        InputError: the file is damaged.
    """
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        raise InputError(
            path.name,
            f"is no readable checkpoint ({type(error).__name__})",
            "Begin again with --overwrite.",
        ) from error
    return state


def require_same(there: Mapping[str, Any], now: Mapping[str, Any], folder: str) -> None:
    """Refuse to go on with another training than the one that was begun.

    Args:
        there: what the checkpoint was made with.
        now: what was asked for.
        folder: for the message.

    Raises:
        UsageError: they differ; says in what.
    """
    found = list(differences(plain(there), plain(now)))
    if not found:
        return
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    raise UsageError(
        folder,
        f"holds a training with other settings: {'; '.join(found[:_SHOWN])}{more}.",
        "Call it as it was begun, choose another --out, or begin again with --overwrite.",
    )


def plain(content: Mapping[str, Any]) -> dict[str, Any]:
    """As it is after a journey through JSON: tuples are lists, keys are text."""
    out: dict[str, Any] = json.loads(json.dumps(content, default=str))
    return out


def differences(there: Any, now: Any, where: str = "") -> Iterator[str]:
    """``a.b was 1, now 2`` for each leaf that differs."""
    if isinstance(there, dict) and isinstance(now, dict):
        for key in {**there, **now}:
            yield from differences(there.get(key), now.get(key), f"{where}.{key}".lstrip("."))
    elif there != now:
        yield f"{where} was {_brief(there)}, now {_brief(now)}"


def _brief(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else text[:59] + "…"

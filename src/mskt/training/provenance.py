"""Where a training comes from: command, versions, commit, hardware."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mskt.training.loop import Conditions
from mskt.training.request import Request, Setting
from mskt.training.splits import Fold


def facts(request: Request, fold: Fold | None, setting: Setting) -> dict[str, Any]:
    """Everything that a repetition needs, for ``run.json``."""
    from mskt import __version__

    where = setting.conditions
    return {
        "command": list(setting.command),
        "segmenter": request.segmenter,
        "label_set": request.label_set.name,
        "options": dict(request.options),
        "recipe": request.recipe.name,
        "data": list(request.data),
        "fold": fold and {"train": fold.train, "validation": fold.validation},
        "start_from": request.start_from,
        "seed": request.seed,
        "versions": {
            "mskt": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "commit": _commit(),
        "hardware": _hardware(where),
        "precision": str(where.dtype).removeprefix("torch."),
        "processes": where.world.size,
        "workers": setting.workers,
        "begun": now(),
    }


def _hardware(where: Conditions) -> str:
    if where.device.type == "cuda":
        return torch.cuda.get_device_name(where.device)
    return f"{torch.get_num_threads()} CPU threads, {_processor()}"


def _processor() -> str:
    """As the system names it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Of mskt's own sources, where they are a checkout; with a mark if they were changed."""
    sources = Path(__file__).resolve().parents[3]
    if not (sources / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "-C", str(sources), "describe", "--always", "--abbrev=40", "--dirty"],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")

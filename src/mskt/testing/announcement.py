"""Announcing a plugin must stay cheap: ``mskt --help`` imports every announcement."""

from __future__ import annotations

import functools
import importlib
import sys
from typing import Any

from mskt.testing.elsewhere import run_elsewhere
from mskt.testing.outcome import Build, ConformanceError, NotApplicable, require

HEAVY = (
    "torch",
    "timm",
    "segmentation_models_pytorch",
    "monai",
    "scipy",
    "sklearn",
    "skimage",
    "nibabel",
    "pydicom",
    "SimpleITK",
    "matplotlib",
    "pandas",
)


def heavy_after_announcing(module: str) -> list[str]:
    """Import a module, call the hooks in it, and list the heavy packages this has brought in."""
    found = importlib.import_module(module)
    for value in list(vars(found).values()):
        if callable(value) and hasattr(value, "mskt_impl"):
            list(value())
    return [name for name in HEAVY if name in sys.modules]


def announcing_module(build: Build) -> str | None:
    """The module whose import announces what ``build`` makes, as far as can be known.

    A maker may say so itself (attribute ``announced_in``, as the command line's does); otherwise
    it is the package around the module of the class: ``acme`` for ``acme.model:Net``.
    """
    said = getattr(build, "announced_in", None)
    if said is not None:
        return str(said)
    maker: Any = build
    while isinstance(maker, functools.partial):
        maker = maker.func
    return getattr(maker, "__module__", "").rpartition(".")[0] or None


def check_announcement_is_light(build: Build) -> None:
    """Importing the announcement and calling its hooks imports no heavy package."""
    module = announcing_module(build)
    if module is None:
        raise NotApplicable("the class is in a top-level module; nothing announces it from outside")
    try:
        heavy = run_elsewhere(heavy_after_announcing, module)
    except ConformanceError as error:
        raise ConformanceError(f"importing {module!r} fails {error.fault}", error.remedy) from error
    require(
        not heavy,
        f"importing {module!r}, which announces the plugin, imports {', '.join(heavy)}",
        "Keep the announcing module free of them: put the class into a module of its own and "
        "give its address, 'package.module:Class'.",
    )

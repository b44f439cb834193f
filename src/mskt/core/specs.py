"""What a hook yields: a name, an address and one line of summary. Never a model.

A spec is cheap to make and to list; ``load`` imports the address when somebody asks for the thing.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from mskt.core.errors import PluginError

_NAME = re.compile(r"[a-z][a-z0-9_+-]*")
_ADDRESS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


@dataclass(frozen=True, slots=True)
class Spec:
    """The announcement of one plugin object.

    Attributes:
        name: what the user types; lower case letters, digits, ``_``, ``-``, ``+``.
        factory: ``"module:callable"``; called with keyword options, returns the object.
        summary: one line for ``mskt plugins list``.
    """

    kind: ClassVar[str] = ""

    name: str
    factory: str
    summary: str

    def __post_init__(self) -> None:
        """Refuse names and addresses that could not be used, where the author sees it."""
        if not _NAME.fullmatch(self.name):
            raise PluginError(
                f"{type(self).__name__}(name={self.name!r})",
                "is no valid name",
                "Use lower case letters, digits, '_' or '-', beginning with a letter.",
            )
        if not _ADDRESS.fullmatch(self.factory):
            raise PluginError(
                f"{type(self).__name__}(name={self.name!r})",
                f"factory {self.factory!r} is no address",
                "Write 'package.module:Name'.",
            )

    def load(self) -> Callable[..., Any]:
        """Import the factory.

        Raises:
            PluginError: the module or the name in it is missing or fails to import.
        """
        return self._import(self.factory)

    def _import(self, address: str) -> Callable[..., Any]:
        module_name, _, attribute = address.partition(":")
        try:
            found: Any = importlib.import_module(module_name)
            for part in attribute.split("."):
                found = getattr(found, part)
        except (Exception, SystemExit) as error:  # importing a plugin may raise anything
            raise PluginError(
                f"{self.kind} {self.name!r}",
                f"cannot be imported from {address!r} ({type(error).__name__}: {error})",
                "Reinstall or update the package that provides it.",
            ) from error
        return found  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class SegmenterSpec(Spec):
    """Announces a :class:`~mskt.core.interfaces.Segmenter`.

    Attributes:
        training: ``"module:callable"`` for ``mskt train``: takes a label set and the user's options,
            returns a :class:`~mskt.training.task.TrainingTask` for each network. Empty: the
            segmenter cannot be trained.
    """

    kind: ClassVar[str] = "segmenter"

    training: str = ""

    def __post_init__(self) -> None:
        """Refuse what could not be used, where the author sees it."""
        Spec.__post_init__(self)
        if self.training and not _ADDRESS.fullmatch(self.training):
            raise PluginError(
                f"SegmenterSpec(name={self.name!r})",
                f"training {self.training!r} is no address",
                "Write 'package.module:function'.",
            )

    def load_training(self) -> Callable[..., Any]:
        """Import what ``training`` names.

        Raises:
            PluginError: it is missing or fails to import.
        """
        return self._import(self.training)


@dataclass(frozen=True, slots=True)
class UncertaintySpec(Spec):
    """Announces an :class:`~mskt.core.interfaces.UncertaintyEstimator`."""

    kind: ClassVar[str] = "uncertainty estimator"


@dataclass(frozen=True, slots=True)
class MetricSpec(Spec):
    """Announces a :class:`~mskt.core.interfaces.Metric`."""

    kind: ClassVar[str] = "metric"


@dataclass(frozen=True, slots=True)
class LoaderSpec(Spec):
    """Announces a :class:`~mskt.core.interfaces.Loader`."""

    kind: ClassVar[str] = "loader"

"""Find plugins, list them, build what a user names; explain every failure.

Each entry point is loaded in its own ``try``: a broken plugin is remembered with its reason and
shown where the user looks for it, and never takes the tool down.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from mskt.core import hookspecs
from mskt.core.anatomy import suggestion
from mskt.core.errors import PluginError, UsageError
from mskt.core.specs import LoaderSpec, MetricSpec, SegmenterSpec, Spec, UncertaintySpec

GROUP = "mskt"
DISABLE = "MSKT_DISABLE_PLUGINS"
KINDS: Mapping[str, tuple[str, type[Spec]]] = {
    "segmenter": ("mskt_segmenter", SegmenterSpec),
    "uncertainty": ("mskt_uncertainty", UncertaintySpec),
    "metric": ("mskt_metric", MetricSpec),
    "loader": ("mskt_loader", LoaderSpec),
}


@dataclass(frozen=True, slots=True)
class Announced:
    """A spec, the distribution that announced it, and the module whose hook yields it."""

    spec: Spec
    plugin: str
    distribution: str
    version: str
    module: str = ""


@dataclass(frozen=True, slots=True)
class Broken:
    """A plugin that could not be used, and why."""

    plugin: str
    distribution: str
    reason: str


class Registry:
    """What is installed.

    Args:
        points: entry points to load; by default those of the installed distributions. The
            environment variable ``MSKT_DISABLE_PLUGINS`` names entry points to leave out
            (comma-separated; ``third-party`` means all that are not mskt's own).
    """

    def __init__(self, points: Iterable[EntryPoint] | None = None) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._origin: dict[str, tuple[str, str]] = {}
        self.broken: list[Broken] = []
        for point in sorted(
            points if points is not None else _installed(),
            key=lambda point: (not _is_ours(point), point.name),
        ):
            self._load(point)
        self._found = {kind: self._collect(kind) for kind in KINDS}

    def _load(self, point: EntryPoint) -> None:
        distribution = point.dist.name if point.dist else "unknown distribution"
        version = point.dist.version if point.dist else ""
        name = point.name if point.name not in self._origin else f"{distribution}:{point.name}"
        try:
            plugin = point.load()
            _check_hook_names(plugin)
            self._manager.register(plugin, name=name)
        except (Exception, SystemExit) as error:  # what a plugin does wrong stays its own problem
            self.broken.append(Broken(point.name, distribution, f"{type(error).__name__}: {error}"))
            return
        self._origin[name] = (distribution, version)

    def _collect(self, kind: str) -> dict[str, list[Announced]]:
        hook, spec_type = KINDS[kind]
        found: dict[str, list[Announced]] = {}
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            plugin = implementation.plugin_name
            distribution, version = self._origin[plugin]
            try:
                specs = list(implementation.function())
                wrong = [spec for spec in specs if not isinstance(spec, spec_type)]
                if wrong:
                    raise TypeError(f"{hook} yielded {wrong[0]!r}; expected {spec_type.__name__}")
            except (Exception, SystemExit) as error:  # same: a hook may raise anything
                self.broken.append(
                    Broken(plugin, distribution, f"{hook}: {type(error).__name__}: {error}")
                )
                continue
            module = getattr(implementation.plugin, "__name__", "")
            for spec in specs:
                found.setdefault(spec.name, []).append(
                    Announced(spec, plugin, distribution, version, module)
                )
        return found

    def names(self, kind: str) -> tuple[str, ...]:
        """Names of all usable plugin objects of a kind, sorted."""
        return tuple(sorted(self._found[kind]))

    def announced(self, kind: str) -> tuple[Announced, ...]:
        """All announcements of a kind, sorted by name; duplicates stand side by side."""
        return tuple(a for name in self.names(kind) for a in self._found[kind][name])

    def find(self, kind: str, name: str) -> Announced:
        """The announcement of that name.

        Raises:
            UsageError: nobody announces the name; the text has near names and broken plugins.
            PluginError: several distributions announce it.
        """
        candidates = self._found[kind].get(name, [])
        if len(candidates) > 1:
            providers = ", ".join(
                f"{c.distribution} {c.version} ({c.spec.factory})" for c in candidates
            )
            raise PluginError(
                f"{kind} {name!r}",
                f"is announced more than once: by {providers}.",
                f"Uninstall one of them, or set {DISABLE}=NAME to leave an entry point out.",
            )
        if not candidates:
            notes = "".join(
                f"\nNote: plugin {broken.plugin!r} is installed but failed to load ({broken.reason})."
                for broken in self.broken
            )
            raise UsageError(
                "",
                f"no {_spoken(kind)} named {name!r}.",
                suggestion(name, self.names(kind)) + notes,
            )
        return candidates[0]

    def get(self, kind: str, name: str, **options: Any) -> Any:
        """Build the object of that name.

        Args:
            kind: ``segmenter``, ``uncertainty``, ``metric`` or ``loader``.
            name: as announced.
            options: passed to its factory; an option it does not know is refused with those it knows.
        """
        spec = self.find(kind, name).spec
        factory = spec.load()
        known = inspect.signature(factory).parameters
        open_ended = any(p.kind is p.VAR_KEYWORD for p in known.values())
        unknown = [option for option in options if option not in known]
        if unknown and not open_ended:
            raise UsageError(
                f"{_spoken(kind)} {name!r}",
                f"has no option {', '.join(map(repr, unknown))}.",
                f"It takes: {', '.join(known) or 'none'}.",
            )
        return factory(**options)


def _spoken(kind: str) -> str:
    return KINDS[kind][1].kind


def _is_ours(point: EntryPoint) -> bool:
    return point.dist is not None and point.dist.name == "mskt"


def _installed() -> list[EntryPoint]:
    disabled = {name.strip() for name in os.environ.get(DISABLE, "").split(",")}
    return [
        point
        for point in entry_points(group=GROUP)
        if point.name not in disabled and not ("third-party" in disabled and not _is_ours(point))
    ]


def _check_hook_names(plugin: object) -> None:
    """Refuse a plugin with a misspelt hook: pluggy itself would silently never call it."""
    hooks = [hook for hook, _ in KINDS.values()]
    marked = [
        name
        for name, value in vars(plugin).items()
        if callable(value) and hasattr(value, f"{hookspecs.PROJECT}_impl")
    ]
    wrong = [name for name in marked if name not in hooks]
    if wrong:
        raise PluginError("", f"there is no hook {wrong[0]!r}.", suggestion(wrong[0], hooks))
    if not marked:
        raise PluginError(
            "", "the module has no function marked @hookimpl.", f"Hooks: {', '.join(hooks)}."
        )


@cache
def registry() -> Registry:
    """The registry of what is installed, found once a process."""
    return Registry()

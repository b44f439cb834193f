"""``mskt plugins``: what is installed, what it can do, whether it keeps its contract."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mskt.core.errors import MsktError, PluginError, UsageError

if TYPE_CHECKING:
    from mskt.core.registry import Announced, Registry
    from mskt.testing.outcome import CheckResult

plugins_app = typer.Typer(
    name="plugins",
    no_args_is_help=True,
    help="What is installed: list, look at, check against the contract, begin a new one.",
)

Name = Annotated[str, typer.Argument(help="Name of the plugin, as `mskt plugins list` shows it.")]
Kind = Annotated[
    str | None,
    typer.Option(
        "--kind", help="segmenter, uncertainty, metric or loader; needed if a name has two kinds."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable, on stdout.")]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="KEY=VALUE", help="Option of the factory; may be repeated."),
]


@plugins_app.command("list")
def list_plugins(as_json: Json = False) -> None:
    """Show all plugins, and those that are broken with the reason."""
    from mskt.core.registry import KINDS, registry

    found = registry()
    rows = [
        {
            "name": a.spec.name,
            "kind": kind,
            "summary": a.spec.summary,
            "factory": a.spec.factory,
            "distribution": a.distribution,
            "version": a.version,
        }
        for kind in KINDS
        for a in found.announced(kind)
    ]
    broken = [asdict(plugin) for plugin in found.broken]
    if as_json:
        typer.echo(json.dumps({"plugins": rows, "broken": broken}, indent=2))
        return
    _print_table(
        ("name", "kind", "summary", "from"),
        [
            (r["name"], r["kind"], r["summary"], f"{r['distribution']} {r['version']}".strip())
            for r in rows
        ],
    )
    if broken:
        _print_table(
            ("broken plugin", "from", "reason"),
            [(b["plugin"], b["distribution"], b["reason"]) for b in broken],
        )


@plugins_app.command("info")
def info(name: Name, kind: Kind = None, option: Options = None, as_json: Json = False) -> None:
    """Show what one plugin is: options, classes, parameters, needs, unit, range."""
    from mskt.core.registry import registry

    kind, announced = _find(registry(), name, kind)
    facts = _facts(kind, announced, _parse(option))
    if as_json:
        typer.echo(json.dumps(facts, indent=2, default=str))
        return
    _print_table((name, ""), [(key, _plain(value)) for key, value in facts.items()])


@plugins_app.command("check")
def check(name: Name, kind: Kind = None, option: Options = None, as_json: Json = False) -> None:
    """Run every conformance check on one plugin. Exit code 1 if one fails."""
    from rich.console import Console

    from mskt.core.registry import registry
    from mskt.testing.maker import SpecMaker
    from mskt.testing.runner import run_checks

    kind, announced = _find(registry(), name, kind)
    build = SpecMaker(announced.spec, announced.module, _parse(option))
    _build_once(kind, name, build.options)
    with Console(stderr=True).status(f"checking {kind} {name!r} …"):
        results = run_checks(build, kind)
    if as_json:
        typer.echo(json.dumps([asdict(result) for result in results], indent=2))
    else:
        _print_results(name, results)
    if not all(result.ok for result in results):
        raise typer.Exit(1)


def _build_once(kind: str, name: str, options: Mapping[str, Any]) -> None:
    """Let what cannot be built fail once, with its own words, not in each of thirty checks."""
    from mskt.core.registry import registry

    try:
        registry().get(kind, name, **options)
    except MsktError:
        raise
    except Exception as error:  # a factory may raise anything
        raise PluginError(
            f"{kind} {name!r}",
            f"cannot be built ({type(error).__name__}: {error})",
            "Give what it needs with --option KEY=VALUE; `mskt plugins info` lists its options.",
        ) from error


@plugins_app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Name of the new segmenter, for example mynet.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to put the project.")] = Path(),
) -> None:
    """Write a complete plugin project that passes every check as it is."""
    from mskt.testing.scaffold import write_project

    written = write_project(name, out)
    for path in written:
        typer.echo(path)
    typer.echo(f"Next: pip install -e {written[0].parent} && mskt plugins check {name}", err=True)


def _find(registry: Registry, name: str, kind: str | None) -> tuple[str, Announced]:
    """The announcement of that name among all kinds, or among one.

    Raises:
        UsageError: there is none, or several kinds have it.
        PluginError: it is installed and broken.
    """
    from mskt.core.anatomy import suggestion
    from mskt.core.registry import KINDS

    if kind is not None and kind not in KINDS:
        raise UsageError("", f"no kind of plugin named {kind!r}.", suggestion(kind, list(KINDS)))
    having = [k for k in KINDS if name in registry.names(k) and kind in (None, k)]
    if len(having) > 1:
        raise UsageError(
            "",
            f"{name!r} is the name of a {' and of a '.join(having)}.",
            f"Add --kind {having[0]}.",
        )
    if having:
        return having[0], registry.find(having[0], name)
    for broken in registry.broken:
        if broken.plugin == name:
            raise PluginError(
                f"plugin {name!r}",
                f"failed to load ({broken.reason})",
                f"Repair or reinstall {broken.distribution}.",
            )
    if kind is not None:
        return kind, registry.find(kind, name)
    known = [n for k in KINDS for n in registry.names(k)]
    notes = "".join(
        f"\nNote: plugin {b.plugin!r} is installed but failed to load ({b.reason})."
        for b in registry.broken
    )
    raise UsageError("", f"no plugin named {name!r}.", suggestion(name, known) + notes)


def _parse(options: Sequence[str] | None) -> dict[str, Any]:
    """``KEY=VALUE`` texts as keyword arguments; a value is JSON if it can be, else a text."""
    parsed: dict[str, Any] = {}
    for text in options or ():
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError("--option", f"{text!r} has no '='", "Write --option KEY=VALUE.")
        try:
            parsed[key] = json.loads(value)
        except json.JSONDecodeError:
            parsed[key] = value
    return parsed


def _facts(kind: str, announced: Announced, options: Mapping[str, Any]) -> dict[str, Any]:
    """What can be said of a plugin: its announcement, its options, and the built object's facts."""
    from mskt.core.registry import registry

    spec = announced.spec
    parameters = inspect.signature(spec.load()).parameters.values()
    facts: dict[str, Any] = {
        "kind": kind,
        "summary": spec.summary,
        "factory": spec.factory,
        "from": f"{announced.distribution} {announced.version}".strip(),
        "options": {p.name: None if p.default is p.empty else p.default for p in parameters},
    }
    try:
        built = registry().get(kind, spec.name, **options)
    except UsageError:
        raise
    except Exception as error:  # one that needs weights or a device can still be described so far
        return {**facts, "not built": f"{type(error).__name__}: {error}"}
    return {**facts, **_FACTS[kind](built)}


def _segmenter_facts(segmenter: Any) -> dict[str, Any]:
    described = dict(segmenter.describe())
    described.setdefault("parameters", _parameter_count(segmenter))
    return {
        "classes": len(segmenter.labels),
        "label set": segmenter.label_set.name,
        "labels": list(segmenter.labels),
        "tags": asdict(segmenter.tags),
        **described,
    }


def _parameter_count(segmenter: Any) -> int:
    """Numbers in the networks that the object holds as attributes."""
    from torch.nn import Module

    networks = [value for value in vars(segmenter).values() if isinstance(value, Module)]
    return sum(tensor.numel() for network in networks for tensor in network.parameters())


def _estimator_facts(estimator: Any) -> dict[str, Any]:
    names = ("measure", "needs", "unit", "range", "draws", "minimum_draws")
    return {name: getattr(estimator, name) for name in names}


def _metric_facts(metric: Any) -> dict[str, Any]:
    return {
        f"metric {i.name}": f"unit {i.unit}, {i.direction} is better, perfect {i.perfect}"
        for i in metric.infos
    }


def _loader_facts(_: Any) -> dict[str, Any]:
    return {}


_FACTS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "segmenter": _segmenter_facts,
    "uncertainty": _estimator_facts,
    "metric": _metric_facts,
    "loader": _loader_facts,
}


def _plain(value: Any) -> str:
    """A fact in one cell of a table."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={item!r}" for key, item in value.items()) or "none"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _print_table(titles: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))  # Text: brackets are no markup
    Console().print(table)


def _print_results(name: str, results: Sequence[CheckResult]) -> None:
    _print_table(("check", "result", ""), [(r.name, r.status, r.message) for r in results])
    bad = sum(not result.ok for result in results)
    typer.echo(
        f"{name}: {bad} of {len(results)} checks failed"
        if bad
        else f"{name}: all {len(results)} checks passed or do not apply"
    )

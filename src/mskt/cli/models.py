"""``mskt models``: which weights are here, what they are, whether they are intact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mskt.cli.console import SOME_FAILED, print_json, stdout
from mskt.core.errors import WeightsError

if TYPE_CHECKING:
    from mskt.core.weights import WeightsInfo

models_app = typer.Typer(
    no_args_is_help=True,
    help="Trained weights: list, describe, verify, import. Nothing is ever downloaded: a set of weights "
    "is NAME.safetensors with its model card NAME.json; 'import' copies both into $MSKT_HOME/weights "
    "(default ~/.mskt/weights), or name the file with --weights.",
)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
_Name = Annotated[
    str, typer.Argument(metavar="NAME|FILE", help="As 'mskt models list' shows it, or a file.")
]


@models_app.command("list")
def list_command(json_output: _Json = False) -> None:
    """All weights that 'mskt run --weights' knows by name."""
    from mskt.core import weights

    found = weights.available()
    if json_output:
        print_json([_facts(info) for info in found])
        return
    console = stdout()
    if not found:
        console.print(
            "No weights found. 'mskt models import FILE.safetensors' copies some to where mskt looks.",
            highlight=False,
            soft_wrap=True,
        )
        return
    from rich.table import Table

    table = Table("name", "segmenter", "label set", "MB", "sha256")
    for info in found:
        facts = _facts(info)
        size = "missing" if facts["bytes"] is None else f"{facts['bytes'] / 1e6:.1f}"
        table.add_row(
            info.name, str(facts["segmenter"]), _brief(facts["label_set"]), size, info.sha256[:12]
        )
    console.print(table)


@models_app.command("info")
def info_command(name: _Name, json_output: _Json = False) -> None:
    """The model card: what it was made for, how it was trained, what it must not be used for."""
    info = _named(name)
    if json_output:
        print_json({**_facts(info), "card": dict(info.card)})
        return
    console = stdout()
    for key, value in {"name": info.name, **info.card}.items():
        console.print(f"{key}: {_brief(value, 400)}", highlight=False, markup=False, soft_wrap=True)


@models_app.command("verify")
def verify_command(
    name: Annotated[str | None, typer.Argument(help="All, if none is named.")] = None,
    json_output: _Json = False,
) -> None:
    """Compare the files with the checksums of their cards."""
    from mskt.core import weights

    results = {}
    for info in [_named(name)] if name else weights.available():
        try:
            weights.verify(info)
            results[info.name] = "intact"
        except WeightsError as error:
            results[info.name] = str(error)
    if json_output:
        print_json(results)
    else:
        for key, text in results.items():
            stdout().print(f"{key}: {text}", highlight=False, markup=False, soft_wrap=True)
    if any(text != "intact" for text in results.values()):
        raise typer.Exit(SOME_FAILED)


@models_app.command("import")
def import_command(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.safetensors", help="The weights; their card FILE.json lies beside them."
        ),
    ],
    name: Annotated[
        str, typer.Option(help="To be known by; that of the file, or of its folder, if not given.")
    ] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace weights of that name.")
    ] = False,
) -> None:
    """Copy weights to where mskt finds them by name; their checksum must be right."""
    from mskt.core import weights

    info = weights.install(file, name, overwrite=overwrite)
    stdout().print(
        f"{info.name}: mskt run --segmenter {info.card.get('segmenter')} --weights {info.name}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _named(name: str) -> WeightsInfo:
    from mskt.core import weights
    from mskt.core.anatomy import suggestion
    from mskt.core.errors import UsageError

    if name.endswith(weights.SUFFIX):
        return weights.at(Path(name))
    sets = {info.name: info for info in weights.available()}
    if name not in sets:
        raise UsageError("", f"no weights named {name!r}.", suggestion(name, tuple(sets)))
    return sets[name]


def _facts(info: WeightsInfo) -> dict[str, Any]:
    there = info.path.is_file()
    return {
        "name": info.name,
        "segmenter": info.card.get("segmenter"),
        "label_set": info.card.get("label_set"),
        "sha256": info.sha256,
        "bytes": info.path.stat().st_size if there else None,
    }


def _brief(value: Any, longest: int = 40) -> str:
    text = str(value)
    return text if len(text) <= longest else text[: longest - 1] + "…"

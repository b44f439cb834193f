"""``mskt benchmark``: the options. What they start is in :mod:`mskt.cli.benchmarking`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from mskt.report.benchmark.tables import TextTable

_WHO, _WHAT, _HOW, _OUT = "Who competes", "On what", "How", "What to write"


def benchmark_command(
    data: Annotated[
        str,
        typer.Option(
            metavar="SPEC",
            rich_help_panel=_WHAT,
            help="Cases with reference labels: a folder, nnU-Net or BIDS dataset, a list, as for mskt "
            "train; or phantom:db1?n=20&seed=1&spacing=2,2,3.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", rich_help_panel=_OUT, help="Folder.")
    ],
    segmenters: Annotated[
        str,
        typer.Option(
            "--segmenters",
            "-s",
            metavar="A,B,NAME=C",
            rich_help_panel=_WHO,
            help="See 'mskt plugins list'. NAME=C calls C by another name, to have it twice.",
        ),
    ] = "unet_bayes",
    uncertainties: Annotated[
        str,
        typer.Option(
            "--uncertainties", "-u", metavar="X,Y", rich_help_panel=_WHO, help="Each with each."
        ),
    ] = "deterministic,mcdropout",
    external: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]COMMAND",
            rich_help_panel=_WHO,
            help="A tool of others, timed from outside: 'TotalSegmentator -i {image} -o {out} --ml'. "
            "{out} is a label map, {out_dir} a folder of masks.",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            metavar="NAME.OPTION=VALUE",
            rich_help_panel=_WHO,
            help="Of the segmenter called NAME: unet_bayes.weights=FILE, multi_atlas.atlases=DIR, …",
        ),
    ] = None,
    samples: Annotated[
        str | None,
        typer.Option(metavar="T|auto", rich_help_panel=_HOW, help="Draws a voxel, for who draws."),
    ] = None,
    aggregation: Annotated[
        str | None,
        typer.Option(metavar="NAME", rich_help_panel=_HOW, help="As in mskt run."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, rich_help_panel=_HOW, help="Of all.")] = 0,
    fast: Annotated[
        bool, typer.Option("--fast", rich_help_panel=_HOW, help="As in mskt run, for who can.")
    ] = False,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            "-d",
            metavar="A,B",
            rich_help_panel=_HOW,
            help="auto, cpu, cuda[:N], …; several are compared: cpu,cuda.",
        ),
    ] = "auto",
    threads: Annotated[
        int | None,
        typer.Option(min=1, rich_help_panel=_HOW, help="CPU threads; all cores by default."),
    ] = None,
    warm_up: Annotated[
        bool,
        typer.Option(
            "--warm-up/--no-warm-up",
            rich_help_panel=_HOW,
            help="Do the first case once more beforehand, not counted.",
        ),
    ] = True,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", rich_help_panel=_WHAT, help="As in mskt run."),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2,
            metavar="K",
            rich_help_panel=_WHAT,
            help="Cross-validation: train on K − 1 folds whoever can be trained, test on the other.",
        ),
    ] = None,
    recipe: Annotated[
        str, typer.Option(metavar="NAME|FILE.toml", rich_help_panel=_HOW, help="Of the training.")
    ] = "mskt",
    max_steps: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", rich_help_panel=_HOW, help="Of each training, not the recipe's."
        ),
    ] = None,
    classes: Annotated[
        str,
        typer.Option(metavar="NAME|FILE.tsv", rich_help_panel=_HOW, help="Label set to learn."),
    ] = "msk22",
    train_option: Annotated[
        list[str] | None,
        typer.Option(
            "--train-option",
            metavar="NAME.OPTION=VALUE",
            rich_help_panel=_HOW,
            help="Of NAME's network in training; NAME.part=all trains every part.",
        ),
    ] = None,
    include_truncated: Annotated[
        bool,
        typer.Option(
            "--include-truncated",
            rich_help_panel=_OUT,
            help="Rank structures that the field of view cuts as well.",
        ),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", rich_help_panel=_OUT, help="Go on where it stopped; add cells."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", rich_help_panel=_OUT, help="Begin again.")
    ] = False,
    json_output: Annotated[
        bool, typer.Option("--json", rich_help_panel=_OUT, help="Print benchmark.json on stdout.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", rich_help_panel=_OUT, help="Print errors only.")
    ] = False,
) -> None:
    """Which segmenter and which uncertainty for my data? All pairs on the same cases, ranked.

    Writes DIR/benchmark.html (look at this), benchmark.md (for a paper), benchmark.json and
    results.csv; of each pair a run folder in DIR/cells. What fails is a row with its reason, and the
    others go on. Exit code 1 if a pair that fits has not done all cases, or none does fit.
    """
    from mskt.cli.benchmarking import BenchmarkOptions, benchmark
    from mskt.cli.console import INTERRUPTED, SOME_FAILED, print_json, stderr
    from mskt.cli.options import parse_samples

    options = BenchmarkOptions(
        segmenters=_names(segmenters),
        uncertainties=_names(uncertainties),
        data=data,
        out=out,
        external=tuple(external or ()),
        devices=_names(device),
        options=tuple(option or ()),
        train_options=tuple(train_option or ()),
        folds=folds,
        recipe=recipe,
        max_steps=max_steps,
        classes=classes,
        samples=parse_samples(samples),
        aggregation=aggregation,
        seed=seed,
        fast=fast,
        threads=threads,
        warm_up=warm_up,
        allow=frozenset(allow or ()),
        include_truncated=include_truncated,
        resume=resume,
        overwrite=overwrite,
    )
    console = stderr(quiet or json_output)

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    try:
        found = benchmark(options, say)
    except KeyboardInterrupt:
        stderr().print(
            "Stopped. Finished cases are kept; the same call with --resume does the others.",
            highlight=False,
        )
        raise typer.Exit(INTERRUPTED) from None
    if json_output:
        print_json(found)
    elif not quiet:
        _print(found, out)
    statuses = {cell["status"] for cell in found["cells"]}
    if statuses & {"failed", "partial"} or "done" not in statuses:
        raise typer.Exit(SOME_FAILED)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _print(found: Mapping[str, Any], out: Path) -> None:
    """One line a cell, what is missing, what must be said beside it, and where the rest is."""
    from mskt.cli.console import stderr, stdout
    from mskt.report.benchmark.tables import summary

    console = stdout()
    table = summary(found)
    if table.rows:
        console.print(_rich(table))
        console.print(table.below, style="dim", markup=False, highlight=False, soft_wrap=True)
    for cell in found["cells"]:
        if cell["status"] != "done":
            style = "yellow" if cell["status"] == "incompatible" else "bold red"
            text = f"{cell['key']}: {cell['status'].upper()}: {cell['reason']}"
            console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
    for note in found["notes"]:
        stderr().print(note, style="yellow", markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"Look at it: {out}/benchmark.html; for a paper: {out}/benchmark.md.",
        style="bold",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _rich(table: TextTable) -> Table:
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=Text(table.title), title_justify="left", title_style="bold")
    for number, name in enumerate(table.columns):
        shown.add_column(
            Text(name), justify="left" if table.is_words(number) else "right", no_wrap=True
        )
    for row in table.rows:
        shown.add_row(*(Text(cell) for cell in row))
    return shown

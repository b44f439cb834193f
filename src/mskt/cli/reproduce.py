"""``mskt reproduce``: the papers' analyses on results of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mskt.core.errors import UsageError

if TYPE_CHECKING:
    from mskt.analysis.reproduction.findings import Findings
    from mskt.analysis.reproduction.findings import Table as Found
    from mskt.report.reproduction.api import Outcome

LIST = "list"


def reproduce_command(
    experiment: Annotated[
        str,
        typer.Argument(
            metavar="EXPERIMENT",
            help="accuracy, uncertainty, failure-detection, training-size, dropout-samples, external, "
            "side, large-cohort, sarcopenia or planes; 'list' says what each shows and needs.",
            show_default=False,
        ),
    ],
    results: Annotated[
        list[str] | None,
        typer.Option(
            "--results",
            "-r",
            metavar="[NAME=]RESULTS",
            help="Folder that mskt run or mskt evaluate wrote to, or a results.csv; may be repeated. "
            "Tables of one NAME are one method.",
            show_default=False,
        ),
    ] = None,
    cases: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="TSV or CSV: case_id, and of patient, sex, affected_side, height_m, cohort, "
            "sarcopenia, smi what the experiment needs.",
            show_default=False,
        ),
    ] = None,
    labelled: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RESULTS",
            help="Results with Dice, to learn thresholds from (large-cohort); may be repeated.",
            show_default=False,
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="RESULTS",
            help="Results whose values are taken as true (side, sarcopenia).",
            show_default=False,
        ),
    ] = None,
    doubt: Annotated[
        str, typer.Option(metavar="METRIC", help="Which row is the uncertainty.")
    ] = "uncertainty",
    structure: Annotated[
        str, typer.Option(metavar="NAME", help="Of external: one structure, or 'all'.")
    ] = "gluteus_medius",
    include_truncated: Annotated[
        bool, typer.Option("--include-truncated", help="Count structures cut by the field of view.")
    ] = False,
    draws: Annotated[
        int, typer.Option("--draws", min=100, help="Resamples of each bootstrap over patients.")
    ] = 1000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the bootstrap.")] = 0,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Tables, page and figures.")
    ] = Path("mskt-reproduce"),
    formats: Annotated[
        str, typer.Option("--format", metavar="png,svg,pdf", help="Of the figures.")
    ] = "png",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say errors only.")] = False,
) -> None:
    """Repeat an analysis of the papers on results of your own, beside the published values.

    Writes tables (CSV), a page (Markdown) and figures with their data. Exit code 1 if the data
    support no figure at all; the table says why.
    """
    if experiment == LIST:
        _list(json)
        return
    from mskt.report.reproduction.api import Settings, reproduce

    if not results:
        _refuse(experiment)
    outcome = reproduce(
        experiment,
        results or [],
        out,
        cases=cases,
        labelled=labelled or (),
        reference=reference,
        settings=Settings(
            doubt,
            structure,
            include_truncated,
            draws,
            seed,
            tuple(name.strip() for name in formats.split(",") if name.strip()),
        ),
        overwrite=overwrite,
    )
    _tell(outcome, out, json, quiet)
    if outcome.findings.empty:
        raise typer.Exit(1)


def _refuse(name: str) -> None:
    """Without results: say what this experiment needs, and how such results are made."""
    from mskt.analysis.reproduction.catalogue import experiment

    wanted = experiment(name)
    commands = wanted.makes or (
        "mskt run CASES --out DIR",
        f"mskt reproduce {name} --results DIR --out OUT"
        + (" --cases cases.tsv" if wanted.facts else ""),
    )
    raise UsageError(
        "--results",
        f"is missing; {name} needs {wanted.needs}.",
        "\n".join(["For example:", *(f"  {line}" for line in commands)]),
    )


def _list(json: bool) -> None:
    from rich.table import Table

    from mskt.analysis.reproduction.catalogue import EXPERIMENTS
    from mskt.cli.console import print_json, stdout

    if json:
        print_json(
            [
                {"name": e.name, "shows": e.shows, "needs": e.needs, "paper": e.paper}
                for e in EXPERIMENTS
            ]
        )
        return
    table = Table()
    for head in ("experiment", "shows", "needs", "paper"):
        table.add_column(head, no_wrap=head == "experiment", overflow="fold")
    for one in EXPERIMENTS:
        table.add_row(one.name, one.shows, one.needs, one.paper)
    stdout().print(table)


def _tell(outcome: Outcome, out: Path, json: bool, quiet: bool) -> None:
    """Tables on stdout, remarks on stderr."""
    from mskt.analysis.reproduction.published import ANOTHER, CITATIONS
    from mskt.cli.console import print_json, stderr, stdout

    if json:
        print_json(
            {
                "experiment": outcome.experiment,
                "files": outcome.files,
                "tables": {table.name or "main": table.rows for table in outcome.findings.tables},
                "published": {paper: CITATIONS[paper] for paper in outcome.findings.papers},
                "notes": [*outcome.notes, ANOTHER],
            }
        )
        return
    if quiet:
        return
    console = stdout()
    for table in outcome.findings.tables:
        console.print(_rich(table))
        if table.below:
            console.print(
                table.below, style="dim", markup=False, highlight=False, emoji=False, soft_wrap=True
            )
    console.print(
        _published(outcome.findings), style="dim", markup=False, emoji=False, soft_wrap=True
    )
    for note in (*outcome.notes, f"Written to {out}: {', '.join(outcome.files)}"):
        stderr().print(
            note, style="yellow", markup=False, highlight=False, emoji=False, soft_wrap=True
        )


def _published(findings: Findings) -> str:
    from mskt.analysis.reproduction.published import ANOTHER, CITATIONS

    told = "; ".join(f"{paper}, {CITATIONS[paper]}" for paper in findings.papers)
    return f"* {ANOTHER}. {told}"


def _rich(table: Found):  # type: ignore[no-untyped-def]
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=Text(table.title), title_justify="left", title_style="bold")
    cells = table.cells
    for place, column in enumerate(table.shown):
        whole = not column.left or column.head in ("structure", "metric")
        shown.add_column(
            Text(column.head),
            justify="left" if column.left else "right",
            min_width=max((len(row[place]) for row in cells), default=0) if whole else None,
        )
    for row in cells:
        shown.add_row(*map(Text, row))
    return shown

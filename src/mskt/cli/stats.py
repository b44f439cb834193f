"""``mskt stats``: tests, agreement and intervals on results tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from mskt.core.errors import InputError, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from mskt.analysis.statistics.concordance import Concordance
    from mskt.analysis.statistics.correction import Correction
    from mskt.analysis.statistics.methods import Method, Pairing, SideChoice
    from mskt.core.records import Record

stats_app = typer.Typer(
    name="stats",
    no_args_is_help=True,
    help="Statistics on results tables: compare methods, agreement with a reference, Dice against "
    "uncertainty. One value a patient, and a reason where there can be no number.",
)

By = Annotated[
    str, typer.Option("--by", metavar="all|structure", help="A line for each structure too.")
]
CorrectionOption = Annotated[
    str,
    typer.Option(
        "--correction",
        metavar="holm|bonferroni|none",
        help="Of the p values, for the number of tests in the table.",
    ),
]
SideOption = Annotated[
    str,
    typer.Option(
        "--side",
        metavar="mean|left|right|both",
        help="Mean of left and right, one side, or the structure as a whole.",
    ),
]
Truncated = Annotated[
    bool,
    typer.Option(
        "--include-truncated", help="Count structures that the field of view cuts as well."
    ),
]
Draws = Annotated[
    int, typer.Option("--draws", min=100, help="Resamples of each bootstrap over patients.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of the bootstrap.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="FILE.csv", help="Write the table.", show_default=False),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file.")]
Json = Annotated[bool, typer.Option("--json", help="Print everything as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say errors only.")]


@dataclass(frozen=True)
class Output:
    """Where results go."""

    out: Path | None
    overwrite: bool
    json: bool
    quiet: bool

    def check(self) -> None:
        """Refuse to replace a file unasked, before anything is computed."""
        if self.out is not None and self.out.exists() and not self.overwrite:
            raise UsageError(
                self.out.name, "exists already.", "--overwrite replaces it; or choose another name."
            )

    def tell(
        self,
        rows: Sequence[Mapping[str, object]],
        tables: Callable[[], Sequence[Table]],
        below: Sequence[str],
        notes: Sequence[str],
        facts: Mapping[str, Any],
    ) -> None:
        """Write the file; tables for people, JSON for programs."""
        from mskt.cli.console import print_json, stderr, stdout
        from mskt.cli.stats_tables import to_csv
        from mskt.core import atomic

        if self.out is not None:
            atomic.make_folder(self.out.absolute().parent)
            atomic.write_text(self.out, to_csv(rows))
        if self.json:
            print_json({**facts, "rows": list(rows), "notes": list(notes)})
            return
        if self.quiet:
            return
        console = stdout()
        for table in tables():
            console.print(table)
        for line in below:
            console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)
        for note in notes:
            stderr().print(note, style="yellow", markup=False, highlight=False, soft_wrap=True)


@stats_app.command("compare")
def compare_command(
    tables: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]RESULTS...",
            help="Tables or folders with results.csv. Tables of the same NAME are one method (the "
            "folds of a cross-validation).",
            show_default=False,
        ),
    ],
    metric: Annotated[str, typer.Option(help="Which row of the tables.")] = "dice",
    by: By = "all",
    correction: CorrectionOption = "holm",
    side: SideOption = "mean",
    include_truncated: Truncated = False,
    draws: Draws = 1000,
    seed: Seed = 0,
    out: Out = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare methods on the same patients: which differences are more than chance, and how large.

    Exit code 1 if the data support no test at all; the table says why.
    """
    from mskt.analysis.statistics.comparison import compare
    from mskt.analysis.statistics.methods import methods_of
    from mskt.cli import stats_tables as show
    from mskt.cli.sources import SYNTHETIC_MARK

    output = Output(out, overwrite, json, quiet)
    output.check()
    named = any(_name_and_path(text)[0] for text in tables)
    methods = methods_of(_tables(tables), metric, SYNTHETIC_MARK, by_table=named)
    if len(methods) < 2:
        raise UsageError(
            "results",
            f"hold one method only: {methods[0].name}.",
            "Give the results of two or more methods on the same patients.",
        )
    found = compare(
        methods,
        metric,
        by_structure=_by_structure(by),
        correction=_correction(correction),
        side=_side(side),
        truncated=include_truncated,
        draws=draws,
        seed=seed,
    )
    _check_common(found.pairings, methods)
    output.tell(
        show.comparison_rows(found),
        lambda: show.comparison_tables(found),
        show.below_comparison(found),
        [note for pairing in found.pairings for note in show.pairing_notes(pairing, metric)],
        {
            "metric": metric,
            "unit": found.unit,
            "correction": correction,
            "tests": found.tests,
            "pairings": [show.plain_pairing(pairing) for pairing in found.pairings],
        },
    )
    if not found.tests:
        raise typer.Exit(1)


@stats_app.command("agreement")
def agreement_command(
    results: Annotated[
        Path, typer.Argument(help="Table or folder with results.csv.", show_default=False)
    ],
    metric: Annotated[str, typer.Option(help="Which row of the tables.")] = "volume",
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference",
            "-r",
            help="Results whose values are taken as true. Not needed for volumes of cases with "
            "reference labels.",
            show_default=False,
        ),
    ] = None,
    sides: Annotated[
        bool, typer.Option("--sides", help="Hold left against right instead of a reference.")
    ] = False,
    side: SideOption = "mean",
    include_truncated: Truncated = False,
    draws: Draws = 1000,
    seed: Seed = 0,
    out: Out = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Agreement of measured values with reference values: CCC, ICC, Bland–Altman, r, mean error.

    Exit code 1 if no structure has enough patients; the table says why.
    """
    from mskt.analysis.statistics.concordance import concordance
    from mskt.cli import stats_tables as show

    output = Output(out, overwrite, json, quiet)
    output.check()
    if sides and (reference is not None or side != "mean"):
        raise UsageError("--sides", "excludes --reference and --side.", "Leave one of them out.")
    measured, references = _two(results, reference, metric, sides)
    found = concordance(
        measured,
        references,
        metric,
        side=_side(side),
        truncated=include_truncated,
        draws=draws,
        seed=seed,
    )
    _check_common(found.pairings, [*measured, *references])
    output.tell(
        show.agreement_rows(found),
        lambda: show.agreement_tables(found),
        show.below_agreement(found),
        [note for pairing in found.pairings for note in show.pairing_notes(pairing, metric)],
        {
            "metric": metric,
            "unit": found.unit,
            "pairings": [show.plain_pairing(pairing) for pairing in found.pairings],
        },
    )
    if _nothing(found):
        raise typer.Exit(1)


@stats_app.command("bins")
def bins_command(
    results: Annotated[
        Path, typer.Argument(help="Table or folder with results.csv.", show_default=False)
    ],
    metric: Annotated[
        str, typer.Option(help="Which row of the table is the doubt.")
    ] = "uncertainty",
    bins: Annotated[int, typer.Option(min=2, help="Of equal width.")] = 10,
    by: By = "all",
    correction: CorrectionOption = "holm",
    include_truncated: Truncated = False,
    draws: Draws = 1000,
    seed: Seed = 0,
    out: Out = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Dice against uncertainty in bins of equal width: does it fall from bin to bin?

    Exit code 1 if there are no bins; the table says why.
    """
    from mskt.analysis.pairs import pairs_of
    from mskt.analysis.statistics.bins import bins_of
    from mskt.cli import stats_tables as show

    output = Output(out, overwrite, json, quiet)
    output.check()
    records = _read(results)
    _one_method(records)
    kept = [row for row in records if include_truncated or row.status != "truncated"]
    pairs = pairs_of(kept, metric)
    if not pairs.found.any():
        raise InputError(results.name, f"has no structure with both Dice and {metric}", "")
    found = bins_of(
        pairs,
        bins=bins,
        by_structure=_by_structure(by),
        correction=_correction(correction),
        draws=draws,
        seed=seed,
    )
    cut = sum(row.metric == "dice" and row.value is not None for row in records) - sum(
        row.metric == "dice" and row.value is not None for row in kept
    )
    output.tell(
        show.bin_rows(found),
        lambda: show.bin_tables(found),
        show.below_bins(found),
        show.bin_notes(pairs, cut, metric, records),
        {"metric": metric, "correction": correction, "tests": found.tests},
    )
    if not any(one.steps for one in found.sets):
        raise typer.Exit(1)


def _read(path: Path) -> list[Record]:
    """The rows of a table, or of the one in a folder."""
    from mskt.core.records import read_csv

    file = path / "results.csv" if path.is_dir() else path
    if not file.is_file():
        raise UsageError(
            str(path),
            "has no results.csv." if path.is_dir() else "does not exist.",
            "Give a results.csv, or the folder that mskt run or mskt evaluate wrote to.",
        )
    return read_csv(file)


def _tables(texts: Sequence[str]) -> list[tuple[str, list[Record]]]:
    """``NAME=PATH``, or a path, which is called as its folder where no other is called so.

    Only tables that the user gives one name are one method.
    """
    parts = [_name_and_path(text) for text in texts]
    paths = [path for _, path in parts]
    short = [name or _short(path.absolute()) for name, path in parts]
    if len({path.absolute() for path in paths}) < len(paths):
        raise UsageError("results", "name the same table twice.", "Give each table once.")
    names = [
        name or (own if short.count(own) == 1 else str(path))
        for (name, path), own in zip(parts, short, strict=True)
    ]
    return [(name, _read(path)) for name, path in zip(names, paths, strict=True)]


def _name_and_path(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if equals and name and path and not Path(text).exists():
        return name, Path(path)
    return "", Path(text)


def _short(path: Path) -> str:
    """Name of a table: that of its folder, or of the file if it is no results.csv."""
    if path.name == "results.csv":
        path = path.parent
    return path.stem if path.suffix == ".csv" else path.name


def _two(
    results: Path, reference: Path | None, metric: str, sides: bool
) -> tuple[list[Method], list[Method]]:
    """What is measured, and for each of them its reference."""
    from mskt.analysis.statistics.concordance import implied_reference, left_and_right
    from mskt.analysis.statistics.methods import methods_of
    from mskt.cli.sources import SYNTHETIC_MARK

    records = _read(results)
    measured = methods_of([(_short(results.absolute()), records)], metric, SYNTHETIC_MARK)
    if sides:
        both = [left_and_right(method) for method in measured]
        return [left for left, _ in both], [right for _, right in both]
    if reference is None:
        if metric != "volume":
            raise UsageError(
                "--reference",
                f"is needed for {metric}.",
                "Give the results whose values are taken as true; or --sides.",
            )
        return measured, [implied_reference(method, records) for method in measured]
    true = methods_of([(_short(reference.absolute()), _read(reference))], metric, SYNTHETIC_MARK)
    if len(true) > 1:
        raise UsageError(
            "--reference",
            f"holds several methods: {', '.join(method.name for method in true)}.",
            "Give a table of one.",
        )
    return measured, true * len(measured)


def _one_method(records: Sequence[Record]) -> None:
    """Uncertainties of different methods have no common scale."""
    methods = sorted({(row.segmenter, row.uncertainty) for row in records})
    if len(methods) > 1:
        raise UsageError(
            "results",
            "hold several methods: " + ", ".join("/".join(filter(None, m)) for m in methods) + ".",
            "A doubt means something else in each of them. Give a table of one.",
        )


def _check_common(pairings: Sequence[Pairing], methods: Sequence[Method]) -> None:
    """Refuse tables that have nothing to do with each other."""
    if any(pairing.structures for pairing in pairings):
        return
    shown = "; ".join(f"{m.name}: {', '.join(m.cases[:3])} …" for m in methods[:3])
    raise UsageError(
        "results",
        f"have no structure of the same case and side in common ({shown}).",
        "Give results of the same patients, their cases named alike; --side chooses other rows.",
    )


def _nothing(found: Concordance) -> bool:
    return all(line.result.reason for line in found.lines)


def _by_structure(text: str) -> bool:
    return _one_of("--by", text, ("all", "structure")) == "structure"


def _correction(text: str) -> Correction:
    from mskt.analysis.statistics.correction import CORRECTIONS

    return cast("Correction", _one_of("--correction", text, CORRECTIONS))


def _side(text: str) -> SideChoice:
    from mskt.analysis.statistics.methods import SIDE_CHOICES

    return cast("SideChoice", _one_of("--side", text, SIDE_CHOICES))


def _one_of(option: str, text: str, allowed: Sequence[str]) -> str:
    if text not in allowed:
        raise UsageError(option, f"{text!r} is none of its values.", f"Take {', '.join(allowed)}.")
    return text

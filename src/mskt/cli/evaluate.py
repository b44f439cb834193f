"""``mskt evaluate``: masks of any tool against references, one case or many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mskt.core.errors import MsktError, OutputError, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from mskt.analysis.aggregates import Aggregate
    from mskt.core.anatomy import LabelSet
    from mskt.core.cases import Case
    from mskt.core.interfaces import Metric
    from mskt.core.records import Record
    from mskt.core.registry import Registry
    from mskt.core.volume import Labels

_SHOWN = ("dice", "nsd", "assd", "hd95")


@dataclass(frozen=True)
class EvaluateOptions:
    """What the user asked for; None means: not given."""

    prediction: Path
    reference: Path
    out: Path
    image: Path | None = None
    label_set: str | None = None
    reference_label_set: str | None = None
    tolerance_mm: float = 2.0
    dataset: str = ""
    segmenter: str = ""
    resample: bool = False
    json: bool = False
    quiet: bool = False


@dataclass
class Outcome:
    """Rows by case, why cases failed, and what else is worth saying."""

    records: dict[str, list[Record]] = field(default_factory=dict)
    diagonals_mm: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Match:
    """The files of one case."""

    case_id: str
    prediction: Case
    reference: Case
    image: Path | None


def evaluate_command(
    prediction: Annotated[
        Path,
        typer.Option(
            "--prediction", "-p", help="Label map, or a folder of them.", show_default=False
        ),
    ],
    reference: Annotated[
        Path,
        typer.Option(
            "--reference",
            "-r",
            help="Label map, or a folder of them; matched by name.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Folder for results.csv, summary.tsv and one folder a case.",
            show_default=False,
        ),
    ],
    image: Annotated[
        Path | None,
        typer.Option(
            help="The CT, or a folder of them: adds mean HU, composition and the error of the "
            "mean HU."
        ),
    ] = None,
    label_set: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE.tsv",
            help="Names the labels of masks without a table beside them: "
            "msk22, thigh10, thigh30, totalseg or a table.",
        ),
    ] = None,
    reference_label_set: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE.tsv", help="The same for the references, where it differs."
        ),
    ] = None,
    tolerance_mm: Annotated[float, typer.Option(min=0.0, help="Of the surface Dice (nsd).")] = 2.0,
    dataset: Annotated[str, typer.Option(help="Name that stands in the tables.")] = "",
    segmenter: Annotated[
        str, typer.Option(help="Name of the tool that made the predictions, for the tables.")
    ] = "",
    resample_prediction: Annotated[
        bool,
        typer.Option(
            "--resample-prediction", help="Take the nearest label where the grids differ."
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say errors only.")] = False,
) -> None:
    """Compare label maps with references: overlap, distances, volumes.

    Exit code 1 if a case failed or has no prediction; the table says which and why.
    """
    options = EvaluateOptions(
        prediction,
        reference,
        out,
        image,
        label_set,
        reference_label_set,
        tolerance_mm,
        dataset,
        segmenter,
        resample_prediction,
        json,
        quiet,
    )
    outcome = evaluate(options)
    if outcome.failed:
        raise typer.Exit(1)


def evaluate(options: EvaluateOptions) -> Outcome:
    """Match, measure, write and tell.

    Raises:
        UsageError: nothing matches, or a name of a label set is unknown.
        OutputError: the results cannot be written.
    """
    from mskt.analysis.evaluation import metrics_of
    from mskt.core import atomic
    from mskt.core.records import to_csv
    from mskt.core.registry import registry

    names = (_names(options.label_set), _names(options.reference_label_set))
    outcome = Outcome()
    matches = match(options, outcome)
    plugins = registry()
    metrics = metrics_of(plugins, options.tolerance_mm)
    atomic.make_folder(options.out)
    for found in matches:
        try:
            outcome.records[found.case_id] = _one(found, options, names, metrics, plugins, outcome)
        except (OutputError, UsageError):
            raise  # the next case would fare no better
        except MsktError as error:
            outcome.failed[found.case_id] = str(error).replace("\n", " ")
    rows = [row for records in outcome.records.values() for row in records]
    atomic.write_text(options.out / "results.csv", to_csv(rows))
    _tell(options, outcome, rows)
    return outcome


def match(options: EvaluateOptions, outcome: Outcome) -> list[Match]:
    """Find for each reference its prediction and image; what lacks a prediction has failed.

    Raises:
        UsageError: no reference has a prediction.
    """
    from mskt.core.cases import find_cases

    predictions, references = (
        {case.case_id: case for case in _maps(path)}
        for path in (options.prediction, options.reference)
    )
    if len(predictions) == len(references) == 1:  # one each: they belong together, whatever named
        references = dict(zip(predictions, references.values(), strict=True))
    images = {}
    if options.image is not None:
        images = {case.case_id: case.image for case in find_cases([options.image])}
        if len(images) == len(references) == 1:
            images = dict(zip(references, images.values(), strict=True))
    shared = [name for name in references if name in predictions]
    if not shared:
        raise UsageError(
            "--prediction and --reference",
            f"have no case in common: {_some(predictions)} against {_some(references)}.",
            "Give the two files of a case the same name (endings such as _dseg do not count).",
        )
    for name in references:
        if name not in predictions:
            outcome.failed[name] = "has a reference but no prediction"
    for name in predictions:
        if name not in references:
            outcome.notes.append(f"{name}: has no reference, left out")
    if images and any(name not in images for name in shared):
        missing = [name for name in shared if name not in images]
        raise UsageError(
            "--image",
            f"has no image for {_some(missing)}.",
            "Name images like the masks, or leave --image out.",
        )
    return [Match(name, predictions[name], references[name], images.get(name)) for name in shared]


def _maps(path: Path) -> list[Case]:
    """Label maps in a path; a folder ``segmentations`` holds one mask for each structure."""
    from mskt.core.cases import Case, find_label_maps

    if path.is_dir():
        folders = [path] if path.name == "segmentations" else sorted(path.glob("*/segmentations"))
        if folders:
            return [Case(folder.absolute().parent.name, folder, folder) for folder in folders]
    return find_label_maps([path])


def _some(names: Any) -> str:
    listed = list(names)
    return ", ".join(listed[:3]) + (f", … ({len(listed)})" if len(listed) > 3 else "")


def _names(text: str | None) -> LabelSet | None:
    """The label set that an option names: a built-in one or a table."""
    from mskt.core.anatomy import label_set
    from mskt.core.cases import label_set_from

    if text is None:
        return None
    return label_set_from(Path(text)) if Path(text).suffix else label_set(text)


def _one(
    found: Match,
    options: EvaluateOptions,
    names: tuple[LabelSet | None, LabelSet | None],
    metrics: Sequence[Metric],
    plugins: Registry,
    outcome: Outcome,
) -> list[Record]:
    """Read, measure and write one case."""
    from concurrent.futures import ThreadPoolExecutor

    from mskt.analysis.aggregates import diagonal_mm
    from mskt.analysis.assessment import Keys, assess
    from mskt.analysis.evaluation import compare, cropped, on_grid, separate_both
    from mskt.core import atomic
    from mskt.core.cases import load_case
    from mskt.core.interfaces import LoadOptions
    from mskt.core.postprocess import truncated
    from mskt.core.records import to_csv

    with ThreadPoolExecutor(max_workers=1) as other:  # unpacking leaves the interpreter free
        coming = other.submit(_labels, found.reference, names[1] or names[0], plugins)
        prediction = _labels(found.prediction, names[0], plugins)
        reference = coming.result()
    if options.resample and not prediction.grid.same_as(reference.grid):
        prediction = on_grid(prediction, reference.grid)
        outcome.notes.append(f"{found.case_id}: prediction resampled to the reference's grid")
    image = None
    if found.image is not None:
        image = load_case(found.image, LoadOptions(), plugins)
        _check_image(image.grid, reference.grid)
    keys = Keys(found.case_id, options.dataset, options.segmenter)
    sides, reference_sides = separate_both(prediction, reference)
    records = compare(
        prediction,
        reference,
        metrics,
        keys=keys,
        image=image,
        prediction_sides=sides,
        reference_sides=reference_sides,
    )
    cut = truncated(prediction.data, sides, prediction.label_set)
    if image is None:
        prediction, sides = cropped(prediction, sides)
    records += assess(prediction, image, sides, keys=keys, truncated=cut)
    outcome.diagonals_mm[found.case_id] = diagonal_mm(reference.grid)
    atomic.make_folder(options.out / found.case_id)
    atomic.write_text(options.out / found.case_id / "results.csv", to_csv(records))
    return records


def _labels(case: Case, names: LabelSet | None, plugins: Registry) -> Labels:
    """A label map; an option names its values before the table beside it does."""
    from mskt.core.cases import load_label_map
    from mskt.core.interfaces import LoadOptions

    return load_label_map(case.image, LoadOptions(), plugins, names or case.table)


def _check_image(image: Any, reference: Any) -> None:
    from mskt.core.errors import GeometryError

    if not image.same_as(reference, tolerance_mm=0.01):
        raise GeometryError(
            "image",
            f"has {image.shape} voxels, its reference {reference.shape}, or they lie elsewhere",
            "Give the image on which the reference was drawn.",
        )


def _tell(options: EvaluateOptions, outcome: Outcome, rows: list[Record]) -> None:
    """Write the summary and show it: a table for people, JSON for programs."""
    from mskt.analysis.aggregates import aggregate, to_tsv
    from mskt.cli.console import print_json, stderr
    from mskt.core import atomic

    found = aggregate(rows, outcome.diagonals_mm)
    atomic.write_text(options.out / "summary.tsv", to_tsv(found))
    console = stderr(options.quiet)
    if found:
        console.print(summary_table(found, len(outcome.records)))
        console.print(
            "mean ± sd over defined values; assd*: a structure that was missed "
            "counts as the image diagonal",
            style="dim",
            highlight=False,
        )
    for note in outcome.notes:
        console.print(note, style="dim", markup=False, highlight=False, soft_wrap=True)
    for case_id, reason in outcome.failed.items():
        stderr().print(
            f"{case_id}: FAILED: {reason}",
            style="bold red",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if options.json:
        print_json(
            {
                "cases": len(outcome.records),
                "failed": outcome.failed,
                "notes": outcome.notes,
                "summary": [_plain(row) for row in found],
            }
        )


def _plain(row: Aggregate) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(replace(row, statuses=dict(row.statuses)))


def summary_table(found: Sequence[Aggregate], cases: int) -> Table:
    """One line a structure: its main metrics, and how many cases have no value and why."""
    from rich.table import Table

    table = Table(
        title=f"{cases} case{'s' if cases != 1 else ''}, whole structures", title_justify="left"
    )
    table.add_column("structure", no_wrap=True)
    table.add_column("n", justify="right")
    for name in (*_SHOWN[:3], "assd*", *_SHOWN[3:]):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("not ok")
    whole = {(row.structure, row.metric): row for row in found if row.side == "both"}
    whole |= {
        (row.structure, row.metric): row
        for row in found
        if (row.structure, row.metric) not in whole
    }
    for structure in dict.fromkeys(row.structure for row in found):
        row = {metric: whole.get((structure, metric)) for metric in _SHOWN}
        dice, assd = row["dice"], row["assd"]
        if dice is None:
            continue  # a structure that only the prediction has
        reasons = ", ".join(
            f"{count} {status.replace('_', ' ')}" for status, count in sorted(dice.statuses.items())
        )
        penalised = assd.mean_misses_as_diagonal if assd is not None else None
        table.add_row(
            structure,
            str(dice.defined),
            *(_spread(row[metric]) for metric in _SHOWN[:3]),
            "–" if penalised is None else f"{penalised:.2f}",
            *(_spread(row[metric]) for metric in _SHOWN[3:]),
            reasons,
        )
    return table


def _spread(row: Aggregate | None) -> str:
    if row is None or row.mean is None or row.median is None:
        return "–"
    digits = 3 if row.unit == "1" else 2
    sd = "" if row.sd is None else f" ± {row.sd:.{digits}f}"
    return f"{row.mean:.{digits}f}{sd}"

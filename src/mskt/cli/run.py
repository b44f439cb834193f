"""``mskt run``: the options. What they start is in :mod:`mskt.cli.runner`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_WHAT, _HOW, _OUT, _MANY = "What to segment", "How to segment", "What to write", "Many cases"


def _names(text: str | None) -> tuple[str, ...] | None:
    """``a,b`` as names; None stays None (not given)."""
    if text is None:
        return None
    return tuple(name.strip() for name in text.split(",") if name.strip())


def run_command(
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[INPUTS]...",
            show_default=False,
            help="CT images: .nii.gz, .nrrd, .mha, a DICOM folder or zip, a folder of cases, a table of "
            "cases, an nnU-Net or BIDS dataset. Without any: the built-in synthetic phantom.",
        ),
    ] = None,
    more_inputs: Annotated[
        list[Path] | None,
        typer.Option("--input", "-i", rich_help_panel=_WHAT, help="The same as INPUTS."),
    ] = None,
    series: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_WHAT, help="Which DICOM series of a folder: its number or UID."
        ),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=_WHAT,
            help="Accept a fault of the input that the error message names.",
        ),
    ] = None,
    height: Annotated[
        float | None,
        typer.Option(
            metavar="M",
            min=0.3,
            max=2.6,
            rich_help_panel=_WHAT,
            help="Body height in metres, for volumes divided by height squared; one case only.",
        ),
    ] = None,
    label_set: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE.tsv",
            rich_help_panel=_WHAT,
            help="Names the values of reference masks that come without a table.",
        ),
    ] = None,
    segmenter: Annotated[
        str,
        typer.Option(
            "--segmenter",
            "-s",
            metavar="NAME",
            rich_help_panel=_HOW,
            help="See 'mskt plugins list'. Several, with commas between, are an ensemble.",
        ),
    ] = "unet_bayes",
    uncertainty: Annotated[
        str,
        typer.Option(
            "--uncertainty",
            "-u",
            metavar="NAME",
            rich_help_panel=_HOW,
            help="How doubt is estimated; see 'mskt plugins list'.",
        ),
    ] = "mcdropout",
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE[,…]",
            rich_help_panel=_HOW,
            help="See 'mskt models list'. Several, with commas between, are an ensemble.",
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(metavar="NAME", rich_help_panel=_HOW, help="Variant of the network."),
    ] = None,
    measure: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=_HOW,
            help="Of the uncertainty: variance, entropy, mutual_information, …",
        ),
    ] = None,
    measures: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…|all",
            rich_help_panel=_HOW,
            help="Further measures for the results, of the same draws.",
        ),
    ] = None,
    aggregation: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=_HOW,
            help="From voxels to structures: mean, interior, boundary, soft_dice, pairwise_dice, "
            "volume_cv, combined.",
        ),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|NAME|auto",
            rich_help_panel=_HOW,
            help="Of mskt calibrate: adds a predicted Dice, a lower bound and a flag to each structure.",
        ),
    ] = None,
    force_calibration: Annotated[
        bool,
        typer.Option(
            "--force-calibration",
            rich_help_panel=_HOW,
            help="Use it although it was made for another method; every case is marked.",
        ),
    ] = False,
    samples: Annotated[
        str | None,
        typer.Option(
            metavar="T|auto",
            rich_help_panel=_HOW,
            help="Draws a voxel; time grows with it. auto stops when further ones change nothing.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, rich_help_panel=_HOW, help="The same seed gives the same result.")
    ] = 0,
    fast: Annotated[
        bool,
        typer.Option(
            "--fast",
            rich_help_panel=_HOW,
            help="Quicker and rougher: 3 draws, and what the segmenter offers.",
        ),
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            metavar="NAME=VALUE",
            rich_help_panel=_HOW,
            help="Any further option of the segmenter; 'mskt plugins info NAME' lists them.",
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            "-d",
            metavar="auto|cpu|cuda[:N]|gpu[:N]|mps",
            rich_help_panel=_HOW,
            help="auto takes a GPU if there is one; any other name is taken at its word.",
        ),
    ] = "auto",
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="auto|float32|bfloat16",
            rich_help_panel=_HOW,
            help="Of the network; auto takes bfloat16 where the processor is faster in it.",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, rich_help_panel=_HOW, help="CPU threads; all cores by default."),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            rich_help_panel=_OUT,
            help="Folder for the results; one folder a case is made in it.",
        ),
    ] = Path("mskt-out"),
    roi_subset: Annotated[
        str | None,
        typer.Option(metavar="A,B,…", rich_help_panel=_OUT, help="Only these structures."),
    ] = None,
    split_sides: Annotated[
        bool,
        typer.Option(
            "--split-sides",
            rich_help_panel=_OUT,
            help="Left structures get labels of their own: the index + 100.",
        ),
    ] = False,
    report: Annotated[
        bool,
        typer.Option(
            "--report",
            rich_help_panel=_OUT,
            help="Also report.html: slices to scroll, surfaces, histograms, in one file.",
        ),
    ] = False,
    json_output: Annotated[
        bool,
        typer.Option("--json", rich_help_panel=_OUT, help="Print the outcome as JSON on stdout."),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", rich_help_panel=_OUT, help="Print errors only.")
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            rich_help_panel=_OUT,
            help="Tables of all cases, remarks, tracebacks of failed cases.",
        ),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            rich_help_panel=_MANY,
            help="Leave cases that are done as they are, do the others.",
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", rich_help_panel=_MANY, help="Compute cases that are done again."
        ),
    ] = False,
    num_parts: Annotated[
        int,
        typer.Option(min=1, rich_help_panel=_MANY, help="Share the cases among so many processes."),
    ] = 1,
    part_id: Annotated[
        int,
        typer.Option(
            min=0, rich_help_panel=_MANY, help="Which share this process takes: 0 … num-parts − 1."
        ),
    ] = 0,
) -> None:
    """Segment CT scans, quantify each muscle and bone, and show where not to trust it.

    Writes for each case, in DIR/CASE: the label map, the uncertainty map, results.csv,
    statistics.json, preview.png and run.json; and over all cases DIR/results.csv and DIR/cases.tsv.
    With --calibration also flags.tsv, with --report also report.html.
    """
    from mskt.cli.options import RunOptions, parse_extra, parse_samples
    from mskt.cli.runner import run

    code = run(
        RunOptions(
            inputs=(*(inputs or ()), *(more_inputs or ())),
            out=out,
            segmenter=segmenter,
            uncertainty=uncertainty,
            weights=weights,
            backbone=backbone,
            measure=measure,
            measures=measures,
            aggregation=aggregation,
            calibration=calibration,
            force_calibration=force_calibration,
            samples=parse_samples(samples),
            seed=seed,
            fast=fast or None,
            extra=parse_extra(settings or []),
            device=device,
            precision=precision,
            threads=threads,
            label_set=label_set,
            roi_subset=_names(roi_subset),
            split_sides=split_sides,
            series=series,
            allow=frozenset(allow or ()),
            height_m=height,
            resume=resume,
            overwrite=overwrite,
            num_parts=num_parts,
            part_id=part_id,
            report=report,
            json=json_output,
            quiet=quiet,
            verbose=verbose,
        )
    )
    if code:
        raise typer.Exit(code)

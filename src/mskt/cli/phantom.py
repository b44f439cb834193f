"""``mskt phantom``: synthetic patients with exact labels."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mskt.core.errors import UsageError

if TYPE_CHECKING:
    from mskt.core.anatomy import LabelSet
    from mskt.synthesis.phantom import Phantom


class Format(StrEnum):
    """How the images are stored."""

    NIFTI = "nifti"
    DICOM = "dicom"
    BOTH = "both"


def phantom_command(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write to.")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many patients.")] = 1,
    seed: Annotated[
        int,
        typer.Option(min=0, help="Of the first patient; the next ones have seed + 1, seed + 2, …"),
    ] = 1,
    spacing: Annotated[
        str, typer.Option(metavar="X,Y,Z", help="Voxel size in mm; fine grids take minutes.")
    ] = "2,2,3",
    thickness: Annotated[
        float | None,
        typer.Option(min=0.1, max=20.0, metavar="MM", help="Slice thickness; drawn if not given."),
    ] = None,
    format_: Annotated[
        Format, typer.Option("--format", help="DICOM series go to DIR/dicom/ID.")
    ] = Format.NIFTI,
    label_set: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Classes of the masks: msk22, thigh10, thigh30, totalseg or atoms "
            "(every muscle and side by itself).",
        ),
    ] = "msk22",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Make synthetic CT scans from the iliac crest to the knee, with exact masks.

    The folder has nnU-Net's layout: 'mskt run DIR' and 'mskt evaluate' read it as it is. Everything
    in it says that it is synthetic; the same seed is the same patient at every voxel size.
    """
    from mskt.cli.console import Reporter

    classes = _label_set(label_set)
    spacing_mm = parse_spacing(spacing)
    if (out / "dataset.json").exists():
        raise UsageError(str(out), "holds a dataset already.", "Choose another folder with --out.")
    reporter = Reporter(count, quiet)
    persons = []
    with reporter.running():
        for number in range(1, count + 1):
            name = f"phantom_{number:04d}"
            reporter.stage(name, "make", 0.0)
            person = _make(out, name, seed + number - 1, spacing_mm, thickness, format_, classes)
            persons.append(person)
            reporter.case(
                f"{name}: {person['sex']}, {person['age']} years, "
                f"{person['height_m']:.2f} m (synthetic)"
            )
    from mskt.report import dataset

    dataset.write_description(out, classes, persons)


def _make(
    out: Path,
    name: str,
    seed: int,
    spacing_mm: tuple[float, float, float],
    thickness_mm: float | None,
    format_: Format,
    classes: LabelSet,
) -> dict[str, object]:
    from mskt.report import dataset
    from mskt.synthesis.phantom import in_label_set, make_phantom

    phantom = make_phantom(seed, spacing_mm=spacing_mm, thickness_mm=thickness_mm)
    dataset.write_labels(out, name, in_label_set(phantom.labels, classes))
    if format_ is not Format.DICOM:
        dataset.write_image(out, name, phantom.image)
    if format_ is not Format.NIFTI:
        _write_dicom(out / "dicom" / name, phantom, seed, thickness_mm)
    return {"participant_id": name, "seed": seed, **phantom.person}


def _write_dicom(folder: Path, phantom: Phantom, seed: int, thickness_mm: float | None) -> None:
    from mskt.cli.sources import SYNTHETIC_MARK
    from mskt.core import atomic
    from mskt.synthesis.dicom_writer import write_dicom_series

    with atomic.explained(folder.name):
        write_dicom_series(
            folder,
            phantom.image,
            series_description=SYNTHETIC_MARK,
            seed=seed,
            slice_thickness_mm=thickness_mm,
        )


def _label_set(name: str) -> LabelSet:
    from mskt.core.anatomy import label_set
    from mskt.synthesis.phantom import atom_label_set

    return atom_label_set() if name == "atoms" else label_set(name)


def parse_spacing(text: str) -> tuple[float, float, float]:
    """``X,Y,Z`` or one number for all three.

    Raises:
        UsageError: something else, or a size that no scanner has.
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) == 1:
        values *= 3
    if len(values) != 3 or not all(0.3 <= value <= 12.0 for value in values):
        raise UsageError(
            "--spacing",
            f"{text!r} is no voxel size.",
            "Give three numbers in mm between 0.3 and 12, for example 0.8,0.8,1.",
        )
    return (values[0], values[1], values[2])

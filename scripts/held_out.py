"""Held-out synthetic cases, and what a set of weights makes of them.

    python scripts/held_out.py make vh_female --preset wide --count 8 --out held/vhf
    mskt run held/vhf --samples 10 --out held/vhf-run
    python scripts/held_out.py summarise held/vhf held/vhf-run
    python scripts/held_out.py gallery held/vhf held/vhf-run --out worst.png

``make`` writes images and exact masks in nnU-Net's layout: from the label map of one person (who must
not have been in training for the figures to mean anything) or from parametric persons with seeds that
training never uses. ``summarise`` prints Dice, ASSD and mean uncertainty per structure, and Pearson's r of
Dice and uncertainty over cases, per structure and pooled. ``gallery`` draws the worst results.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import nibabel as nib
import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from scipy import stats

from mskt.core.anatomy import label_set
from mskt.core.volume import Labels, Volume
from mskt.report import dataset
from mskt.synthesis.config import SynthesisConfig
from mskt.synthesis.engine import synthesise
from mskt.synthesis.labelmap import LabelMap
from mskt.synthesis.parametric import canonical_labels
from mskt.synthesis.phantom import NOTE
from mskt.synthesis.source import PreparedSource, prepare
from mskt.training.synthetic import clinical

FIRST_SEED = 7_000_000
"""Of parametric persons; training draws from 50,000 and the phantoms of the docs from below 10,000."""
LEAST_CM3 = 6.0
"""Of the reference: slivers at the edge of a scan say little by their Dice."""
MARGIN = 25
Row = dict[str, float]


def presets() -> dict[str, SynthesisConfig]:
    """What the scans are like."""
    wide = replace(SynthesisConfig.training(), p_lesion=0.0)  # the shipped weights saw no mass
    return {
        "clinical": clinical(wide),
        "wide": wide,
        "hard": replace(
            wide,
            p_implant=0.6,
            p_truncated=0.4,
            noise_hu=(25.0, 70.0),
            infiltration=(0.3, 0.75),
            atrophy_mm=(1.5, 5.0),
            p_atrophy=0.8,
            slice_mm=(4.0, 8.0),
        ),
        "metal": replace(wide, p_implant=1.0, p_implant_second=0.6, p_hardening=1.0),
        "noise": replace(wide, noise_hu=(40.0, 90.0), streak_hu=(8.0, 30.0), p_motion=0.3),
        "thick": replace(wide, slice_mm=(8.0, 14.0), psf_mm=(2.0, 4.0), overshoot=(0.0, 0.0)),
        "atrophy": replace(wide, infiltration=(0.5, 0.9), p_atrophy=1.0, atrophy_mm=(2.5, 6.0)),
        "mass": replace(wide, p_lesion=1.0, p_truncated=0.5),
        "truncated": replace(wide, p_truncated=1.0),
        # Nothing lies on a table: fat and muscle hang, arms beside the hip, a quick, noisy scan.
        "standing": replace(
            wide,
            flattening=(-0.7, -0.35),
            compression=(0.0, 0.05),
            tilt_sd=8.0,
            p_table=0.0,
            p_blanket=0.0,
            p_phantom=0.0,
            p_arms=0.9,
            noise_hu=(20.0, 45.0),
        ),
    }


def make(args: argparse.Namespace) -> None:
    """Write the cases."""
    classes = label_set("msk22")
    persons = []
    for number in range(args.count):
        name = f"{args.person.replace('_', '-')}-{args.preset}-{number:03d}"
        seed = FIRST_SEED + args.seed + number
        case = synthesise(
            _source(args, seed),
            seed=seed,
            spacing_mm=tuple(args.spacing),
            shape=tuple(args.shape),
            config=presets()[args.preset],
        )
        image = Volume(case.image, case.affine, notes=(NOTE,), source={"format": "synthetic"})
        dataset.write_image(args.out, name, image)
        labels = Labels(classes.from_atoms(case.labels), case.affine, classes)
        dataset.write_labels(args.out, name, labels)
        persons.append({"participant_id": name, "seed": seed})
        print(name, flush=True)
    dataset.write_description(args.out, classes, persons)


def _source(args: argparse.Namespace, seed: int) -> PreparedSource:
    if args.person == "parametric":
        return prepare(canonical_labels(seed))
    anatomy = args.shared / "anatomy"
    path = anatomy / f"{args.person}_labels_2mm.nii.gz"
    return prepare(LabelMap.from_file(path, anatomy / "labels.json"))


def read(cases: Path, run: Path) -> dict[tuple[str, str], Row]:
    """``(case, structure) → {metric: value}`` of whole structures of which enough is in view."""
    table: dict[tuple[str, str], Row] = defaultdict(dict)
    with (run / "results.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["side"] in ("both", "midline", "") and row["value"]:
                table[row["case_id"], row["structure"]][row["metric"]] = float(row["value"])
    classes = label_set("msk22")
    there = {}
    for case in {case for case, _ in table}:
        image = nib.load(dataset.label_path(cases, case))
        cm3 = np.prod(image.header.get_zooms()[:3]) / 1000
        there[case] = np.bincount(np.asarray(image.dataobj).ravel(), minlength=256) * cm3
    return {
        (case, name): row
        for (case, name), row in table.items()
        if "dice" in row and there[case][classes[name].index] >= LEAST_CM3
    }


def summarise(args: argparse.Namespace) -> None:
    """Print the table."""
    rows = {key: row for key, row in read(args.cases, args.run).items() if "uncertainty" in row}
    print("| structure | cases | Dice | ASSD, mm | uncertainty | r |\n|---|---|---|---|---|---|")
    for name in dict.fromkeys(name for _, name in rows):
        _line(name, [row for (_, found), row in rows.items() if found == name])
    _line("**all, pooled**", list(rows.values()))
    by_case = defaultdict(list)
    for (case, _), row in rows.items():
        by_case[case].append(row)
    keys = ("dice", "assd", "uncertainty")
    means = [
        {key: float(np.mean([row[key] for row in group if key in row])) for key in keys}
        for group in by_case.values()
    ]
    _line("**mean over structures, per case**", means)


def _line(name: str, rows: list[Row]) -> None:
    dice, blur = (np.array([row[key] for row in rows]) for key in ("dice", "uncertainty"))
    assd = np.array([row.get("assd", np.nan) for row in rows])
    r = "–"
    if len(rows) >= 4 and np.ptp(dice) > 0 and np.ptp(blur) > 0:
        r = f"{stats.pearsonr(dice, blur).statistic:.2f}"
    print(
        f"| {name} | {len(rows)} | {dice.mean():.3f} | {np.nanmean(assd):.2f} | "
        f"{blur.mean():.2e} | {r} |"
    )


def gallery(args: argparse.Namespace) -> None:
    """Draw the lowest Dice: the slice with most wrong voxels and its uncertainty."""
    ranked = sorted((row["dice"], *key) for key, row in read(args.cases, args.run).items())
    chosen: list[tuple[float, str, str]] = []
    for one in ranked:
        again = sum(other[2] == one[2] for other in chosen)
        if again < args.per_structure and len(chosen) < args.count:
            chosen.append(one)
            print(f"{one[0]:.3f}  {one[2]:32s} {one[1]}")
    mpl.use("Agg")
    size = (3.2 * len(chosen), 6.2)
    figure, axes = plt.subplots(2, len(chosen), figsize=size, squeeze=False)
    for column, found in enumerate(chosen):
        _draw(args.cases, args.run, found, axes[:, column])
    figure.tight_layout()
    figure.savefig(args.out, dpi=90)


def _draw(cases: Path, run: Path, found: tuple[float, str, str], axes: NDArray[np.object_]) -> None:
    dice, case, structure = found
    value = label_set("msk22")[structure].index
    wanted = np.asarray(nib.load(dataset.label_path(cases, case)).dataobj) == value
    got = np.asarray(nib.load(run / case / f"{case}_dseg.nii.gz").dataobj) == value
    k = int((wanted != got).sum((0, 1)).argmax())
    box = _box(wanted[:, :, k] | got[:, :, k])
    for at, path, window, colours in (
        (axes[0], dataset.image_path(cases, case), (-150, 350), "gray"),
        (axes[1], run / case / f"{case}_uncertainty.nii.gz", (0, None), "magma"),
    ):
        plane = np.asarray(nib.load(path).dataobj[..., k])[box]
        at.imshow(plane.T, cmap=colours, vmin=window[0], vmax=window[1], origin="lower")
        for mask, style in ((wanted, "dashed"), (got, "solid")):
            part = mask[:, :, k][box]
            if part.any():
                at.contour(part.T, [0.5], colors="#56b4e9", linewidths=1.2, linestyles=style)
        at.axis("off")
    axes[0].set_title(f"{structure}\n{case} slice {k}, Dice {dice:.2f}", fontsize=7)


def _box(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    spans = []
    for axis in (0, 1):
        busy = np.flatnonzero(mask.any(axis=1 - axis))
        spans.append(slice(max(0, busy[0] - MARGIN), busy[-1] + MARGIN))
    return spans[0], spans[1]


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    making = commands.add_parser("make")
    making.add_argument("person", choices=("parametric", "bp3d_male", "vh_female", "vh_male"))
    making.add_argument("--shared", type=Path, default=Path("../shared"))
    making.add_argument("--preset", choices=tuple(presets()), default="wide")
    making.add_argument("--count", type=int, default=8)
    making.add_argument("--seed", type=int, default=0)
    making.add_argument("--spacing", type=float, nargs=3, default=(1.5, 1.5, 3.0))
    making.add_argument("--shape", type=int, nargs=3, default=(256, 208, 96))
    making.add_argument("--out", type=Path, required=True)
    making.set_defaults(call=make)
    for name, call in (("summarise", summarise), ("gallery", gallery)):
        command = commands.add_parser(name)
        command.add_argument("cases", type=Path)
        command.add_argument("run", type=Path)
        command.set_defaults(call=call)
        if call is gallery:
            command.add_argument("--out", type=Path, required=True)
            command.add_argument("--count", type=int, default=8)
            command.add_argument("--per-structure", type=int, default=2)
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()

"""Which statement of doubt finds the structures that went wrong: source × measure × aggregation.

    python benchmarks/uncertainty.py make --out runs/doubt       (cases; call it again to go on)
    python benchmarks/uncertainty.py run --out runs/doubt        (each source on each group)
    python benchmarks/uncertainty.py table --out runs/doubt      (the leaderboard)
    python benchmarks/uncertainty.py draws --out runs/doubt      (how many draws it takes)

``--sources …,ensemble,ensemble+mcdropout --members a,b,c`` adds an ensemble of independent trainings
(``mskt train --members``); ``--segmenter unet25d --sources mcdropout,planes,planes+mcdropout`` asks another
segmenter on the same scans. ``table --csv FILE`` writes the whole leaderboard.

The weights have never seen the Visible Human female. ``known``: new synthetic scans of the people
they were trained on, half for calibration, half for the test. All other groups are synthetic scans of
her: as varied as in training, and with one thing beyond it (``scripts/held_out.py``: presets). Dice
thresholds (median − 2 or 3 × 1.4826 MAD per structure) come from the calibration half. Intervals:
bootstrap over patients, 1000 times; ``minus``: the difference to the papers' method (variance of ten
dropout draws, mean over the structure) on the same resampled patients.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from judging import LEAST_SCANS, Group, Item, Ranked, draws_of, figures, ranked, span
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
HELD_OUT = ROOT / "scripts" / "held_out.py"
WEIGHTS = {
    "unet_bayes": "unet_bayes-compact-vhf",
    "unet25d": "unet25d-compact",
    "unetr": "unetr-compact",
}
"""Of each segmenter: those that have not seen her."""
GEOMETRY = ("--spacing", "2", "2", "4", "--shape", "192", "156", "60")
PEOPLE = ("vh_male", "bp3d_male", "parametric")
SHIFTS = ("wide", "metal", "noise", "thick", "atrophy", "mass", "standing", "truncated")
PAPERS = ("mcdropout", "predictive_variance_mean_mean")
SHIPPED = ("mcdropout", "combined")
"""What the calibrations in the package are of."""
SOURCES = ("deterministic", "mcdropout", "tta", "tta+mcdropout")
LEAST_CM3 = 6.0
"""Of the reference: slivers at the edge of a scan say little by their Dice."""


def groups(args: argparse.Namespace) -> Iterator[Group]:
    """``--size`` scans a shift; calibration and known test have 4/3 and 2/3 of that a person."""
    size, seed = args.size, args.seed
    for person in PEOPLE:
        yield Group(f"calibration-{person}", person, "wide", size * 4 // 3, 0, calibrates=True)
        yield Group(f"known-{person}", person, "wide", size * 2 // 3, 500 + seed)
    for preset in SHIFTS:
        yield Group(preset, "vh_female", preset, size, seed, shifted=True)


def make(args: argparse.Namespace) -> None:
    """Write the scans that are not there yet."""
    for group in groups(args):
        folder = args.out / "cases" / group.name
        if (folder / "dataset.json").exists():
            continue
        call(
            HELD_OUT, "make", group.person, "--preset", group.preset, "--count", group.count,
            "--seed", group.seed, *GEOMETRY, "--shared", args.shared, "--out", folder,
        )  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Segment every scan with every source."""
    for source in args.sources.split(","):
        weights = args.members if source.startswith("ensemble") else WEIGHTS[args.segmenter]
        for group in groups(args):
            call(
                "-m", "mskt", "run", args.out / "cases" / group.name,
                "--segmenter", args.segmenter, "--weights", weights,
                "--uncertainty", source, "--measures", "all",
                *(("--samples", args.count) if args.count else ()),
                "--out", results(args, source, group), "--resume", "-q",
            )  # fmt: skip


def results(args: argparse.Namespace, source: str, group: Group) -> Path:
    """Where a run of the segmenter lies."""
    folder: Path = args.out / "results" / args.segmenter / source / group.name
    return folder


def draws(args: argparse.Namespace) -> None:
    """Run the known test scans with other numbers of draws, and compare with ten."""
    known = [g for g in groups(args) if g.name.startswith("known")][: args.people]
    print(
        "| T | draws | Dice | doubt | r | doubt against T = 10 | Dice against T = 10 | network, s |"
    )
    print("|---|---|---|---|---|---|---|---|")
    reference: dict[tuple[str, ...], tuple[float, float]] = {}
    for number in ("10", *args.samples.split(",")):
        rows: dict[tuple[str, ...], tuple[float, float]] = {}
        seconds, drawn = [], []
        for group in known:
            out = args.out / "draws" / number / group.name
            call(
                "-m", "mskt", "run", args.out / "cases" / group.name,
                "--segmenter", args.segmenter, "--weights", WEIGHTS[args.segmenter],
                "--samples", number, "--out", out, "--resume", "-q",
            )  # fmt: skip
            rows |= dice_and_doubt(out / "results.csv")
            for file in out.glob("*/run.json"):
                facts = json.loads(file.read_text())
                seconds.append(facts["seconds"]["segment"])
                drawn.append(facts["draws_mean"])
        reference = reference or rows
        both = [key for key in rows if key in reference]
        dice, doubt = np.array([rows[key] for key in both]).T
        its_dice, its_doubt = np.array([reference[key] for key in both]).T
        apart = np.abs(doubt / its_doubt - 1)
        print(
            f"| {number} | {np.mean(drawn):.1f} | {dice.mean():.4f} | {doubt.mean():.2e} | "
            f"{np.corrcoef(dice, doubt)[0, 1]:.3f} | {np.median(apart):.1%} (90 %: "
            f"{np.quantile(apart, 0.9):.1%}) | {np.abs(dice - its_dice).max():.4f} at most | "
            f"{np.mean(seconds):.1f} |",
            flush=True,
        )


def dice_and_doubt(table: Path) -> dict[tuple[str, ...], tuple[float, float]]:
    """Dice and PSV of each case, structure and side; the variance with n − 1 in place of n."""
    found: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
    facts = json.loads(next(table.parent.glob("*/run.json")).read_text())
    count = facts["draws_mean"]
    with table.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["value"] and (row["side"] != "both" or row["structure"] == "sacrum"):
                key = (row["case_id"], row["structure"], row["side"])
                found[key][row["metric"]] = float(row["value"])
    return {
        key: (row["dice"], row["uncertainty"] * count / (count - 1))
        for key, row in found.items()
        if "dice" in row and "uncertainty" in row and enough(row)
    }


def call(*arguments: object) -> None:
    """Run Python with arguments."""
    subprocess.run([sys.executable, *map(str, arguments)], check=True)


def read(args: argparse.Namespace, source: str) -> list[Item]:
    """What a source says of every structure that the reference has enough of, and its Dice."""
    items = []
    for group in groups(args):
        table = results(args, source, group) / "results.csv"
        if not table.exists():
            continue
        rows: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
        with table.open(newline="") as file:
            for row in csv.DictReader(file):
                if row["value"]:
                    key = (row["case_id"], row["structure"], row["side"])
                    rows[key][row["metric"]] = float(row["value"])
        items += [
            Item(
                f"{group.name}/{group.seed}/{scan}",
                f"{group.person} {group.seed + int(scan.rsplit('-', 1)[1])}",
                structure,
                group,
                values["dice"],
                doubts(values),
            )
            for (scan, structure, side), values in rows.items()
            if "dice" in values and (side != "both" or structure == "sacrum") and enough(values)
        ]
    return items


def doubts(values: Mapping[str, float]) -> dict[str, float]:
    """The further rows of doubt, without their prefix."""
    prefix = "uncertainty:"
    return {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}


def enough(values: Mapping[str, float]) -> bool:
    """The reference has at least 6 cm³; its volume follows from that of the prediction."""
    if "ravd" not in values or "volume" not in values:
        return "uncertainty" in values
    return values["volume"] / (1 + values["ravd"] / 100) >= LEAST_CM3


def table(args: argparse.Namespace) -> None:
    """Print the leaderboard, the best against the papers' by shift, and coverage."""
    found = {source: read(args, source) for source in args.sources.split(",")}
    for folder, seed in args.more:
        other = argparse.Namespace(**{**vars(args), "out": Path(folder), "seed": int(seed)})
        for source, items in found.items():
            items += [item for item in read(other, source) if not item.group.calibrates]
    ways = [
        ranked(source, items, name, args.least_scans)
        for source, items in found.items()
        if items
        for name in dict.fromkeys(
            name for item in items if item.group.calibrates for name in item.doubts
        )
    ]
    papers = next(one for one in ways if (one.source, one.name) == PAPERS)
    ours = next((one for one in ways if (one.source, one.name) == SHIPPED), papers)
    counts(papers)
    scores = {id(one): figures(one, np.flatnonzero(one.shifted)) for one in ways}
    order = sorted(ways, key=lambda one: -scores[id(one)][0])
    chosen = min(ways, key=lambda one: one.known_aurc)
    shown = list({id(one): one for one in (*order[: args.top], chosen, ours, papers)}.values())
    base = draws_of(papers)
    print(
        "\n| source | doubt | AUROC failed | 95 % | minus papers | 95 % | AUROC inaccurate | "
        "AUROC Dice < 0.7 | r | AURC | AURC, calibration |\n|---|---|---|---|---|---|---|---|---|---|---|"
    )
    for one in shown:
        mine = draws_of(one)
        difference = mine - base
        failed, poor, bare, r, risk = scores[id(one)]
        print(
            f"| {one.source} | {one.name} | {failed:.3f} | {span(mine)} | "
            f"{failed - scores[id(papers)][0]:+.3f} | {span(difference, '+')} | {poor:.3f} | "
            f"{bare:.3f} | {r:.2f} | {risk:.4f} | {one.known_aurc:.4f} |"
        )
    print(f"\nChosen on the calibration half (least AURC): {chosen.source}, {chosen.name}")
    if args.csv:
        leaderboard(args.csv, order, base)
    for one in {id(one): one for one in (order[0], ours, papers)}.values():
        by_group(one)


def leaderboard(path: Path, order: Sequence[Ranked], base: NDArray[np.float64]) -> None:
    """Every way of stating doubt, the best first, with its intervals."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            (
                *("source", "doubt", "failed", "inaccurate", "below_0.7", "r", "aurc"),
                *("failed_lower", "failed_upper", "minus_papers", "minus_lower", "minus_upper"),
                *("known_coverage", "shift_coverage", "known_aurc"),
            )
        )
        for one in order:
            rows = np.flatnonzero(one.shifted)
            mine = draws_of(one)
            apart = mine - base
            held = one.dice >= one.lower
            held_known, held_shift = (
                held[some & ~np.isnan(one.lower)].mean() for some in (~one.shifted, one.shifted)
            )
            values = (
                *figures(one, rows),
                *np.nanquantile(mine, (0.025, 0.975)),
                np.nanmean(apart),
                *np.nanquantile(apart, (0.025, 0.975)),
                held_known,
                held_shift,
                one.known_aurc,
            )
            writer.writerow((one.source, one.name, *(f"{value:.4f}" for value in values)))


def counts(one: Ranked) -> None:
    """How many scans and structures there are, and how many went wrong."""
    print(
        "| group | scans | structures | mean Dice | inaccurate | failed |\n|---|---|---|---|---|---|"
    )
    for name, rows in groups_of(one):
        print(
            f"| {name} | {len(set(one.scans[rows]))} | {len(rows)} | {one.dice[rows].mean():.3f} | "
            f"{one.inaccurate[rows].sum()} | {one.failed[rows].sum()} |"
        )


def by_group(one: Ranked) -> None:
    """Each shift alone: AUROC, error of predicted Dice, coverage of the bound."""
    print(f"\n{one.source}, {one.name}:\n")
    print(
        "| group | AUROC failed | AUROC inaccurate | AUROC Dice < 0.7 | r | error of predicted Dice | "
        "coverage (nominal 0.90) |\n|---|---|---|---|---|---|---|"
    )
    for name, rows in groups_of(one):
        failed, poor, low, r, _ = figures(one, rows)
        error = np.abs(np.clip(one.predicted[rows], 0, 1) - one.dice[rows]).mean()
        covered = (one.dice[rows] >= one.lower[rows])[~np.isnan(one.lower[rows])]
        cells = [
            "–" if np.isnan(value) else f"{value:.{digits}f}"
            for value, digits in (
                (failed, 3),
                (poor, 3),
                (low, 3),
                (r, 2),
                (error, 3),
                (covered.mean(), 3),
            )
        ]
        print(f"| {name} | {' | '.join(cells)} |")


def groups_of(one: Ranked) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """``known`` (all people of the training), every shift, and the shifts together."""
    yield "known", np.flatnonzero(~one.shifted)
    for preset in SHIFTS:
        rows = np.flatnonzero(one.group == preset)
        if len(rows):
            yield preset, rows
    yield "all shifts", np.flatnonzero(one.shifted)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("call", choices=("make", "run", "table", "draws"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--size", type=int, default=6, help="scans of each shift")
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of the test scans: others than those that were looked at",
    )
    parser.add_argument("--segmenter", choices=tuple(WEIGHTS), default="unet_bayes")
    parser.add_argument("--sources", default=",".join(SOURCES))
    parser.add_argument(
        "--members",
        default=WEIGHTS["unet_bayes"],
        help="weights of the ensembles, with commas; none has seen her",
    )
    parser.add_argument("--count", type=int, help="of run: draws a voxel, if not ten")
    parser.add_argument("--top", type=int, default=15)
    parser.add_argument(
        "--more",
        nargs=2,
        action="append",
        default=[],
        metavar=("OUT", "SEED"),
        help="of table: test scans of a further folder too; may be given again",
    )
    parser.add_argument(
        "--least-scans",
        type=int,
        default=LEAST_SCANS,
        help="of table: calibration scans that must show a structure",
    )
    parser.add_argument("--csv", type=Path, help="for the whole leaderboard")
    parser.add_argument("--samples", default="2,3,5,20,auto", help="of draws")
    parser.add_argument("--people", type=int, default=3, help="of draws: how many of the three")
    args = parser.parse_args()
    {"make": make, "run": run, "table": table, "draws": draws}[args.call](args)


if __name__ == "__main__":
    main()

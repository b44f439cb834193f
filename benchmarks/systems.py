"""The systems of the papers on one footing: the same few cases, the same seconds of training.

    python benchmarks/systems.py --out runs/systems                 (call it again to go on)
    python benchmarks/systems.py --out runs/systems --table

Every network learns from the same phantoms (seeds that nothing else uses) in its compact size, with
the recipe ``mskt`` (2-D) or ``mskt3d`` (3-D), for the same CPU seconds on one thread: two calls
with different ``--systems`` may run beside each other on two cores, and other work does not matter
much. ``multi_atlas`` takes training cases as atlases. All are tested on the same other phantoms:
the mean of four draws where a network has dropout, else one pass. Two tables: the ten muscles of
the thigh within 30 to 330 mm above the lowest point of the femur (what Haque 2019 compares), and
all structures of msk22 (Hiasa 2020, Kim 2024) for the systems that see the whole scan. Confidence
intervals: bootstrap over test cases, 2000 times, percentile.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from mskt.core.anatomy import label_set

TRAIN_SEED, TEST_SEED = 8_001, 8_501
SPACING = "2,2,3"
PARTS: Mapping[str, tuple[str, ...]] = {
    "unet_bayes": ("muscles",),
    "unet2d": ("muscles",),
    "fcn8s": ("muscles",),
    "unet25d": ("axial", "coronal", "sagittal"),
    "unet3d": ("muscles",),
    "unetr": ("muscles",),
    "multi_atlas": (),
}
RECIPES = {"unet3d": "mskt3d", "unetr": "mskt3d"}
WHOLE = [name for name in PARTS if name != "unet25d"]
WITH_DROPOUT = ("unet_bayes", "fcn8s", "unet25d", "unet3d", "unetr")
DRAWS = 4
TRIALS = (10, 40)
"""Steps of two short trainings: what the longer takes more is the cost of its steps."""


def mskt(*arguments: object) -> float:
    """Run mskt; returns the CPU seconds that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "mskt", *map(str, arguments)], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def train(name: str, args: argparse.Namespace) -> None:
    """Find how long a step takes, then train for as many as the seconds allow."""
    folder: Path = args.out / name
    parts = PARTS[name]
    done = folder / "steps.json"
    steps = json.loads(done.read_text()) if done.exists() else {}
    for part in parts:
        common = [
            "train", "--segmenter", name, "--part", part, "--recipe", RECIPES.get(name, args.recipe),
            "--data", f"phantom?n={args.train}&seed={TRAIN_SEED}", "--label-set", "msk22", "-q",
            "--threads", 1, "--workers", 0, "--cache", args.out / "cache",
        ]  # fmt: skip
        if name == "unet25d":
            common += ["--recipe", str(args.plane_recipe)]
        if part not in steps:
            trial = [*common, "--out", folder / f"trial-{part}", "--overwrite"]
            mskt(*trial, "--max-steps", 1)  # the cases are prepared once
            few, more = (mskt(*trial, "--max-steps", count) for count in TRIALS)
            pace = (more - few) / (TRIALS[1] - TRIALS[0])
            steps[part] = max(1, int(args.seconds / len(parts) / pace))
            done.write_text(json.dumps(steps))
        mskt(*common, "--max-steps", steps[part], "--out", folder / "run", "--resume")


def predict(name: str, args: argparse.Namespace) -> None:
    """Labels of the test cases."""
    out = args.out / name / "result"
    chosen: list[object] = ["--weights", args.out / name / "run" / "weights.safetensors"]
    if name == "multi_atlas":
        chosen = ["--option", f"atlases=phantom?n={args.atlases}&seed={TRAIN_SEED}"]
    # With dropout the mean of some draws: one pass without it meets batch normalisation unprepared, since
    # the variances that were learned are those under dropout. After a short training that costs much.
    drawn = ["mcdropout", "--samples", DRAWS] if name in WITH_DROPOUT else ["deterministic"]
    taken = mskt(
        "run", args.out / "test", "--segmenter", name, *chosen, "--uncertainty", *drawn,
        "--out", out, "--resume", "--threads", 1, "-q",
    )  # fmt: skip
    seconds = args.out / name / "seconds.txt"
    if not seconds.exists():
        seconds.write_text(f"{taken / args.test:.1f}")


def dice(
    prediction: NDArray[np.uint8], truth: NDArray[np.uint8], indices: Sequence[int]
) -> list[float]:
    found = []
    for index in indices:
        a, b = prediction == index, truth == index
        if b.sum():
            found.append(float(2 * (a & b).sum() / (a.sum() + b.sum())))
    return found


def case_scores(mask: Path, reference: Path) -> tuple[float, float]:
    """Mean Dice of the thigh's muscles within the thigh, and of everything."""
    labels = label_set("msk22")
    truth_image = nib.load(reference)
    truth = np.asarray(truth_image.dataobj).astype(np.uint8)
    prediction = np.asarray(nib.load(mask).dataobj).astype(np.uint8)
    heights = truth_image.affine[2, 2] * np.arange(truth.shape[2]) + truth_image.affine[2, 3]
    femur = (truth == labels["femur"].index).any(axis=(0, 1))
    above = heights - heights[femur].min()
    thigh = (above >= 30) & (above <= 330)
    names = set(label_set("thigh10").names)
    muscles = [one.index for one in labels.structures if one.name in names]
    everything = [one.index for one in labels.structures]
    return (
        float(np.mean(dice(prediction[:, :, thigh], truth[:, :, thigh], muscles))),
        float(np.mean(dice(prediction, truth, everything))),
    )


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """95 % of the means of resampled cases."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(2000, len(values)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def table(title: str, scores: Mapping[str, NDArray[np.float64]], against: str) -> None:
    print(f"\n{title}\n")
    print(f"| system | Dice | 95 % | minus {against} | 95 % |\n|---|---|---|---|---|")
    for name in sorted(scores, key=lambda n: -scores[n].mean()):
        low, high = interval(scores[name])
        row = f"| {name} | {scores[name].mean():.3f} | {low:.3f} to {high:.3f} |"
        if name == against or against not in scores:
            print(f"{row} | |")
            continue
        difference = scores[name] - scores[against]
        low, high = interval(difference)
        print(f"{row} {difference.mean():+.3f} | {low:+.3f} to {high:+.3f} |")


def tables(args: argparse.Namespace) -> None:
    thigh, whole = {}, {}
    cases = sorted((args.out / "test" / "labelsTr").glob("*.nii.gz"))
    for name in PARTS:
        masks = [args.out / name / "result" / _stem(c) / f"{_stem(c)}_dseg.nii.gz" for c in cases]
        if not all(mask.exists() for mask in masks):
            continue
        scores = [case_scores(mask, case) for mask, case in zip(masks, cases, strict=True)]
        thigh[name] = np.array([s[0] for s in scores])
        if name in WHOLE:
            whole[name] = np.array([s[1] for s in scores])
    table("Ten muscles of the thigh, 30 to 330 mm above the knee", thigh, "unet25d")
    table("All structures of msk22", whole, "unet_bayes")
    print("\n| system | steps | CPU seconds a test case |\n|---|---|---|")
    for name in thigh:
        steps, seconds = args.out / name / "steps.json", args.out / name / "seconds.txt"
        made = json.loads(steps.read_text()) if steps.exists() else {}
        print(f"| {name} | {' + '.join(map(str, made.values())) or '–'} | {seconds.read_text()} |")


def _stem(path: Path) -> str:
    return path.name.removesuffix(".nii.gz")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--systems", default=",".join(PARTS))
    parser.add_argument(
        "--seconds", type=float, default=300, help="CPU seconds of training, each system"
    )
    parser.add_argument("--train", type=int, default=8, help="cases")
    parser.add_argument("--test", type=int, default=6, help="cases")
    parser.add_argument("--atlases", type=int, default=4)
    parser.add_argument("--recipe", default="mskt", help="of the 2-D networks")
    parser.add_argument(
        "--plane-recipe", type=Path, default=Path(__file__).parents[1] / "scripts" / "planes.toml"
    )
    parser.add_argument("--table", action="store_true", help="only print what is there")
    args = parser.parse_args()
    if not args.table:
        if not (args.out / "test").exists():
            mskt(
                "phantom", "--count", args.test, "--seed", TEST_SEED, "--spacing", SPACING,
                "--out", args.out / "test", "-q",
            )  # fmt: skip
        for name in args.systems.split(","):
            (args.out / name).mkdir(parents=True, exist_ok=True)
            if PARTS[name]:
                train(name, args)
            predict(name, args)
    tables(args)


if __name__ == "__main__":
    main()

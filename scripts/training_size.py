"""Does a network get better with more training cases? Soufi 2024, Table 7, on phantoms.

    python scripts/training_size.py --out runs/size

The same network, recipe and number of steps for 1, 2, 5, … phantoms; scored on others. Resumable: what
is finished is not done again.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
from collections import defaultdict
from pathlib import Path

import numpy as np

RECIPE = """base = "mskt"
summary = "training-size experiment: the same steps for any number of cases"

[schedule]
steps = {steps}
warmup = 30

[sampling]
crop = []
steps_per_case = 2

[weights]
ema = 0.99

[checks]
validate_every = 1000000
"""


def call(*words: str) -> None:
    """Run a command of mskt; its output goes where ours goes."""
    subprocess.run(["mskt", *words], check=True)


def main() -> None:
    """Train, run, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", type=int, nargs="+", default=[1, 2, 5, 10, 20])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--test", type=int, default=6, help="phantoms to score on")
    parser.add_argument("--spacing", default="4,4,6")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    recipe = args.out / "recipe.toml"
    recipe.write_text(RECIPE.format(steps=args.steps))
    test = args.out / "test"
    if not (test / "dataset.json").exists():
        call("phantom", "-n", str(args.test), "--seed", "9500", "--spacing", args.spacing,
             "--out", str(test), "-q")  # fmt: skip
    rows = [(n, one_size(args, n, recipe, test)) for n in args.cases]
    print("| training cases | mean Dice | SD over cases | lowest structure |\n|---|---|---|---|")
    for n, (mean, spread, worst) in rows:
        print(f"| {n} | {mean:.3f} | {spread:.3f} | {worst} |")


def one_size(
    args: argparse.Namespace, n: int, recipe: Path, test: Path
) -> tuple[float, float, str]:
    """Train on ``n`` phantoms and score: mean over cases, its SD, and the worst structure."""
    folder, results = args.out / f"train-{n}", args.out / f"run-{n}"
    weights = folder / "weights.safetensors"
    if not weights.exists():
        again = ["--resume"] if folder.exists() else []
        data = f"phantom?n={n}&seed=3000"
        call("train", "--data", data, "--recipe", str(recipe), "--spacing", args.spacing,
             "--out", str(folder), "-q", *again)  # fmt: skip
    if not (results / "results.csv").exists():
        call("run", str(test), "--weights", str(weights), "--samples", "5",
             "--out", str(results), "-q", "--overwrite")  # fmt: skip
    by_case, by_structure = defaultdict(list), defaultdict(list)
    with (results / "results.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["metric"] == "dice" and row["side"] == "both" and row["value"]:
                by_case[row["case_id"]].append(float(row["value"]))
                by_structure[row["structure"]].append(float(row["value"]))
    means = [float(np.mean(values)) for values in by_case.values()]
    worst = min(by_structure, key=lambda name: float(np.mean(by_structure[name])))
    return (
        float(np.mean(means)),
        float(np.std(means, ddof=1)),
        f"{worst} {np.mean(by_structure[worst]):.3f}",
    )


if __name__ == "__main__":
    main()

"""Is the network ever waiting for its data? Steps with cases made on the fly against cached batches.

    python benchmarks/training_throughput.py --threads 2
    python benchmarks/training_throughput.py --device cuda --variant 6layers --threads 8 --workers 8

Both run the whole training step (forward, backward, optimiser, averaged weights) on the same batches;
blocks of steps alternate, so that a busy machine slows both. While cached batches are used, four cases at
most are made ahead: a block must need many more than these. The ratio is printed last: 1 is ideal.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from mskt.core.anatomy import label_set
from mskt.core.device import resolve_device, resolve_precision
from mskt.plugins.unet_bayes.training import training
from mskt.training.cases import CaseWindow
from mskt.training.datasets import open_data
from mskt.training.loop import Conditions, Training
from mskt.training.recipes import load
from mskt.training.task import Batch


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", action="append", help="SPEC of mskt train; synthesis by default")
    parser.add_argument("--recipe", default="mskt")
    parser.add_argument("--variant", default="compact")
    parser.add_argument("--steps", type=int, default=480, help="of each kind")
    parser.add_argument("--block", type=int, default=120, help="steps between changes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    device = resolve_device(args.device)
    recipe = load(args.recipe).with_changes({"checks": {"save_every": 10**9}})
    task = training(label_set("msk22"), {"variant": args.variant})[-1]
    with tempfile.TemporaryDirectory() as folder:
        data = open_data(
            args.data or ["synthesis"],
            label_set=task.label_set,
            spacing_mm=task.spacing_mm,
            shape=task.shape,
            seed=0,
            cache=Path(folder) / "cache",
        )
        window = CaseWindow(data.stream(None), recipe.sampling.window, args.workers, task.adapted)
        print("filling the window ...", flush=True)
        window.at(0)
        kept: dict[int, Batch] = {}
        blocks = max(1, args.steps // args.block)
        paces: dict[str, list[float]] = {"on the fly": [], "cached": []}

        def made(step: int) -> Batch:
            cases = window.at(step // recipe.sampling.steps_per_case)
            kept[step] = task.batch(step, cases, recipe, seed=0)
            return kept[step]

        conditions = Conditions(device, resolve_precision(args.precision, device))
        for block in range(blocks + 1):  # the first warms up
            first = block * args.block
            for kind, give in (("on the fly", made), ("cached", kept.__getitem__)):
                pace = _block(task, recipe, give, first, args.block, conditions, folder)
                if block:
                    paces[kind].append(pace)
                    print(f"block {block} {kind}: {pace:.3f} s/step", flush=True)
            kept.clear()
        window.close()
    for kind, values in paces.items():
        print(f"{kind}: median {statistics.median(values):.3f} s/step of {len(values)} blocks")
    ratio = statistics.median(paces["on the fly"]) / statistics.median(paces["cached"])
    print(f"ratio: {ratio:.3f}")


def _block(  # type: ignore[no-untyped-def]
    task, recipe, give, first: int, steps: int, conditions: Conditions, folder: str
) -> float:
    """Seconds a step of a short training of its own, without what begins and ends it."""
    place = Path(tempfile.mkdtemp(dir=folder))
    loop = Training(task.network(), recipe, steps, place, task.class_names, conditions=conditions)
    times = []

    def noted(step: int) -> Batch:
        batch = give(first + step)
        times.append(time.perf_counter())
        return batch

    loop.run(noted)
    # A batch is made while the step before it runs: from the second on, one a step.
    return (times[-1] - times[1]) / (steps - 2)


if __name__ == "__main__":
    main()

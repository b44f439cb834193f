"""Train the network of the region check (mskt.core.levelnet) on synthetic whole-body scans.

    python scripts/train_region.py --shared ../shared --out runs/region --leave-out vh_female
    python scripts/train_region.py --out runs/region --leave-out vh_female --export

No real image is used. Resumable: cases already made and steps already taken are not repeated.
``--export`` writes weights and model card into src/mskt/weights.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from mskt.core import weights
from mskt.core.levelnet import (
    CONTEXT,
    DENSE_HU,
    MADE_FOR,
    SIZE,
    SPACING_MM,
    WEIGHTS,
    LevelNet,
    as_channels,
    slice_levels,
)
from mskt.core.regions import LEVEL_STEP_MM, LEVELS_MM, SliceLevels, standard_mm
from mskt.core.seeding import generator
from mskt.core.volume import Grid
from mskt.synthesis.beyond import Stack, extend
from mskt.synthesis.config import SynthesisConfig
from mskt.synthesis.engine import Fov, synthesise
from mskt.synthesis.labelmap import LabelMap
from mskt.synthesis.parametric import canonical_labels
from mskt.synthesis.source import PreparedSource, prepare
from mskt.training import checkpoint

PEOPLE = ("bp3d_male", "vh_female", "vh_male")
PERSONS = 8
HELD_OUT = 1_000_000
"""Cases from this number on are never trained on; their parametric persons neither."""
HU_STEP = 8.0
FOV_MM = ((-276.0, 276.0), (-200.0, 208.0), (-950.0, 870.0))
Case = dict[str, NDArray[Any]]
ATTRIBUTION = (
    "Trained on images synthesised from label maps of BodyParts3D (© The Database Center for Life "
    "Science, CC BY 4.0), of the Visible Human female and male segmented by Andreassen et al., "
    "Sci Data 10:34 (2023), CC BY 4.0, with bones of the HRA reference model (CC BY 4.0). The person "
    "named under left_out was not used."
)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--out", type=Path, default=Path("runs/region"))
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--held-out", type=int, default=24)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--leave-out", choices=PEOPLE)
    parser.add_argument("--export", action="store_true", help="write weights and card")
    parser.add_argument("--minutes", type=float, default=0.0, help="for the model card")
    return parser.parse_args()


def source(args: argparse.Namespace, number: int) -> PreparedSource:
    """The person of a case: a map or a parametric person; others for the cases held out."""
    rng = generator(0, "region", number)
    maps = [p for p in PEOPLE if p != args.leave_out]
    person = int(rng.integers(len(maps) + PERSONS))
    if number >= HELD_OUT:
        return (
            _map(args.shared, args.leave_out)
            if person < 4 and args.leave_out
            else _person(900 + person % 2, None)
        )
    if person < len(maps):
        return _map(args.shared, maps[person])
    return _person(person, PEOPLE.index(args.leave_out) if args.leave_out else None)


@lru_cache(maxsize=4)
def _map(shared: Path, name: str) -> PreparedSource:
    folder = shared / "anatomy"
    return prepare(LabelMap.from_file(folder / f"{name}_labels_2mm.nii.gz", folder / "labels.json"))


@lru_cache(maxsize=PERSONS)
def _person(person: int, excluded: int | None) -> PreparedSource:
    share = None
    if excluded is not None:
        rng = generator(0, "region person", person)
        share = list(np.insert(rng.dirichlet(np.ones(2)) * 1.2 - 0.1, excluded, 0.0))
    return prepare(canonical_labels(60_000 + person, spacing_mm=3.0, weights=share))


def make_case(args: argparse.Namespace, number: int) -> Case:
    """One person from sole to vertex: image in steps of 8 HU, body, standard height by slice."""
    rng = generator(1, "region", number)
    config = SynthesisConfig.training() if rng.random() < 0.75 else SynthesisConfig.phantom()
    low = [a + rng.uniform(-4, 4) for a, _ in FOV_MM]
    shape = [int((b - a) / d) for (a, b), d in zip(FOV_MM, SPACING_MM, strict=True)]
    case = synthesise(
        source(args, number),
        seed=int(rng.integers(2**62)),
        spacing_mm=SPACING_MM,
        fov=Fov((low[0], low[1], low[2]), (shape[0], shape[1], shape[2])),
        config=config,
    )
    level = np.array([np.nan if v is None else v for v in case.meta["levels"]])
    axes: list[Any] = [
        case.affine[k, 3] + SPACING_MM[k] * np.arange(case.image.shape[k]) for k in range(3)
    ]
    scale = case.meta["scale"]
    heights = standard_mm(level).astype(np.float32)
    stack = Stack(case.image, case.body, axes[0], axes[1], heights)
    whole = extend(stack, int(rng.integers(2**31)), (float(scale[0]), float(scale[1])))
    image = np.clip(np.rint((whole.image + 1000) / HU_STEP), 0, 255).astype(np.uint8)
    return {"image": image, "body": whole.body, "height_mm": stack.height_mm}


def cases(args: argparse.Namespace, first: int, count: int) -> list[Case]:
    """Make what is missing, read the rest."""
    folder = args.out / "cases"
    folder.mkdir(parents=True, exist_ok=True)
    found, begin = [], time.time()
    # persons one after the other: preparing one takes longer than a case
    for number in range(first, first + count):
        path = folder / f"{number:07d}.npz"
        if not path.exists():
            partial = path.with_suffix(".part.npz")
            np.savez_compressed(partial, **make_case(args, number))  # type: ignore[arg-type]
            partial.rename(path)
            print(f"case {number}: {time.time() - begin:.0f} s", flush=True)
        with np.load(path) as file:
            found.append({key: file[key] for key in file.files})
    return found


class Slices:
    """Batches of slices of random people at random levels, as hospitals show them.

    Args:
        stacks: from :func:`cases`.
    """

    def __init__(self, stacks: list[Case]) -> None:
        self._images = [
            torch.from_numpy(case["image"].transpose(2, 0, 1).copy()) for case in stacks
        ]
        self._bodies = [torch.from_numpy(case["body"].transpose(2, 0, 1).copy()) for case in stacks]
        self._heights = [case["height_mm"] for case in stacks]

    def get(self, step: int, size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
        """Batch ``step``: images ``(size, 6, 80, 64)`` and levels."""
        rng = np.random.default_rng(step)
        picks: list[tuple[int, int]] = []
        targets: list[int] = []
        while len(picks) < size:
            case = int(rng.integers(len(self._images)))
            gap = np.abs(self._heights[case] - rng.uniform(LEVELS_MM[0], LEVELS_MM[-1]))
            k = int(np.argmin(np.where(np.isnan(gap), np.inf, gap)))
            if gap[k] < 12 and int(self._bodies[case][k].sum()) > 12:
                picks.append((case, k))
                targets.append(_level(float(self._heights[case][k]), rng))
        planes = torch.stack([self._planes(case, k, rng) for case, k in picks])
        planes = planes.float() * HU_STEP - 1000
        image = _seen(planes, rng)
        return torch.from_numpy(as_channels(image.numpy())), torch.tensor(targets)

    def _planes(self, case: int, k: int, rng: np.random.Generator) -> torch.Tensor:
        """A slice and its neighbours; now and then the body alone, or the end of a volume."""
        last = len(self._images[case]) - 1
        numbers = np.clip((k - CONTEXT, k, k + CONTEXT), 0, last)
        if rng.random() < 0.12:
            numbers[0 if rng.random() < 0.5 else 2] = k
        planes = self._images[case][numbers]
        if rng.random() < 0.5:
            planes = planes * self._bodies[case][numbers]
        return planes


def _seen(planes: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Centred on the tissue, stretched, shifted, mirrored, truncated; scanners' densities and noise.

    Args:
        planes: HU ``(N, 3, x, y)`` at :data:`SPACING_MM`.
        rng: decides.
    """
    n, _, *size = planes.shape
    centre = np.zeros((n, 2))
    for i, plane in enumerate(planes[:, 1].numpy()):
        dense = np.argwhere(plane > DENSE_HU)
        centre[i] = np.median(dense, axis=0) if len(dense) else np.array(size) / 2
    centre += rng.uniform(-4, 4, (n, 2))
    theta = np.zeros((n, 2, 3), np.float32)
    for out, axis in ((0, 1), (1, 0)):  # grid_sample wants (y, x) of an image of (rows, columns)
        stretch = rng.uniform(0.88, 1.12, n)
        mirror = np.where(rng.random(n) < 0.5, -1, 1) if axis == 0 else 1
        theta[:, out, out] = SIZE[axis] / size[axis] * stretch * mirror
        theta[:, out, 2] = 2 * (centre[:, axis] + 0.5) / size[axis] - 1
    grid = functional.affine_grid(torch.from_numpy(theta), [n, 3, *SIZE], align_corners=False)
    image = functional.grid_sample(planes + 1000, grid, align_corners=False) - 1000
    x, y = np.ogrid[: SIZE[0], : SIZE[1]]
    radius = np.where(rng.random(n) < 0.2, rng.uniform(100, 220, n) / SPACING_MM[0], np.inf)
    out_of_view = (x - SIZE[0] / 2) ** 2 + (y - SIZE[1] / 2) ** 2 > radius[:, None, None] ** 2
    image.masked_fill_(torch.from_numpy(out_of_view)[:, None], -1000.0)
    gain = torch.from_numpy(rng.uniform(0.95, 1.05, (n, 1, 1, 1)).astype(np.float32))
    offset = torch.from_numpy(rng.normal(0, 8, (n, 1, 1, 1)).astype(np.float32))
    grain = torch.from_numpy(rng.uniform(0, 30, (n, 1, 1, 1)).astype(np.float32))
    noise = torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32))
    return image * gain + offset + grain * noise


def _level(height_mm: float, rng: np.random.Generator) -> int:
    """The level of a height; at the border of two, either."""
    place = (height_mm - LEVELS_MM[0]) / LEVEL_STEP_MM + rng.uniform(-0.5, 0.5)
    return int(np.clip(np.rint(place), 0, len(LEVELS_MM) - 1))


def train(args: argparse.Namespace, stacks: list[Case]) -> None:
    """AdamW with cosine decay; what is kept is a moving average of the weights."""
    torch.manual_seed(0)
    network, path = LevelNet(), args.out / "checkpoint.pt"
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=1e-3)
    average = {k: v.clone().float() for k, v in network.state_dict().items()}
    step, slices = 0, Slices(stacks)
    if path.exists():
        held = checkpoint.load(path)
        network.load_state_dict(held["network"])
        optimiser.load_state_dict(held["optimiser"])
        average, step = held["average"], held["step"]
    begin, first = time.time(), step
    while step < args.steps:
        torch.manual_seed(step)
        for group in optimiser.param_groups:
            group["lr"] = (
                3e-3
                * min(1, (step + 1) / 100)
                * 0.5
                * (1.02 + math.cos(math.pi * step / args.steps))
            )
        image, target = slices.get(step)
        loss = functional.cross_entropy(network(image), target)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        step += 1
        decay = min(0.99, step / (10 + step))
        for key, value in network.state_dict().items():
            average[key].lerp_(value.float(), 1 - decay)
        if step % 50 == 0:
            pace = (time.time() - begin) / (step - first)
            print(f"step {step} loss {loss.item():.3f} {pace:.2f} s/step", flush=True)
        if step % 100 == 0 or step == args.steps:
            state = {"network": network.state_dict(), "optimiser": optimiser.state_dict()}
            checkpoint.save(path, {**state, "average": average, "step": step})


def errors(network: LevelNet, stacks: list[Case]) -> dict[str, object]:
    """How far the settled levels of held-out people are off, and which regions are mistaken."""
    parts: tuple[list[Any], ...] = ([], [], [])
    for case in stacks:
        image = case["image"].astype(np.float32) * HU_STEP - 1000
        grid = Grid(image.shape, np.diag([*SPACING_MM, 1.0]))
        levels = slice_levels(image, grid, case["body"], network)
        there = levels.body & np.isfinite(case["height_mm"])
        truth = case["height_mm"][there]
        parts[0].append(standard_mm(levels.coordinate[there]) - truth)
        want = SliceLevels(np.eye(len(LEVELS_MM))[np.abs(truth[:, None] - LEVELS_MM).argmin(1)])
        parts[1].append(np.array(levels.regions())[there] == np.array(want.regions()))
        parts[2].append(truth)
    off, right, truth = (np.concatenate(v) for v in parts)
    bands = {"lower leg": (-1000, -440), "thigh": (-440, -60), "pelvis": (-60, 145),
             "abdomen": (145, 390), "chest": (390, 540), "head": (540, 900)}  # fmt: skip
    return {
        "people": len(stacks),
        "region_accuracy": round(float(right.mean()), 3),
        **{
            name: {
                "mean_mm": round(float(np.abs(off[here]).mean()), 1),
                "p95_mm": round(float(np.percentile(np.abs(off[here]), 95)), 1),
            }
            for name, (low, high) in bands.items()
            if (here := (truth >= low) & (truth < high)).any()
        },
    }


def averaged(args: argparse.Namespace) -> tuple[LevelNet, int]:
    """The network of the last checkpoint."""
    state = checkpoint.load(args.out / "checkpoint.pt")
    network = LevelNet()
    network.load_state_dict(state["average"])
    return network.eval(), int(state["step"])


def export(args: argparse.Namespace, figures: dict[str, object]) -> None:
    """Put the averaged network and its card into the package."""
    network, steps = averaged(args)
    tensors = {k: v for k, v in network.state_dict().items() if "num_batches" not in k}
    left_out = args.leave_out or "nobody"
    card = {
        "segmenter": MADE_FOR,
        "label_set": "body levels",
        "data": f"{args.cases} synthetic whole-body CTs; no real image was used for training",
        "attribution": ATTRIBUTION,
        "left_out": left_out,
        "recipe": "scripts/train_region.py",
        "command": f"python scripts/train_region.py --leave-out {left_out} "
        f"--cases {args.cases} --steps {steps}",
        "hours": round(args.minutes / 60, 2),
        "steps": steps,
        "hardware": "1 CPU core",
        "figures": figures,
        "licence": "Apache-2.0",
        "intended_use": "which part of the body an axial CT slice shows, to keep structures out of "
        "slices where they cannot be",
        "limits": "adults lying on their back; see docs/regions.md",
    }
    info = weights.save(Path("src/mskt/weights"), WEIGHTS, tensors, card)
    print(json.dumps({"name": info.name, "bytes": info.path.stat().st_size, "sha256": info.sha256}))


def main() -> None:
    """Make cases, train, report the error on held-out cases; export."""
    args = arguments()
    torch.set_num_threads(1)
    if not args.export:
        stacks = cases(args, 0, args.cases)
        train(args, stacks)
    figures = errors(averaged(args)[0], cases(args, HELD_OUT, args.held_out))
    print(json.dumps(figures, indent=1))
    if args.export:
        export(args, figures)


if __name__ == "__main__":
    main()

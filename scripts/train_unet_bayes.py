"""Train the shipped weights of ``unet_bayes`` on synthetic patients only.

    python scripts/train_unet_bayes.py --shared ../shared --out runs/unet_bayes

No real image is used. Resumable: run it again with the same --out. ``--export`` writes the set of
weights (half precision) and its model card into src/mskt/weights.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from mskt.core import weights
from mskt.core.anatomy import label_set
from mskt.core.intensity import normalised
from mskt.plugins.unet_bayes.cascade import build
from mskt.plugins.unet_bayes.variants import BODY, variant
from mskt.training.cases import CaseWindow
from mskt.training.loop import Schedule, train
from mskt.training.slices import SliceBatches
from mskt.training.synthetic import SyntheticStream

STEPS_PER_CASE = 4
BODY_STEPS_PER_CASE = 12
"""The body network is small: a new case costs more than its steps."""
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
    parser.add_argument("--out", type=Path, default=Path("runs/unet_bayes"))
    parser.add_argument("--variant", default="compact")
    parser.add_argument("--part", choices=("body", "muscles", "both"), default="both")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--body-steps", type=int, default=1200)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--leave-out", choices=("bp3d_male", "vh_female", "vh_male"))
    parser.add_argument(
        "--start-from", metavar="NAME", help="begin with these weights (mskt models)"
    )
    parser.add_argument(
        "--hours", type=float, default=0.0, help="training time, for the model card"
    )
    parser.add_argument("--export", metavar="NAME", help="write weights from the last checkpoint")
    parser.add_argument("--note", default="", help="figures for the model card")
    return parser.parse_args()


def stream(args: argparse.Namespace) -> SyntheticStream:
    """Where the cases come from."""
    people = ("bp3d_male", "vh_female", "vh_male")
    anatomy = args.shared / "anatomy"
    return SyntheticStream(
        maps=tuple(str(anatomy / f"{p}_labels_2mm.nii.gz") for p in people if p != args.leave_out),
        table=str(anatomy / "labels.json"),
        excluded_person=people.index(args.leave_out) if args.leave_out else None,
    )


def body_batch(step: int, window: CaseWindow) -> tuple[torch.Tensor, torch.Tensor]:
    """Whole slices at the body network's spacing with the body as target."""
    rng = np.random.default_rng(step)
    cases = window.at(step // BODY_STEPS_PER_CASE)
    images, targets = [], []
    for _ in range(16):
        case = cases[int(rng.integers(len(cases)))]
        k = int(rng.integers(case.image.shape[2]))
        images.append(normalised(case.image[:, :, k].astype(np.float32), BODY.hu_window))
        targets.append(case.body[:, :, k].astype(np.float32))
    image = functional.avg_pool2d(torch.from_numpy(np.stack(images))[:, None], 2)
    target = functional.avg_pool2d(torch.from_numpy(np.stack(targets))[:, None], 2)[:, 0] > 0.5
    multiple = 2 ** (BODY.levels - 1)
    rows, columns = (-size % multiple for size in target.shape[1:])
    pad = (0, columns, 0, rows)
    return functional.pad(image, pad, value=-1.0), functional.pad(target.long(), pad)


def train_body(args: argparse.Namespace) -> None:
    """The first stage; sees more arms and hands than patients have, since they are what fools it."""
    spec = replace(stream(args), overrides=(("p_arms", 0.9),))
    window = CaseWindow(spec)
    train(
        build(BODY, 2),
        lambda step: body_batch(step, window),
        Schedule(args.body_steps, lr=3e-3, save_every=100),
        args.out / "body",
    )
    window.close()


def train_muscles(args: argparse.Namespace) -> None:
    """The second stage."""
    made, labels = variant(args.variant), label_set("msk22")
    network = build(made, len(labels.names) + 1)
    if args.start_from and not (args.out / "muscles" / "checkpoint.pt").exists():
        tensors = weights.load(weights.find(args.start_from, "unet_bayes"))
        part = {k.removeprefix("muscles."): v for k, v in tensors.items() if k[:8] == "muscles."}
        network.load_state_dict(part)
    window = CaseWindow(stream(args))
    batches = SliceBatches(made.context, (128, 112), made.hu_window)

    def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, target = batches.get(step, window.at(step // STEPS_PER_CASE))
        return torch.from_numpy(image), torch.from_numpy(target)

    train(network, batch, Schedule(args.steps, lr=args.lr), args.out / "muscles")
    window.close()


def main() -> None:
    """Train one part, or both; or export what is there."""
    args = arguments()
    torch.set_num_threads(2)
    begin = time.time()
    if args.export:
        export(args, "msk22")
        return
    if args.part != "muscles":
        train_body(args)
    if args.part != "body":
        train_muscles(args)
    print(f"{(time.time() - begin) / 60:.0f} minutes")


def export(args: argparse.Namespace, labels: str) -> None:
    """Put both averaged networks and the card into the package."""
    tensors, steps = {}, {}
    for part in ("body", "muscles"):
        state = torch.load(args.out / part / "checkpoint.pt", weights_only=True)
        steps[part] = state["step"]
        tensors |= {
            f"{part}.{key}": value
            for key, value in state["average"].items()
            if not key.endswith("num_batches_tracked")
        }
    card = {
        "segmenter": "unet_bayes",
        "variant_name": args.variant,
        "variant": variant(args.variant).as_dict(),
        "label_set": labels,
        "data": "synthetic CT only; no real image was used for training",
        "attribution": ATTRIBUTION,
        "left_out": args.leave_out or "nobody",
        "recipe": "scripts/train_unet_bayes.py",
        "command": f"python scripts/train_unet_bayes.py --leave-out {args.leave_out or 'nobody'} "
        f"--steps {steps['muscles']} --body-steps {steps['body']}",
        "hours": args.hours,
        "steps": steps,
        "hardware": "2 CPU cores with AVX-512 BF16",
        "figures": args.note,
        "licence": "Apache-2.0",
        "intended_use": "research: hip and thigh CT of adults, muscles and bones of msk22",
        "limits": "not a medical device; see docs/models.md for what was measured and what fails",
    }
    info = weights.save(Path("src/mskt/weights"), args.export, tensors, card)
    print(json.dumps({"name": info.name, "bytes": info.path.stat().st_size, "sha256": info.sha256}))


if __name__ == "__main__":
    main()

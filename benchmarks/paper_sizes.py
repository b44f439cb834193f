"""Time and memory of every system in the papers' own sizes, on what the papers apply it to.

    python benchmarks/paper_sizes.py
    python benchmarks/paper_sizes.py --only unet25d,unetr --device cuda
    python benchmarks/paper_sizes.py --slices 100          # of the 500; what a slice costs is told

One thigh on a grid of 128 × 128 × 180 voxels of 2 mm (Haque 2019), both thighs at 1.5 × 1.5 × 2 mm
in windows of 96³ (Kim 2024), a scan of 500 axial slices of 512 × 512 (Hiasa 2020, Soufi 2024). The
networks have the papers' sizes and are untrained: their labels mean nothing, their seconds do. One
pass without randomness each; a run with T draws costs T times the network's seconds. Each
measurement is one ``mskt run`` in a process of its own, body network, region check, way back,
tables, preview and the start of Python included.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from end_to_end import enlarged, run
from measuring import markdown, tell

from mskt.core.anatomy import label_set
from mskt.core.device import resolve_device
from mskt.core.registry import registry
from mskt.synthesis.phantom import Phantom, make_phantom
from mskt.training import recipes
from mskt.training.export import export
from mskt.training.loop import Conditions, Outcome
from mskt.training.provenance import facts
from mskt.training.request import Request, Setting
from mskt.training.run import tasks_of

THIGH, THIGHS, SLICES = "one thigh", "both thighs", "slices"
THIGH_MM = 360.0


@dataclass(frozen=True)
class System:
    """A network of a paper.

    Attributes:
        segmenter, variant: names.
        scan: what the paper applies it to.
        classes: name of the label set nearest to the paper's.
    """

    segmenter: str
    variant: str
    scan: str
    classes: str


SYSTEMS = (
    System("unet25d", "haque", THIGH, "thigh10"),
    System("unetr", "vitb", THIGHS, "thigh30"),
    System("unet3d", "paper", THIGHS, "thigh30"),
    System("unet_bayes", "5layers", SLICES, "msk22"),
    System("unet_bayes", "6layers", SLICES, "msk22"),
    System("unet2d", "paper", SLICES, "msk22"),
    System("fcn8s", "paper", SLICES, "msk22"),
)


def untrained(system: System, folder: Path) -> tuple[Path, float]:
    """A file with the network as it is before training, and its millions of parameters."""
    classes = label_set(system.classes)
    request = Request(
        system.segmenter, recipes.load("mskt"), (), classes, {"variant": system.variant}
    )
    setting = Setting(Conditions(resolve_device("cpu")))
    tasks = tasks_of(request, registry())
    outcomes, parts, parameters = {}, {}, 0
    for task in tasks:
        if task.fallback and task is not tasks[-1]:
            continue  # the body network is the one that comes with mskt
        network = task.network()
        parameters += sum(p.numel() for p in network.parameters())
        outcomes[task.name] = Outcome(network.state_dict(), 0, 0, math.nan, math.nan, False)
        parts[task.name] = {"data": None, "steps": 0, "validation_dice": None}
    info = export(
        request, tasks, outcomes, {**facts(request, None, setting), "parts": parts}, folder, setting
    )
    assert info is not None
    return info.path, parameters / 1e6


def save(path: Path, data: np.ndarray, affine: np.ndarray) -> None:
    """Write HU as NIfTI."""
    file = nib.Nifti1Image(np.rint(data).astype(np.int16), affine)
    file.header["descrip"] = b"synthetic phantom"
    nib.save(file, path)


def one_thigh(path: Path, _: argparse.Namespace) -> str:
    """The right half of a phantom, 360 mm upwards from 40 mm below its knee."""
    made = make_phantom(3, spacing_mm=(2.0, 2.0, 2.0))
    femur = np.flatnonzero((made.labels.data == _femur(made)).any(axis=(0, 1)))
    low = max(0, int(femur[0]) - 20)
    x = made.image.affine[0, 3] + made.image.affine[0, 0] * np.arange(made.image.data.shape[0])
    right = x > 0 if made.image.affine[0, 0] > 0 else x < 0
    data = made.image.data[right][:, :, low : low + int(THIGH_MM / 2)]
    affine = made.image.affine.copy()
    affine[:3, 3] = (made.image.affine @ [np.flatnonzero(right)[0], 0, low, 1])[:3]
    save(path, data, affine)
    return " × ".join(map(str, data.shape)) + " at 2 mm"


def _femur(made: Phantom) -> int:
    labels = made.labels.label_set
    return next(s.index for s in labels.structures if s.name.startswith("femur"))


def both_thighs(path: Path, _: argparse.Namespace) -> str:
    """A phantom from above its hips to below its knees."""
    made = make_phantom(3, spacing_mm=(1.5, 1.5, 2.0))
    save(path, made.image.data, made.image.affine)
    return " × ".join(map(str, made.image.data.shape)) + " at 1.5 × 1.5 × 2 mm"


def axial_slices(path: Path, args: argparse.Namespace) -> str:
    """A phantom enlarged to 512 × 512 × 500, or the middle of it."""
    enlarged(path, (512, 512, 500))
    if args.slices < 500:
        whole = nib.load(path)
        first = (500 - args.slices) // 2
        part = whole.slicer[:, :, first : first + args.slices]
        nib.save(part, path)
    return f"512 × 512 × {args.slices}"


SCANS: Mapping[str, Callable[[Path, argparse.Namespace], str]] = {
    THIGH: one_thigh,
    THIGHS: both_thighs,
    SLICES: axial_slices,
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="segmenters; all by default")
    parser.add_argument("--slices", type=int, default=500)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("options", nargs="*", help="passed on to mskt run (after --)")
    args = parser.parse_args()
    chosen = [s for s in SYSTEMS if not args.only or s.segmenter in args.only.split(",")]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        told: dict[str, str] = {}
        for system in chosen:
            scan = folder / f"{system.scan.replace(' ', '_')}.nii.gz"
            if system.scan not in told:
                told[system.scan] = SCANS[system.scan](scan, args)
            weights, millions = untrained(system, folder / f"{system.segmenter}-{system.variant}")
            call = ["-s", system.segmenter, "--weights", str(weights), "-u", "deterministic"]
            one = run(scan, folder / "out", [*call, "--device", args.device, *args.options])
            tell(f"{system.segmenter} {system.variant}: {one['wall']:.1f} s")
            rows.append(
                [
                    f"`{system.segmenter}`",
                    system.variant,
                    f"{millions:.1f} M",
                    f"{system.scan}, {told[system.scan]}",
                    f"{one['segment']:.1f}",
                    f"{one['total']:.1f}",
                    f"{one['wall']:.1f}",
                    f"{one['peak'] / 1e9:.2f}",
                ]
            )
    head = ["segmenter", "size", "parameters", "scan", "network, s", "case, s", "process, s"]
    print(markdown([*head, "peak, GB"], rows))


if __name__ == "__main__":
    main()

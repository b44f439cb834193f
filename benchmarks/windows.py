"""3-D networks in windows: the network of Kim 2024 per window, and blending windows; mskt and MONAI.

    python benchmarks/windows.py                # both tables
    python benchmarks/windows.py --only network
    python benchmarks/windows.py --only blending --shape 512,512,500

Network: UNETR with ViT-B on 96³ voxels; ours has the weights of MONAI's, and the outputs are compared.
Blending: a convolution of one voxel stands for the network, so that what is measured is cutting and
adding up windows: PatchSweep in the slabs in which the pipeline asks for them, against
``sliding_window_inference`` of MONAI, same windows, overlap and Gaussian weights. Both give labels. One
thread, calls and processes take turns; peak memory is that above the image and the process.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
import torch
from measuring import ALLOCATORS, allocator, child, in_turn, markdown, measured, median, tell
from numpy.typing import NDArray
from torch import Tensor, nn

from mskt.core.device import has_fast_bfloat16
from mskt.core.patchwise import Lattice, PatchInput, PatchSweep
from mskt.core.volume import Volume
from mskt.networks.patch_segmenter import for_patches
from mskt.plugins.unetr.network import UNETR, UnetrVariant, from_monai

CLASSES = 30
OVERLAP = 0.5
HU_WINDOW = (0.0, 1.0)
"""The image of the second table is brightness already."""
CPU = torch.device("cpu")
AIM_NETWORK, AIM_SECONDS, AIM_MEMORY = 2.5, 2.0, 3.0
Labels = NDArray[np.uint8]


def networks(variant: UnetrVariant, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    """MONAI's in float32, and ours in ``dtype`` with its weights."""
    from monai.networks.nets import UNETR as Theirs

    torch.manual_seed(0)
    theirs = Theirs(
        1,
        CLASSES,
        variant.window,
        variant.features,
        variant.embedding,
        variant.mlp,
        variant.heads,
        proj_type="conv",
    ).eval()
    ours = UNETR(variant, CLASSES)
    ours.load_state_dict(from_monai(theirs.state_dict()))
    return theirs, for_patches(ours, CPU, dtype)


def network_table(args: argparse.Namespace) -> None:
    """Print seconds a window, float32 and, where the CPU has it, bfloat16."""
    variant = UnetrVariant()
    if args.quick:
        variant = UnetrVariant(window=(32, 32, 32), embedding=192, heads=3, mlp=768)
    x = torch.rand(1, 1, *variant.window)
    theirs, ours = networks(variant, torch.float32)
    ways: dict[str, Callable[[], Tensor]] = {
        "MONAI, float32": lambda: theirs(x),
        "mskt, float32": lambda: ours(x),
    }
    if has_fast_bfloat16():
        _, short = networks(variant, torch.bfloat16)

        def cast() -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return theirs(x)

        ways["MONAI, autocast to bfloat16"] = cast
        ways["mskt, bfloat16"] = lambda: short(x.bfloat16())
    with torch.inference_mode():
        made = {name: way().float() for name, way in ways.items()}  # warm-up
        times = in_turn(ways, args.repeat)
    wanted = made["MONAI, float32"]
    middle = {name: median(rows) for name, rows in times.items()}
    peer = middle["MONAI, float32"]["cpu"]
    rows = []
    for name, found in middle.items():
        off = (made[name] - wanted).abs().max()
        same = (made[name].argmax(1) == wanted.argmax(1)).float().mean()
        rows.append(
            [
                name,
                f"{found['cpu']:.2f}",
                f"{found['wall']:.2f}",
                f"{off:.1e}",
                f"{100 * same:.3f} %",
                f"{peer / found['cpu']:.2f}",
            ]
        )
    size = " × ".join(map(str, variant.window))
    print(f"UNETR on {size} voxels, {CLASSES} classes, MONAI {version('monai')}")
    print(markdown(["who", "CPU, s", "wall, s", "logits off by", "equal labels", "×"], rows))
    if not has_fast_bfloat16():
        print("this CPU does not multiply bfloat16 (no AVX-512 BF16, no AMX): float32 only")
    best = "mskt, bfloat16" if "mskt, bfloat16" in middle else "mskt, float32"
    print(
        f"MONAI, float32 / {best}: CPU {peer / middle[best]['cpu']:.2f} (aim {AIM_NETWORK}, "
        "reached by bfloat16 in the trial)"
    )


def trivial() -> nn.Module:
    """One convolution of one voxel: the cheapest network that gives all classes."""
    torch.manual_seed(0)
    net = nn.Conv3d(1, CLASSES, 1).eval()
    with torch.no_grad():
        # Tangents of a parabola: each class wins in its own part of the brightness.
        at = torch.linspace(0, 1, CLASSES)
        net.weight[:, 0, 0, 0, 0] = 60 * at
        net.bias.copy_(-30 * at**2)
    return net


def picture(shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Smooth brightness from 0 to 1 with noise."""
    axes = (np.linspace(0, np.pi * n / 60, n, dtype=np.float32) for n in shape)
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    image = 0.5 + 0.4 * np.sin(x) * np.cos(y + 0.5) * np.sin(z + 1)
    noise = np.random.default_rng(0).normal(0, 0.01, shape).astype(np.float32)
    return np.clip(image + noise, 0, 1).astype(np.float32)


@torch.inference_mode()
def blended_by_mskt(image: NDArray[np.float32], window: int) -> Labels:
    """Labels slab by slab, as the pipeline asks for them."""
    image.flags.writeable = False
    work = Volume(image, np.eye(4))
    given = PatchInput((window,) * 3, HU_WINDOW, overlap=OVERLAP)
    sweep = PatchSweep(trivial(), CLASSES, given, CPU, torch.float32)
    labels = np.empty(image.shape, np.uint8)
    for region in sweep.regions(work, draws=1):
        probabilities = sweep.draw(work, region, index=-1, seed=0)
        labels[region.slices] = probabilities.max(0).indices.byte().numpy()
        del probabilities  # before the next are made
    return labels


@torch.inference_mode()
def blended_by_monai(image: NDArray[np.float32], window: int) -> Labels:
    """Labels of the blended softmax, as ours; MONAI's users often blend logits."""
    from monai.inferers import sliding_window_inference

    net = trivial()
    blended = sliding_window_inference(
        torch.from_numpy(image)[None, None],
        (window,) * 3,
        sw_batch_size=1,
        predictor=lambda x: net(x).softmax(1),
        overlap=OVERLAP,
        mode="gaussian",
    )
    return np.asarray(blended[0].max(0).indices.byte().numpy())


@torch.inference_mode()
def not_blended(image: NDArray[np.float32], window: int) -> Labels:
    """The network on as many windows as there are: what is not blending."""
    net = trivial()
    given = PatchInput((window,) * 3, HU_WINDOW, overlap=OVERLAP)
    x = torch.rand(1, 1, window, window, window)
    for _ in range(math.prod(len(axis.starts) for axis in Lattice.of(image.shape, given).axes)):
        net(x)
    return np.zeros(0, np.uint8)


BLENDERS: dict[str, Callable[[NDArray[np.float32], int], Labels]] = {
    "MONAI": blended_by_monai,
    "mskt": blended_by_mskt,
    "the network alone": not_blended,
}


def blend_once(who: str, shape: tuple[int, int, int], window: int, keep: str) -> None:
    """Measure once in this process and print it as JSON."""
    image = picture(shape)
    small = picture((window + 8,) * 3)
    BLENDERS[who](small, window)  # imports, first use of kernels
    made: list[Labels] = []
    found = measured(lambda: made.append(BLENDERS[who](image, window)))
    np.save(keep, made[0])
    print(json.dumps(found))


def blending_table(args: argparse.Namespace) -> None:
    """Print seconds and memory of blending; the ratios come last."""
    import tempfile
    from pathlib import Path

    shape = tuple(int(n) for n in args.shape.split(","))
    results: dict[str, list[dict[str, float]]] = {name: [] for name in BLENDERS}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(args.repeat):
            for name in BLENDERS:
                keep = str(Path(folder) / f"{name}.npy")
                call = ["--child", name, "--keep", keep, "--shape", args.shape]
                call += ["--allocator", args.allocator]
                results[name].append(child(__file__, [*call, "--window", args.window]))
                tell(f"turn {turn + 1}, {name}: {results[name][-1]}")
        theirs, ours = (np.load(Path(folder) / f"{name}.npy") for name in ("MONAI", "mskt"))
    same = float((theirs == ours).mean())
    middle = {name: median(rows) for name, rows in results.items()}
    print(
        f"\nblending on {' × '.join(map(str, shape))} voxels, windows of {args.window}³, "
        f"overlap {OVERLAP}, Gaussian, {CLASSES} classes"
    )
    head = ["who", "CPU, s", "wall, s", "GB above the image"]
    rows = [
        [n, f"{r['cpu']:.2f}", f"{r['wall']:.2f}", f"{r['peak'] / 1e9:.2f}"]
        for n, r in middle.items()
    ]
    print(markdown(head, rows))
    print(f"equal labels: {100 * same:.4f} %, {len(np.unique(ours))} classes")
    cpu, peak = (middle["MONAI"][key] / middle["mskt"][key] for key in ("cpu", "peak"))
    alone = middle["the network alone"]["cpu"]
    adding = (middle["MONAI"]["cpu"] - alone) / (middle["mskt"]["cpu"] - alone)
    print(
        f"MONAI / mskt: CPU {cpu:.2f}, without the network {adding:.2f} "
        f"(aim {AIM_SECONDS:.0f}), memory {peak:.2f} (aim {AIM_MEMORY:.0f})"
    )


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=["network", "blending"], help="one of the two tables")
    parser.add_argument("--shape", default="256,256,200", help="of the grid that is blended")
    parser.add_argument("--window", type=int, default=96)
    parser.add_argument("--repeat", type=int, default=3, help="medians are told")
    parser.add_argument("--allocator", default="kept", choices=ALLOCATORS, help="for all of them")
    parser.add_argument("--quick", action="store_true", help="small and few: does it still work?")
    parser.add_argument("--child", choices=list(BLENDERS), help=argparse.SUPPRESS)
    parser.add_argument("--keep", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.shape, args.window, args.repeat = "80,80,60", 32, 1
    torch.set_num_threads(1)
    freed = allocator(args.allocator)
    if args.child:
        shape = tuple(int(n) for n in args.shape.split(","))
        blend_once(args.child, (shape[0], shape[1], shape[2]), args.window, args.keep)
        return
    print(f"one thread, torch {torch.__version__}, {freed}")
    if args.only != "blending":
        network_table(args)
    if args.only != "network":
        blending_table(args)


if __name__ == "__main__":
    main()

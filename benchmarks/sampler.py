"""Monte Carlo dropout on the network of Hiasa 2020 and Soufi 2024: mskt and the authors' sampler.

    python benchmarks/sampler.py                        # 5 levels, float32
    python benchmarks/sampler.py --levels 6
    python benchmarks/sampler.py --dtype bfloat16       # where the CPU multiplies it

The authors' sampler is rebuilt here from its description, not copied: the network with its batch
normalisation, dropout modules left in training mode, the whole network T times for each slice, all T
softmaxes kept and stacked, then their mean and variance. Ours is what ``mskt run`` does with a slice:
SliceSweep on the network of for_inference, reduced by the estimator. One thread, processes and calls
take turns; the body fills the slice, so that nothing is saved by leaving out air.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from measuring import ALLOCATORS, allocator, child, in_turn, markdown, measured, median, tell
from torch import Tensor, nn

from mskt.core.device import has_fast_bfloat16
from mskt.core.dropout import Draw, McDropout, number_sites, sampling
from mskt.core.interfaces import Region
from mskt.core.slicewise import SliceInput, SliceSweep
from mskt.core.volume import Volume
from mskt.networks.inference import for_inference
from mskt.networks.unet import BayesianUNet
from mskt.plugins.uncertainty.estimators import McDropoutEstimator

CLASSES, BASE, LEVELS = 23, 32, 5
GIVEN = SliceInput((-150.0, 350.0))
CPU = torch.device("cpu")
SEED, PLACE = 7, 0
GOALS = {torch.float32: 2.2, torch.bfloat16: 7.0}
Maps = tuple[Tensor, Tensor]


def network(levels: int, size: int) -> BayesianUNet:
    """The authors' network, untrained, with running statistics of a batch that it has seen."""
    torch.manual_seed(0)
    net = BayesianUNet(1, CLASSES, levels=levels, base=BASE, batch_norm=True)
    number_sites(net)
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean of what it sees
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    with torch.no_grad():
        net.train()(as_input(image(min(size, 128))))
    return net.eval()


def image(size: int) -> Volume:
    """One slice of soft tissue with smooth structure, all of it body."""
    generator = np.random.default_rng(0)
    coarse = torch.from_numpy(generator.normal(50.0, 120.0, (1, 1, 16, 16)).astype(np.float32))
    plane = nn.functional.interpolate(coarse, (size, size), mode="bicubic")[0, 0].numpy()
    plane += generator.normal(0.0, 15.0, plane.shape).astype(np.float32)
    return Volume(plane[:, :, None].copy(), np.eye(4), mask=np.ones((size, size, 1), bool))


def as_input(slice_: Volume) -> Tensor:
    """The slice as the network takes it, ``(1, 1, H, W)``."""
    low, high = GIVEN.hu_window
    x = torch.from_numpy(slice_.data[:, :, 0])
    return ((x.clamp(low, high) - low) * (2 / (high - low)) - 1)[None, None]


def passes(net: BayesianUNet, x: Tensor, samples: int) -> Maps:
    """T passes of the whole network, kept; mean and variance ``(C, H, W)``."""
    stacked = torch.stack([net(x).float().softmax(1)[0] for _ in range(samples)])
    return stacked.mean(0), stacked.var(0, unbiased=False)


def in_dropout(net: BayesianUNet) -> BayesianUNet:
    """Evaluation mode, but for the dropout."""
    net.eval()
    for module in net.modules():
        if isinstance(module, McDropout):
            module.train()
    return net


@torch.no_grad()
def authors(net: BayesianUNet, slice_: Volume, samples: int) -> Maps:
    """The authors' sampler, on the device of the network."""
    there = next(net.parameters()).device
    return passes(in_dropout(net), as_input(slice_).to(there), samples)


@torch.inference_mode()
def tuned(net: BayesianUNet, slice_: Volume, samples: int, dtype: torch.dtype) -> Maps:
    """The same after what a user can do from outside: inference mode, channels last, autocast."""
    x = as_input(slice_).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        return passes(in_dropout(net), x, samples)


def ours(sweep: SliceSweep, slice_: Volume, samples: int) -> Maps:
    """Mean ``(C, H, W)`` and the map of the variance ``(H, W)``, as ``mskt run`` computes them."""
    region = Region((0, 0, 0), slice_.grid.shape)
    draws = sweep.draws(slice_, region, range(samples), SEED)
    estimate = McDropoutEstimator(samples).reduce(draws)
    return estimate.probabilities[..., 0], estimate.uncertainty[..., 0]


def sweep_of(net: BayesianUNet, dtype: torch.dtype) -> SliceSweep:
    """Our path over a copy of the network."""
    return SliceSweep(for_inference(deepcopy(net), CPU, dtype), CLASSES, GIVEN, CPU, dtype)


def ways(args: argparse.Namespace, dtype: torch.dtype) -> dict[str, Callable[[int], Maps]]:
    """By name: a sampler that wants T."""
    net, slice_ = network(args.levels, args.size), image(args.size)
    last = deepcopy(net).to(memory_format=torch.channels_last)
    cast = ", autocast" if dtype == torch.bfloat16 else ""
    return {
        "the authors' sampler": partial(authors, net, slice_),
        f"the same, inference mode, channels last{cast}": partial(tuned, last, slice_, dtype=dtype),
        "mskt": partial(ours, sweep_of(net, dtype), slice_),
    }


def largest_difference(args: argparse.Namespace) -> dict[str, float]:
    """Largest differences under the same masks: ours from the peer's, and each from float64."""
    net, slice_ = network(args.levels, args.size), image(args.size)
    x = as_input(slice_)
    theirs, exact = _with_our_masks(net, x, args), _with_our_masks(net.double(), x.double(), args)
    mine = ours(sweep_of(net.float(), torch.float32), slice_, args.samples)
    found = {}
    for name, one, other in (
        ("ours - peer", mine, theirs),
        ("ours - float64", mine, exact),
        ("peer - float64", theirs, exact),
    ):
        for part, a, b in zip(("mean", "variance"), one, other, strict=True):
            found[f"{name}, {part}"] = float((a - b).abs().max())
    return found


@torch.no_grad()
def _with_our_masks(net: BayesianUNet, x: Tensor, args: argparse.Namespace) -> Maps:
    """Mean and the map of the variance of the unchanged network, its dropout masks ours."""
    made = []
    for index in range(args.samples):
        with sampling([Draw(SEED, index, PLACE)]):
            made.append(net(x).softmax(1)[0])
    stacked = torch.stack(made).double()
    return stacked.mean(0), stacked.var(0, unbiased=False).mean(0)


def flipped_labels(samples: int, slices: int) -> dict[str, float]:
    """Part of the labels of a phantom that bfloat16 changes, and that another seed changes.

    With the weights that come with mskt: an untrained network is undecided everywhere.
    """
    from mskt.core.registry import registry
    from mskt.synthesis.phantom import make_phantom

    phantom = make_phantom(1, spacing_mm=(2.0, 2.0, 6.0)).image
    maps = {}
    for name, precision, seed in (
        ("float32", "float32", 0),
        ("bfloat16", "bfloat16", 0),
        ("another seed", "float32", 1),
    ):
        segmenter = registry().get("segmenter", "unet_bayes", precision=precision)
        if not maps:  # the body network's own rounding is not what is asked
            (work,) = segmenter.prepare(phantom)
        busy = np.flatnonzero(work.mask.any(axis=(0, 1)))
        middle = int(busy[len(busy) // 2])
        part = Region(
            (0, 0, middle - slices // 2), (*work.data.shape[:2], middle - slices // 2 + slices)
        )
        draws = segmenter.draw_many(work, part, count=samples, seed=seed)
        maps[name] = McDropoutEstimator(samples).reduce(draws).probabilities.argmax(0)
    inside = torch.from_numpy(work.mask[part.slices].copy())
    return {
        name: float((maps[name] != maps["float32"])[inside].float().mean())
        for name in ("bfloat16", "another seed")
    }


def in_child(args: argparse.Namespace, *arguments: object) -> dict[str, Any]:
    """What a process of its own measures."""
    same = ["--levels", args.levels, "--size", args.size, "--dtype", args.dtype]
    same += ["--allocator", args.allocator]
    return child(__file__, [*arguments, *same])


def table(args: argparse.Namespace, dtype: torch.dtype) -> None:
    """Print times and memory of all; the ratios come last."""
    all_ways = ways(args, dtype)
    for way in all_ways.values():
        way(2)  # warm-up
    times = in_turn(
        {name: partial(way, args.samples) for name, way in all_ways.items()}, args.repeat
    )
    middle = {name: median(rows) for name, rows in times.items()}
    peer = middle["the authors' sampler"]
    rows = []
    for number, (name, found) in enumerate(middle.items()):
        peaks = []
        for samples in args.memory:
            one = in_child(args, "--child", number, "--samples", samples)
            tell(f"memory, T = {samples}, {name}: {one['peak'] / 1e9:.2f} GB")
            peaks.append(f"{one['peak'] / 1e9:.2f}")
        speed = f"{peer['cpu'] / found['cpu']:.2f}"
        rows.append([name, f"{found['cpu']:.2f}", f"{found['wall']:.2f}", speed, *peaks])
    head = ["who", "CPU, s a slice", "wall, s", "×"]
    print(markdown([*head, *(f"GB above, T = {t}" for t in args.memory)], rows))
    report_exactness(args)
    print(
        f"authors' sampler / mskt, {args.dtype}: CPU {peer['cpu'] / middle['mskt']['cpu']:.2f}, "
        f"wall {peer['wall'] / middle['mskt']['wall']:.2f} (aim {GOALS[dtype]})"
    )


def report_exactness(args: argparse.Namespace) -> None:
    """Print how far ours lies from the peer with the same masks, and what bfloat16 flips."""
    off = largest_difference(args)
    told = (f"{name} {value:.1e}" for name, value in off.items())
    print(f"same masks, float32, differs by at most: {'; '.join(told)}")
    flips = flipped_labels(args.samples, args.flip_slices)
    print(
        f"labels in the body of a phantom, unet_bayes-compact, T = {args.samples}: bfloat16 changes "
        f"{100 * flips['bfloat16']:.3f} %, another seed {100 * flips['another seed']:.2f} %"
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--levels", type=int, default=LEVELS, help="resolution levels: 5 or 6")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--samples", type=int, default=4, help="T")
    parser.add_argument("--size", type=int, default=512, help="pixels of a slice each way")
    parser.add_argument("--repeat", type=int, default=3, help="medians are told")
    parser.add_argument("--allocator", default="kept", choices=ALLOCATORS, help="for all of them")
    parser.add_argument("--memory", default="4,20", help="values of T whose memory is measured")
    parser.add_argument("--flip-slices", type=int, default=8, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="small and few: does it still work?")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.size, args.samples, args.repeat, args.memory = 128, 2, 1, "2,6"
        args.flip_slices = 2
    args.memory = [int(samples) for samples in args.memory.split(",") if samples]
    return args


def main() -> None:
    """Measure; print the table and the ratio."""
    args = arguments()
    torch.set_num_threads(1)
    freed = allocator(args.allocator)
    dtype = torch.float32 if args.dtype == "float32" else torch.bfloat16
    if args.child is not None:
        way = list(ways(args, dtype).values())[args.child]
        print(json.dumps(measured(lambda: way(args.samples))))
        return
    print(
        f"{args.levels} levels × {BASE} filters, {CLASSES} classes, {args.size}², T = {args.samples}, "
        f"{args.dtype}, one thread, torch {torch.__version__}, {freed}"
    )
    if dtype == torch.bfloat16 and not has_fast_bfloat16():
        print("this CPU does not multiply bfloat16 (no AVX-512 BF16, no AMX): nothing measured")
        report_exactness(args)
        return
    table(args, dtype)


if __name__ == "__main__":
    main()

"""``mskt run`` on a volume of clinical size, from reading to written results, and its peers.

    python benchmarks/end_to_end.py                                   # every shipped segmenter
    python benchmarks/end_to_end.py --uncertainties mcdropout --samples 2,10 --no-peers
    python benchmarks/end_to_end.py --device cuda --out runs/h200.md
    python benchmarks/end_to_end.py --cohort 4 --segmenters unet_bayes --uncertainties mcdropout
    python benchmarks/end_to_end.py --shape 512,512,300 -- --precision float32

The volume is a phantom made at 2.5 mm and enlarged, so that making it does not take longer than the
run. Every measurement is a process of its own; they take turns, medians are told. Seconds of the
stages are those of ``run.json``; wall is that of the process, start of Python and torch included.

Peers on the same scan: the authors' sampler (benchmarks/sampler.py) on some of its slices,
extrapolated; MONAI's SliceInferer with the same network over the same working grid, T passes; and
what the papers state. Their times are those of the network alone.

``--cohort N`` measures N copies of the scan in one run instead, where the next case is read and the last
one is written while the network works. What a further case takes is the difference between that run and
one of a single case, over N − 1.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from measuring import child, markdown, measured, median, tell
from scipy import ndimage

STAGES = {
    "load": "read",
    "prepare": "prepare",
    "segment": "network",
    "return": "way back",
    "record": "record",
    "post-process": "post-process",
    "assess": "assess",
    "write": "write",
    "preview": "preview",
    "total": "total",
}
COMPILED = {"PYTHONDONTWRITEBYTECODE": ""}
"""Python keeps compiled modules, as it does for users unless they ask it not to."""
PAPERS = (
    (
        "Hiasa 2020, section III-A",
        "about 500 slices",
        "GTX 1080 Ti",
        "about 2 min, without reading",
    ),
    ("the same", "post-processing", "Xeon, 4 cores", "about 3 min"),
    ("Soufi 2024, section 2.7", "about 500 slices, T = 10", "GPU, not named", "about 3 min"),
    ("Kim 2024, discussion", "thigh, 30 classes", "not named", "less than 20 s"),
)


def enlarged(path: Path, shape: tuple[int, ...]) -> None:
    """Write the phantom of seed 1, enlarged to ``shape`` voxels."""
    from mskt.synthesis.phantom import make_phantom

    image = make_phantom(1).image
    factors = np.asarray(shape) / image.data.shape
    data = ndimage.zoom(image.data, factors, order=1, mode="nearest", grid_mode=True)
    affine = image.affine.copy()
    affine[:3, :3] = affine[:3, :3] / factors
    file = nib.Nifti1Image(np.rint(data).astype(np.int16), affine)
    file.header["descrip"] = b"synthetic phantom, enlarged"
    nib.save(file, path)


def shipped() -> dict[str, str]:
    """Segmenters with weights in the package: name to one set; sets of one size cost the same."""
    import mskt
    from mskt.core import weights
    from mskt.core.registry import registry

    package = Path(mskt.__file__).parent
    found: dict[str, str] = {}
    for info in weights.available():
        name = str(info.card.get("segmenter"))
        if info.path.is_relative_to(package) and name in registry().names("segmenter"):
            found.setdefault(name, info.name)
    return found


def fitting(segmenter: str, weights: str) -> Iterator[str]:
    """Uncertainties that need nothing but this segmenter."""
    from mskt.core.errors import UsageError
    from mskt.core.pipeline import check_pair
    from mskt.core.registry import registry

    tool = registry().get("segmenter", segmenter, weights=weights, device="cpu")
    for name in registry().names("uncertainty"):
        estimator = registry().get("uncertainty", name)
        try:
            check_pair(tool, estimator, name)
        except UsageError:
            continue
        if not estimator.asks:
            yield name


def takes_draws(uncertainty: str) -> bool:
    """The number of its draws can be chosen."""
    from mskt.core.registry import registry

    return bool(registry().get("uncertainty", uncertainty).draws > 1)


def run(scan: Path, out: Path, options: list[str]) -> dict[str, float]:
    """One process; wall and CPU seconds, peak memory, and the stages as run.json has them.

    Of several cases: the process whole, and the mean of each stage over cases.
    """
    command = [sys.executable, "-m", "mskt", "run", str(scan), "--out", str(out)]
    command += ["--overwrite", "-q", *options]
    begin = time.perf_counter()
    process = subprocess.Popen(command, env=os.environ | COMPILED)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    if status:
        raise SystemExit(f"{' '.join(command)} ended with status {status}")
    done = [json.loads(file.read_text())["seconds"] for file in out.glob("*/run.json")]
    return {
        "wall": wall,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak": usage.ru_maxrss * 1024,
        **{stage: sum(one[stage] for one in done) / len(done) for stage in done[0]},
    }


Case = tuple[str, str, int]
"""Segmenter, uncertainty, draws."""


def cases(args: argparse.Namespace) -> dict[Case, list[str]]:
    """What is measured, and the options of ``mskt run`` for it."""
    sets = shipped()
    chosen = args.segmenters.split(",") if args.segmenters else list(sets)
    wanted: dict[Case, list[str]] = {}
    for name in chosen:
        there = args.uncertainties.split(",") if args.uncertainties else fitting(name, sets[name])
        for uncertainty in there:
            base = ["-s", name, "--weights", sets[name], "-u", uncertainty, *args.options]
            base += ["--device", args.device] if args.device else []
            base += ["--threads", str(args.threads)] if args.threads else []
            counts = args.samples if takes_draws(uncertainty) else [1]
            for count in counts:
                drawn = ["--samples", str(count)] if takes_draws(uncertainty) else []
                wanted[name, uncertainty, count] = [*base, *drawn]
    return wanted


def own_table(scan: Path, folder: Path, args: argparse.Namespace) -> tuple[str, dict[Case, Any]]:
    """The table of ``mskt run``, and its figures."""
    wanted = cases(args)
    found: dict[Case, list[dict[str, float]]] = {case: [] for case in wanted}
    for turn in range(args.repeat):
        for case, options in wanted.items():
            found[case].append(run(scan, folder / "out", options))
            tell(f"turn {turn + 1}, {case}: wall {found[case][-1]['wall']:.1f} s")
    middle = {case: median(rows) for case, rows in found.items()}
    rows = []
    for (name, uncertainty, draws), one in middle.items():
        rest = 1 - one["segment"] / one["total"]
        stages = [f"{one.get(stage, 0.0):.1f}" for stage in STAGES]
        figures = [f"{one['wall']:.1f}", f"{one['cpu']:.1f}", f"{one['peak'] / 1e9:.2f}"]
        rows.append([name, uncertainty, str(draws), *stages, *figures, f"{100 * rest:.0f} %"])
    head = ["segmenter", "uncertainty", "T", *STAGES.values(), "wall", "CPU", "peak, GB"]
    return markdown([*head, "not the network"], rows), middle


def cohort_table(scan: Path, folder: Path, args: argparse.Namespace) -> str:
    """What a further case of a run costs, when reading and writing overlap with the network."""
    many = folder / "cohort"
    many.mkdir()
    for number in range(args.cohort):
        os.link(scan, many / f"copy{number}.nii.gz")
    rows = []
    for (name, uncertainty, draws), options in cases(args).items():
        turns: dict[Path, list[dict[str, float]]] = {scan: [], many: []}
        for turn in range(args.repeat):
            for source, found in turns.items():
                out = folder / f"out-{source.name}-{name}-{uncertainty}-{draws}"
                found.append(run(source, out, options))
                tell(f"turn {turn + 1}, {name}, {source.name}: wall {found[-1]['wall']:.1f} s")
        one, all_ = (median(found) for found in turns.values())
        further = (all_["wall"] - one["wall"]) / (args.cohort - 1)
        cpu = (all_["cpu"] - one["cpu"]) / (args.cohort - 1)
        shares = [f"{100 * (1 - part['segment'] / further):.0f} %" for part in (one, all_)]
        figures = (one["wall"], one["total"], one["segment"], further, all_["segment"], cpu)
        peak = f"{all_['peak'] / 1e9:.2f}"
        rows.append(
            [name, uncertainty, str(draws), *(f"{value:.1f}" for value in figures), peak, *shares]
        )
    head = ["segmenter", "uncertainty", "T", "one: process", "one: case", "one: network"]
    head += ["a further case", "its network", "its CPU", "peak, GB"]
    head += ["beyond the network alone", "not its network"]
    return markdown(head, rows)


def authors_child(scan: Path, args: argparse.Namespace) -> dict[str, float]:
    """The authors' sampler on a few slices of the scan, the rest extrapolated."""
    import sampler
    import torch

    from mskt.core.device import resolve_device
    from mskt.core.volume import Volume

    data = np.asarray(nib.load(scan).dataobj).astype(np.float32)
    side = 2 ** (sampler.LEVELS - 1)
    rows, columns = (n // side * side for n in data.shape[:2])
    at = np.linspace(0, data.shape[2] - 1, args.slices + 2).astype(int)[1:-1]
    planes = [Volume(data[:rows, :columns, k : k + 1].copy(), np.eye(4)) for k in at]
    net = sampler.network(sampler.LEVELS, rows).to(resolve_device(args.device or "auto"))
    sampler.authors(net, planes[0], 2)[0].cpu()  # warm-up

    def all_slices() -> None:
        for plane in planes:
            mean, variance = sampler.authors(net, plane, args.samples[-1])
            mean.cpu(), variance.mean(0).cpu()

    found = measured(all_slices)
    by = data.shape[2] / len(planes)
    threads = float(torch.get_num_threads())
    return {**found, "cpu": found["cpu"] * by, "wall": found["wall"] * by, "threads": threads}


def monai_child(scan: Path, args: argparse.Namespace) -> dict[str, float]:
    """MONAI's SliceInferer with the default network on the working grid, mean and variance of T."""
    import torch
    from monai.inferers import SliceInferer

    from mskt.core.dropout import McDropout
    from mskt.core.intensity import normalised
    from mskt.core.interfaces import LoadOptions
    from mskt.core.registry import registry
    from mskt.plugins.loaders.nifti import NiftiLoader
    from mskt.plugins.unet_bayes.variants import FAMILY

    segmenter = registry().get("segmenter", FAMILY.segmenter, device=args.device or "auto")
    device = torch.device(str(segmenter.describe()["device"]))
    (work,) = segmenter.prepare(NiftiLoader().load(scan, LoadOptions()))
    model = FAMILY.load("", "", "", "")
    given, net = model.variant.given, model.network.eval().to(device)
    for module in net.modules():
        if isinstance(module, McDropout):
            module.train()
    values = torch.from_numpy(normalised(work.data, given.hu_window, given.dense_slope))
    depth = values.shape[2]
    offsets = range(-given.context, given.context + 1)
    channels = [
        values[:, :, [min(max(k + o, 0), depth - 1) for k in range(depth)]] for o in offsets
    ]
    stack = torch.stack(channels)[None]
    window = [-(-n // net.multiple) * net.multiple for n in stack.shape[2:4]]
    inferer = SliceInferer(
        roi_size=window,
        spatial_dim=2,
        sw_batch_size=1,
        sw_device=device,
        device=torch.device("cpu"),
    )

    @torch.inference_mode()
    def all_passes() -> None:
        total = squares = torch.zeros(())
        for _ in range(args.samples[-1]):
            draw = inferer(stack, lambda x: net(x).float().softmax(1))[0]
            total, squares = total + draw, squares + draw**2
        mean = total / args.samples[-1]
        (squares / args.samples[-1] - mean**2).mean(0), mean.argmax(0)

    found = measured(all_passes)
    return {**found, "threads": float(torch.get_num_threads())}


CHILDREN = {"authors": authors_child, "monai": monai_child}


def peer_table(scan: Path, args: argparse.Namespace, own: dict[Case, Any]) -> str:
    """Peers on the same scan, what the papers state, and the ratios last."""
    threads = args.threads or os.cpu_count() or 1
    draws = args.samples[-1]
    call = ["--scan", scan, "--samples", draws, "--slices", args.slices]
    call += ["--device", args.device] if args.device else []
    found: dict[str, list[dict[str, float]]] = {who: [] for who in CHILDREN}
    for turn in range(args.repeat):
        for who in CHILDREN:
            found[who].append(child(__file__, ["--child", who, *call], threads))
            tell(f"turn {turn + 1}, {who}: wall {found[who][-1]['wall']:.1f} s")
    names = {
        "authors": f"authors' sampler, 5 levels × 32, {args.slices} whole slices, extrapolated to all",
        "monai": "MONAI SliceInferer, the default network, the same working grid",
    }
    middle = {who: median(rows) for who, rows in found.items()}
    rows = [
        [names[who], f"{one['wall']:.1f}", f"{one['cpu']:.1f}", f"{one['peak'] / 1e9:.2f}"]
        for who, one in middle.items()
    ]
    text = markdown([f"the network alone, T = {draws}", "wall", "CPU", "GB above"], rows)
    text += "\n\n" + markdown(["stated in", "for", "on", "time"], PAPERS)
    ours = next((one for case, one in own.items() if case[1:] == ("mcdropout", draws)), None)
    if ours is not None:
        for who, one in middle.items():
            text += (
                f"\n\n{names[who]} / mskt, mcdropout, T = {draws}: "
                f"{one['wall'] / ours['segment']:.1f} times the network's wall time, "
                f"{one['wall'] / ours['wall']:.1f} times the whole run's"
            )
    return text


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", default="512,512,500")
    parser.add_argument("--samples", default="10", help="numbers of draws; peers take the last")
    parser.add_argument("--segmenters", help="names; all shipped ones by default")
    parser.add_argument("--uncertainties", help="names; all that fit by default")
    parser.add_argument("--device", help="passed on to mskt run, and for the peers")
    parser.add_argument("--threads", type=int, help="likewise; all cores by default")
    parser.add_argument("--repeat", type=int, default=1, help="medians are told")
    parser.add_argument("--cohort", type=int, help="copies of the scan in one run, at least 2")
    parser.add_argument("--slices", type=int, default=3, help="of the authors' sampler")
    parser.add_argument("--no-peers", action="store_true", help="mskt alone")
    parser.add_argument("--out", type=Path, help="write the tables here too (Markdown)")
    parser.add_argument("--quick", action="store_true", help="small and few: does it still work?")
    parser.add_argument("--child", choices=list(CHILDREN), help=argparse.SUPPRESS)
    parser.add_argument("--scan", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("options", nargs="*", help="passed on to mskt run (after --)")
    args = parser.parse_args()
    if args.quick:
        args.shape, args.samples, args.slices = "96,96,80", "2", 1
        args.uncertainties = args.uncertainties or "mcdropout"
    if args.cohort is not None and args.cohort < 2:
        parser.error("--cohort: at least 2")
    args.samples = [int(count) for count in args.samples.split(",")]
    return args


def main() -> None:
    """Print the tables."""
    args = arguments()
    if args.child:
        print(json.dumps(CHILDREN[args.child](args.scan, args)))
        return
    shape = tuple(int(n) for n in args.shape.split(","))
    with tempfile.TemporaryDirectory() as folder:
        scan = Path(folder) / "large.nii.gz"
        enlarged(scan, shape)
        made = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        tell(f"{shape} made with {made:.1f} GB")
        small = Path(folder) / "small.nii.gz"
        enlarged(small, (64, 64, 60))
        run(small, Path(folder) / "warm", next(iter(cases(args).values())))  # modules are compiled
        if args.cohort:
            text, figures = cohort_table(scan, Path(folder), args), {}
        else:
            text, figures = own_table(scan, Path(folder), args)
        text = f"{' × '.join(map(str, shape))} voxels, seconds, median of {args.repeat}\n\n{text}"
        print(text, flush=True)
        if not (args.no_peers or args.cohort):
            peers = peer_table(scan, args, figures)
            print(f"\n{peers}")
            text += f"\n\n{peers}"
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

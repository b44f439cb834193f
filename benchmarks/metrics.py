"""The full table (Dice, ASSD, HD, HD95) of 22 structures on 512 × 512 × 300: mskt and its peers.

    python benchmarks/metrics.py

The reference is the phantom of seed 1 enlarged to that grid, the prediction a smooth deformation of
it. Every measurement is a process of its own that loads both maps, warms up on a small corner
(imports, compiling) and then computes the table; the processes of all take turns, with one thread.
The ratios of CPU time come last. A peer that is not installed is left out: panoptica and
surface-distance are in nobody's lock; ``uv pip install --target DIR --no-deps`` them (panoptica also
wants ruamel.yaml and plotly) and put DIR on PYTHONPATH.

    python benchmarks/metrics.py --evaluate      # mskt evaluate on a 512 × 512 × 500 pair
    python benchmarks/metrics.py --start         # what loading and compiling cost, when a cache is there
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from measuring import peak_bytes
from numpy.typing import NDArray
from scipy import ndimage

Labels = NDArray[np.uint8]
Spacing = tuple[float, float, float]
Table = list[dict[str, float]]

STRUCTURES = tuple(range(1, 23))
SLOW = {"MONAI": "monai", "MedPy": "medpy"}
PEERS = {"panoptica": "panoptica", "surface-distance": "surface-distance", **SLOW}
OURS = {"mskt, NumPy and SciPy": "numpy", "mskt, compiled": "numba"}
SHARE = 4
"""Slow peers measure every fourth structure; their time is scaled by the border voxels."""


def make(folder: Path, shape: tuple[int, int, int]) -> None:
    """Write reference and prediction, as arrays and as NIfTI, and the affine."""
    import nibabel as nib

    from mskt.core.anatomy import label_set
    from mskt.synthesis.phantom import in_label_set, make_phantom

    small = in_label_set(make_phantom(1).labels, label_set("msk22"))
    side = max(small.data.shape[:2])
    factors = np.asarray(shape) / (side, side, small.data.shape[2])
    rng = np.random.default_rng(1)
    moved = np.indices(small.data.shape, dtype=np.float32)
    for axis in moved:
        field = ndimage.gaussian_filter(rng.normal(size=axis.shape), 5).astype(np.float32)
        axis += 0.55 * field / field.std()
    affine = small.affine.copy()
    affine[:3, :3] = affine[:3, :3] / factors
    for name, places in (("reference", None), ("prediction", moved)):
        labels = enlarged(small.data, places, shape, factors)
        np.save(folder / f"{name}.npy", labels)
        nib.save(nib.Nifti1Image(labels, affine), folder / f"{name}.nii.gz")
    np.save(folder / "affine.npy", affine)


def enlarged(
    labels: Labels,
    places: NDArray[np.float32] | None,
    shape: tuple[int, int, int],
    factors: NDArray[np.float64],
) -> Labels:
    """Enlarge structure by structure with smooth surfaces; where none reaches a half is background.

    Args:
        labels: small map, centred in the large one in the plane.
        places: where in the small map each voxel takes its value from; None for itself.
        shape: of the result.
        factors: large voxels to a small one.
    """
    largest = np.full(shape, 0.5, np.float32, order="F")
    out = np.zeros(shape, np.uint8, order="F")
    offset = (np.asarray(shape) / factors - labels.shape) // 2
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        box = tuple(
            slice(max(part.start - 4, 0), min(part.stop + 4, n))
            for part, n in zip(box, labels.shape, strict=True)
        )
        soft = ndimage.gaussian_filter((labels == index).astype(np.float32), 0.7)
        if places is None:
            soft = soft[box]
        else:
            soft = ndimage.map_coordinates(soft, [axis[box] for axis in places], order=1)
        part = []
        for axis, (its, begin, factor) in enumerate(zip(box, offset, factors, strict=True)):
            first, last = int((its.start + begin) * factor), int((its.stop + begin) * factor)
            part.append(slice(first, last))
            at = (np.arange(first, last) + 0.5) / factor - 0.5 - begin - its.start
            at = np.clip(at, 0, soft.shape[axis] - 1.001)
            low = at.astype(int)
            weight = np.expand_dims(at - low, [a for a in range(3) if a != axis]).astype(np.float32)
            soft = np.take(soft, low, axis) * (1 - weight) + np.take(soft, low + 1, axis) * weight
        here = (part[0], part[1], part[2])
        wins = soft > largest[here]
        out[here][wins] = index
        largest[here][wins] = soft[wins]
    return out


def mskt(prediction: Labels, reference: Labels, wanted: list[int], spacing: Spacing) -> Table:
    from mskt.core.interfaces import LabelPair
    from mskt.plugins.metrics.overlap import Overlap
    from mskt.plugins.metrics.surface import Surface

    pair = LabelPair(prediction, reference, tuple(wanted), spacing)
    found: dict[int, dict[str, float]] = {index: {} for index in wanted}
    for family in (Overlap(), Surface()):
        for m in family.measure(pair):
            found[m.index][m.metric] = np.nan if m.value is None else m.value
    return list(found.values())


def panoptica(prediction: Labels, reference: Labels, wanted: list[int], spacing: Spacing) -> Table:
    from panoptica import InputType, Panoptica_Evaluator
    from panoptica.metrics import Metric

    metrics = [Metric.DSC, Metric.ASSD, Metric.HD, Metric.HD95]
    evaluator = Panoptica_Evaluator(InputType.MATCHED_INSTANCE, instance_metrics=metrics)
    keep = np.zeros(256, np.uint8)
    keep[wanted] = wanted
    if len(wanted) < len(STRUCTURES):
        prediction, reference = keep[prediction], keep[reference]
    result = evaluator.evaluate(prediction, reference, voxelspacing=spacing)
    (only,) = result.values()
    names = {"assd": Metric.ASSD, "hd": Metric.HD, "hd95": Metric.HD95, "dice": Metric.DSC}
    lists = {name: only.get_list_metric(metric, "ALL") for name, metric in names.items()}
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def surface_distance(
    prediction: Labels, reference: Labels, wanted: list[int], spacing: Spacing
) -> Table:
    import surface_distance as library

    rows = []
    for index in wanted:
        r, p = reference == index, prediction == index
        distances = library.compute_surface_distances(r, p, spacing)
        average = library.compute_average_surface_distance(distances)
        rows.append(
            {
                "dice": library.compute_dice_coefficient(r, p),
                "assd": float(np.mean(average)),
                "hd": library.compute_robust_hausdorff(distances, 100),
                "hd95": library.compute_robust_hausdorff(distances, 95),
            }
        )
    return rows


def monai(prediction: Labels, reference: Labels, wanted: list[int], spacing: Spacing) -> Table:
    import torch
    from monai import metrics

    torch.set_num_threads(1)
    rows = []
    for index in wanted:
        p, r = (torch.from_numpy(m == index)[None, None] for m in (prediction, reference))
        options: dict[str, Any] = {"include_background": True, "spacing": spacing}
        hd95 = metrics.compute_hausdorff_distance(p, r, percentile=95, **options)
        rows.append(
            {
                "dice": float(metrics.compute_dice(p, r, include_background=True)),
                "assd": float(
                    metrics.compute_average_surface_distance(p, r, symmetric=True, **options)
                ),
                "hd": float(metrics.compute_hausdorff_distance(p, r, **options)),
                "hd95": float(hd95),
            }
        )
    return rows


def medpy(prediction: Labels, reference: Labels, wanted: list[int], spacing: Spacing) -> Table:
    from medpy.metric import binary

    rows = []
    boxes = [ndimage.find_objects(labels) for labels in (prediction, reference)]
    for index in wanted:
        pairs = zip(boxes[0][index - 1], boxes[1][index - 1], strict=True)
        box = tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in pairs)
        p, r = prediction[box] == index, reference[box] == index
        rows.append(
            {
                "dice": binary.dc(p, r),
                "assd": binary.assd(p, r, spacing),
                "hd": binary.hd(p, r, spacing),
                "hd95": binary.hd95(p, r, spacing),
            }
        )
    return rows


WAYS: dict[str, Callable[[Labels, Labels, list[int], Spacing], Table]] = {
    "mskt": mskt,
    "panoptica": panoptica,
    "surface-distance": surface_distance,
    "MONAI": monai,
    "MedPy": medpy,
}


def child(who: str, folder: Path, wanted: list[int]) -> None:
    """Measure once in this process and print what came out as JSON."""
    way = WAYS[who]
    maps = [np.load(folder / f"{name}.npy") for name in ("prediction", "reference")]
    spacing = tuple(np.linalg.norm(np.load(folder / "affine.npy")[:3, :3], axis=0).tolist())
    corner = np.zeros((40, 40, 40), np.uint8, order="F")
    corner[10:30, 10:30, 10:30], corner[15:20, 15:20, 15:20] = 1, 2
    way(corner, np.roll(corner, 1, axis=0), [1, 2], spacing)
    before = peak_bytes(reset=True)
    wall, cpu = time.perf_counter(), time.process_time()
    rows = way(maps[0], maps[1], wanted, spacing)
    seconds = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    means = {name: float(np.mean([row[name] for row in rows])) for name in ("dice", "assd", "hd95")}
    print(json.dumps({**seconds, "peak": peak_bytes() - before, "rows": len(rows), **means}))


def run(who: str, folder: Path, wanted: list[int], threads: int = 1) -> dict[str, float]:
    """Measure in a process of its own."""
    limits = ("OMP", "MKL", "OPENBLAS", "NUMBA")
    env = os.environ | {f"{name}_NUM_THREADS": str(threads) for name in limits}
    env |= {"MSKT_METRICS": OURS.get(who, ""), "TQDM_DISABLE": "1"}
    name = "mskt" if who in OURS else who
    listed = ",".join(map(str, wanted))
    command = [sys.executable, __file__, "--child", name, "--data", str(folder), "--only", listed]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{who} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def installed(distribution: str) -> str | None:
    """Version of a package, None if it is not there."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def scale(folder: Path, wanted: list[int]) -> float:
    """All border voxels by those of the structures asked for: what takes time grows with them."""
    from mskt.core.interfaces import LabelPair
    from mskt.plugins.metrics.borders import scan_of

    maps = [np.load(folder / f"{name}.npy") for name in ("prediction", "reference")]
    scan = scan_of(LabelPair(*maps, STRUCTURES, (1.0, 1.0, 1.0)))
    counts = np.bincount(scan.reference.index, minlength=len(STRUCTURES) + 1)
    return float(counts.sum() / counts[wanted].sum())


def table(folder: Path, repeat: int, all_of_them: bool) -> None:
    """Measure everybody in turn; print the table and the ratios."""
    some = list(STRUCTURES[::SHARE])
    factor = scale(folder, some)
    who = [*OURS, *PEERS]
    for name, distribution in {"mskt, compiled": "numba", **PEERS}.items():
        if (found := installed(distribution)) is None:
            who.remove(name)
        print(f"{distribution}: {found or 'not installed'}")
    parts = {name: name in SLOW and not all_of_them for name in who}
    results: dict[str, list[dict[str, float]]] = {name: [] for name in who}
    for turn in range(repeat):
        for name in who:
            if name in PEERS and turn and name != "panoptica":
                continue  # minutes each, and far from the front
            wanted = some if parts[name] else list(STRUCTURES)
            results[name].append(run(name, folder, wanted))
            print(f"  turn {turn + 1}, {name}: {results[name][-1]}", file=sys.stderr, flush=True)
    print("| who | CPU, s | wall, s | above inputs, GB | runs | Dice | ASSD, mm | HD95, mm |")
    print("|---|---|---|---|---|---|---|---|")
    seconds = {}
    for name, rows in results.items():
        by = factor if parts[name] else 1.0
        middle = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        seconds[name] = middle["cpu"] * by
        note = f" ({len(some)} structures, × {by:.2f})" if parts[name] else ""
        print(
            f"| {name}{note} | {seconds[name]:.2f} | {middle['wall'] * by:.2f} | "
            f"{middle['peak'] / 1e9:.2f} | {len(rows)} | {middle['dice']:.4f} | "
            f"{middle['assd']:.4f} | {middle['hd95']:.4f} |"
        )
    _ratios(folder, seconds)


def _ratios(folder: Path, seconds: dict[str, float]) -> None:
    for name in OURS:
        if name in seconds:
            two = run(name, folder, list(STRUCTURES), threads=2)
            print(f"{name}, two threads: wall {two['wall']:.2f} s, CPU {two['cpu']:.2f} s")
    for name in OURS:
        for peer in PEERS:
            if {name, peer} <= seconds.keys():
                print(f"{peer} / {name}: {seconds[peer] / seconds[name]:.0f} x")


def start(folder: Path, repeat: int) -> None:
    """Print what one pair costs in a process of its own, everything that has to be loaded included."""
    code = (
        "import sys, numpy as np; sys.path.insert(0, sys.argv[1]); import metrics;"
        "n = int(sys.argv[3]);"
        "from pathlib import Path; f = Path(sys.argv[2]);"
        "m = [np.load(f / (x + '.npy'), mmap_mode='r')[:, :, 100:100 + n] for x in"
        " ('prediction', 'reference')];"
        "metrics.mskt(*m, list(metrics.STRUCTURES), (0.9, 0.9, 1.8))"
    )
    print("| slices | NumPy and SciPy, CPU s | compiled, from the cache | compiled, first time |")
    print("|---|---|---|---|")
    for slices in (5, 20, 60, 200):
        cells = []
        for way in ("numpy", "numba", "cold"):
            spent = []
            for _ in range(repeat):
                with tempfile.TemporaryDirectory() as cache:
                    env = os.environ | {"MSKT_METRICS": "numpy" if way == "numpy" else "numba"}
                    env |= {"OMP_NUM_THREADS": "1"}
                    if way == "cold":
                        env["NUMBA_CACHE_DIR"] = cache
                    here = str(Path(__file__).parent)
                    command = [sys.executable, "-c", code, here, str(folder), str(slices)]
                    process = subprocess.Popen(command, env=env)
                    _, status, usage = os.wait4(process.pid, 0)
                if status:
                    raise SystemExit(f"{way} ended with status {status}")
                spent.append(usage.ru_utime + usage.ru_stime)
            cells.append(f"{statistics.median(spent):.2f}")
        print(f"| {slices} | " + " | ".join(cells) + " |", flush=True)


def evaluate(folder: Path, repeat: int) -> None:
    """Print what ``mskt evaluate`` takes on the pair, from reading to written results.

    The first process, not counted, leaves Python's compiled modules behind, as an installation or
    an earlier call does; with PYTHONDONTWRITEBYTECODE every call compiles them anew.
    """
    for way in OURS:
        _evaluated(folder, OURS[way], 1)
    print("| way | threads | wall, s | CPU, s | peak memory, GB |")
    print("|---|---|---|---|---|")
    for threads in (2, 1):
        rows: dict[str, list[tuple[float, float, float]]] = {way: [] for way in OURS}
        for _ in range(repeat):
            for way, switch in OURS.items():
                rows[way].append(_evaluated(folder, switch, threads))
        for way, found in rows.items():
            middle = [statistics.median(column) for column in zip(*found, strict=True)]
            print(
                f"| {way} | {threads} | " + " | ".join(f"{x:.2f}" for x in middle) + " |",
                flush=True,
            )


def _evaluated(folder: Path, switch: str, threads: int) -> tuple[float, float, float]:
    command = [sys.executable, "-m", "mskt", "evaluate", "--label-set", "msk22", "-q"]
    command += ["-p", str(folder / "prediction.nii.gz"), "-r", str(folder / "reference.nii.gz")]
    command += ["-o", str(folder / "scores")]
    env = os.environ | {"MSKT_METRICS": switch, "OMP_NUM_THREADS": str(threads)}
    env["PYTHONPYCACHEPREFIX"] = str((folder / "modules").absolute())
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    begin = time.perf_counter()
    process = subprocess.Popen(command, env=env)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with status {status}")
    wall = time.perf_counter() - begin
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e9


def prepared(folder: Path, slices: int) -> None:
    """Make the maps unless they are there, in a process whose memory nobody inherits."""
    if not (folder / "affine.npy").exists():
        folder.mkdir(parents=True, exist_ok=True)
        print(f"making 512 × 512 × {slices} …", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, __file__, "--make", str(folder), str(slices)], check=True)


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=3, help="processes of each; medians are told")
    parser.add_argument("--all", action="store_true", help="slow peers measure all structures too")
    parser.add_argument("--evaluate", action="store_true", help="time mskt evaluate instead")
    parser.add_argument("--start", action="store_true", help="time loading and compiling instead")
    parser.add_argument("--data", type=Path, help="keep the maps here, or take them from here")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--make", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.data, [int(index) for index in args.only.split(",")])
        return
    if args.make:
        make(Path(args.make[0]), (512, 512, int(args.make[1])))
        return
    with tempfile.TemporaryDirectory() as temporary:
        slices = 500 if args.evaluate else 300
        folder = (args.data or Path(temporary)) / str(slices)
        prepared(folder, slices)
        if args.evaluate:
            evaluate(folder, args.repeat)
        elif args.start:
            start(folder, args.repeat)
        else:
            table(folder, args.repeat, args.all)


if __name__ == "__main__":
    main()

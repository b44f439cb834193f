"""Time and peak memory of ``mskt run`` on a volume of clinical size, for several numbers of draws.

    python benchmarks/whole_run.py --shape 512,512,500 --samples 2,10

The volume is a phantom made at 2.5 mm and enlarged, so that making it does not take longer than the
run; what is measured is a process of its own, from reading to written results.
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
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from mskt.synthesis.phantom import make_phantom


def enlarged(path: Path, shape: tuple[int, int, int]) -> None:
    """Write the phantom of seed 1, enlarged to ``shape`` voxels."""
    image = make_phantom(1).image
    factors = np.asarray(shape) / image.data.shape
    data = ndimage.zoom(image.data, factors, order=1, mode="nearest", grid_mode=True)
    affine = image.affine.copy()
    affine[:3, :3] = affine[:3, :3] / factors
    file = nib.Nifti1Image(np.rint(data).astype(np.int16), affine)
    file.header["descrip"] = b"synthetic phantom, enlarged"
    nib.save(file, path)


def run(scan: Path, out: Path, samples: int, options: list[str]) -> dict[str, float]:
    """One process; wall and CPU seconds, and the stages as run.json has them."""
    command = [
        sys.executable,
        "-m",
        "mskt",
        "run",
        str(scan),
        "--out",
        str(out),
        "--overwrite",
        "-q",
        "--samples",
        str(samples),
        *options,
    ]
    begin = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with status {status}")
    facts = json.loads((out / scan.name.split(".")[0] / "run.json").read_text())
    return {
        "wall_s": time.perf_counter() - begin,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_gb": usage.ru_maxrss * 1024 / 1e9,
        **{f"{name}_s": value for name, value in facts["seconds"].items()},
    }


def main() -> None:
    """Print one line a number of draws."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="512,512,500")
    parser.add_argument("--samples", default="2,10")
    parser.add_argument("options", nargs="*", help="passed on to mskt run (after --)")
    args = parser.parse_args()
    shape = tuple(int(n) for n in args.shape.split(","))
    with tempfile.TemporaryDirectory() as folder:
        scan = Path(folder) / "large.nii.gz"
        enlarged(scan, shape)
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        print(f"{shape}, made with {own:.1f} GB", flush=True)
        for samples in args.samples.split(","):
            figures = run(scan, Path(folder) / "out", int(samples), args.options)
            per_slice = figures["segment_s"] / shape[2]
            print(
                f"T = {samples}: "
                + ", ".join(f"{k} {v:.2f}" for k, v in figures.items())
                + f"; network {per_slice:.3f} s per input slice",
                flush=True,
            )


if __name__ == "__main__":
    main()

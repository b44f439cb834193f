"""The real CT as clinics would send it: other spacings, cuts, turns, noise, kernels, a metal head.

    python scripts/disturb_real_ct.py make ../shared/ct/vhf_pelvis --out runs/disturbed
    mskt run runs/disturbed --weights unet_bayes-compact-vhf --calibration auto --out runs/disturbed-run
    python scripts/disturb_real_ct.py score runs/disturbed runs/disturbed-run

One real scan with a reference becomes 23, by resampling, cutting, turning and reconstruction alone: the
anatomy stays hers, and so do the reference's weaknesses (see ``score_real_ct.py``). What is shown is how
much is lost against the untouched scan. References lie beside the images as ``NAME.npz``: ``mskt run``
would take label images for scans. With ``--calibration`` the table also has how many of the structures
in view were judged to have failed.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from score_real_ct import GROUPS, dice, reference

from mskt.analysis.flags import OUTSIDE
from mskt.core.anatomy import label_set

LABELS = label_set("msk22")
AIR, WATER_PER_MM, PHOTONS, VIEWS = -1024.0, 0.02, 2e7, 300
LEAST_MM3 = 2_000
"""Of a group of structures in view; smaller slivers are not scored."""


class Scan(NamedTuple):
    """Hounsfield units and classes, (x, y, z), with one affine."""

    hu: NDArray[np.float32]
    classes: NDArray[np.uint8]
    affine: NDArray[np.float64]

    def cut(self, *where: slice) -> Scan:
        """A box of it, at its place."""
        start = [s.start or 0 for s in where] + [0] * (3 - len(where))
        affine = self.affine.copy()
        affine[:3, 3] = (self.affine @ [*start, 1])[:3]
        return Scan(self.hu[where], self.classes[where], affine)


def thick(scan: Scan, slices: int) -> Scan:
    """Means of neighbouring slices."""
    depth = scan.hu.shape[2] // slices
    hu = scan.hu[:, :, : depth * slices].reshape(*scan.hu.shape[:2], depth, slices).mean(axis=3)
    affine = scan.affine.copy()
    affine[:3, 3] = (scan.affine @ [0, 0, (slices - 1) / 2, 1])[:3]
    affine[:, 2] *= slices
    return Scan(hu, scan.classes[:, :, slices // 2 :: slices][:, :, :depth], affine)


def turned(scan: Scan, degrees: float, axes: tuple[int, int]) -> Scan:
    """About the middle of the scan; what comes in at its corners is air."""
    hu = ndimage.rotate(scan.hu, degrees, axes, reshape=False, order=1, cval=AIR)
    return Scan(
        hu, ndimage.rotate(scan.classes, degrees, axes, reshape=False, order=0), scan.affine
    )


def padded(scan: Scan, voxels: int) -> Scan:
    """Air around it in the plane."""
    pad = ((voxels, voxels), (voxels, voxels), (0, 0))
    affine = scan.affine.copy()
    affine[:3, 3] = (scan.affine @ [-voxels, -voxels, 0, 1])[:3]
    return Scan(np.pad(scan.hu, pad, constant_values=AIR), np.pad(scan.classes, pad), affine)


def flipped(scan: Scan, *axes: int) -> Scan:
    """The voxels the other way round and the affine as it was: a wrong header, or a mirrored patient."""
    return Scan(np.flip(scan.hu, axes), np.flip(scan.classes, axes), scan.affine)


def with_metal(scan: Scan, rng: np.random.Generator) -> Scan:
    """A metal head and cup in the first hip, as filtered back projection shows them.

    Each slice with metal is projected with two energies (metal takes most of the low one), counted in
    photons, and what differs from the scan without metal is reconstructed and added: streaks, noise and
    the loss behind the metal come from the physics and from none of mskt's own models.
    """
    femur = scan.classes == LABELS["femur"].index
    spacing = np.linalg.norm(scan.affine[:3, :3], axis=0)
    middle = np.argwhere(femur[: femur.shape[0] // 2]).mean(axis=0) * spacing
    middle[2] = 4
    offsets = [np.arange(n) * s - m for n, s, m in zip(scan.hu.shape, spacing, middle, strict=True)]
    radius = np.sqrt(sum(o.reshape(np.roll((-1, 1, 1), k)) ** 2 for k, o in enumerate(offsets)))
    metal = (radius < 15) | ((radius > 23) & (radius < 26) & (offsets[2] > -2))
    hu = scan.hu.copy()
    for z in np.flatnonzero(metal.any(axis=(0, 1))):
        hu[:, :, z] += _streaks(scan.hu[:, :, z], metal[:, :, z], float(spacing[0]), rng)
    hu[metal] = 3071
    return scan._replace(hu=hu)


def _streaks(
    hu: NDArray[np.float32], metal: NDArray[np.bool_], pixel_mm: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """HU that metal adds to a slice of square pixels."""
    size = int(1.2 * max(hu.shape))
    before = [(size - n) // 2 for n in hu.shape]
    pad = [(b, size - n - b) for b, n in zip(before, hu.shape, strict=True)]
    tissue = WATER_PER_MM * (np.pad(np.maximum(hu, -1000), pad, constant_values=-1000) / 1000 + 1)
    iron = np.pad(metal, pad).astype(np.float32)
    angles = np.linspace(0, 180, VIEWS, endpoint=False)
    soft, hard = (_projections(one, angles) * pixel_mm for one in (tissue * (1 - iron), iron))

    def passed(metal_mm: NDArray[np.float32]) -> NDArray[np.float32]:
        return 0.5 * (np.exp(-1.1 * soft - 0.35 * metal_mm) + np.exp(-0.9 * soft - 0.12 * metal_mm))

    counted = rng.poisson(passed(hard) * PHOTONS) + rng.normal(0, 8, soft.shape)
    wrong = -np.log(np.maximum(counted, 3) / PHOTONS) + np.log(passed(np.zeros_like(hard)))
    ramp = 2 * np.abs(np.fft.fftfreq(2 * size))[:, None]
    filtered = np.fft.ifft(np.fft.fft(wrong, 2 * size, axis=0) * ramp, axis=0).real[:size]
    found = np.zeros((size, size), np.float32)
    for k, angle in enumerate(angles):
        beam = np.broadcast_to(filtered[:, k], (size, size))
        found += ndimage.rotate(beam, -angle, reshape=False, order=1)
    found *= np.pi / (2 * VIEWS) / pixel_mm / WATER_PER_MM * 1000
    inside = tuple(slice(b, b + n) for b, n in zip(before, hu.shape, strict=True))
    return found[inside]


def _projections(image: NDArray[np.float32], angles: NDArray[np.float64]) -> NDArray[np.float32]:
    views = (ndimage.rotate(image, angle, reshape=False, order=1) for angle in angles)
    return np.stack([one.sum(axis=0) for one in views], axis=1)


def variants(scan: Scan) -> Iterator[tuple[str, Scan]]:
    """Every variant by name."""
    hu, classes = scan.hu, scan.classes
    rng = np.random.default_rng(0)
    yield "as it is", scan
    for slices in (2, 3, 5):
        yield f"slices of {slices} mm", thick(scan, slices)
    half, depth = hu.shape[0] // 2, hu.shape[2]
    everything = slice(None)
    yield "upper half", scan.cut(everything, everything, slice(depth // 2, None))
    yield "lower half", scan.cut(everything, everything, slice(0, depth // 2))
    yield "middle third", scan.cut(everything, everything, slice(depth // 3, 2 * depth // 3))
    yield "one side", scan.cut(slice(0, half))
    low, high = (f(np.argwhere(classes), axis=0) for f in (np.min, np.max))
    box = (slice(max(a - 3, 0), b + 4) for a, b in zip(low[:2], high[:2], strict=True))
    yield "cut to the muscles", scan.cut(*box, everything)
    yield "air around", padded(scan, 60)
    yield "rolled 15 degrees", turned(scan, 15, (0, 1))
    yield "tilted 12 degrees", turned(scan, 12, (1, 2))
    for sd in (25, 60):
        yield f"noise {sd} HU", scan._replace(hu=hu + rng.normal(0, sd, hu.shape))
    yield "sharp kernel", scan._replace(hu=hu + 1.5 * (hu - ndimage.gaussian_filter(hu, 1.0)))
    yield "soft kernel", scan._replace(hu=ndimage.gaussian_filter(hu, (1.2, 1.2, 0.5)))
    yield "stored in -200 to 300 HU", scan._replace(hu=np.clip(hu, -200, 300))
    bright = (hu > 25) & (hu < 70) & (classes == 0)
    yield "unlabelled tissue 60 HU brighter", scan._replace(hu=np.where(bright, hu + 60, hu))
    yield "metal head and cup", with_metal(scan, rng)
    yield "mirrored", flipped(scan, 0)
    yield "head and foot exchanged", flipped(scan, 2)
    yield "front and back exchanged", flipped(scan, 1)
    yield "turned by 180 degrees", flipped(scan, 0, 1)


def make(folder: Path, out: Path) -> None:
    """Write them all."""
    image = nib.load(folder / "ct.nii.gz")
    scan = Scan(
        np.asarray(image.dataobj, np.float32), reference(folder, LABELS), np.array(image.affine)
    )
    out.mkdir(parents=True, exist_ok=True)
    for name, one in variants(scan):
        stem = name.replace(" ", "_")
        hu = np.clip(np.round(one.hu), AIR, 3071).astype(np.int16)
        nib.save(nib.Nifti1Image(hu, one.affine), out / f"{stem}.nii.gz")
        np.savez_compressed(out / f"{stem}.npz", classes=one.classes)
        print(name, hu.shape)


def score(made: Path, run: Path) -> None:
    """Print a table: Dice by group, the mean over groups, and what was judged to have failed."""
    print(f"| scan | {' | '.join(GROUPS)} | mean | failed |")
    print("|---|" + "---|" * (len(GROUPS) + 2))
    for file in sorted(made.glob("*.npz")):
        stem = file.stem
        image = nib.load(run / stem / f"{stem}_dseg.nii.gz")
        found, truth = np.asarray(image.dataobj), np.load(file)["classes"]
        least = LEAST_MM3 / abs(np.linalg.det(image.affine[:3, :3]))
        indices = [[LABELS[part].index for part in parts] for parts in GROUPS.values()]
        values = [
            dice(found, truth, some) if np.isin(truth, some).sum() > least else np.nan
            for some in indices
        ]
        cells = ["" if np.isnan(value) else f"{value:.3f}" for value in values]
        told = [stem.replace("_", " "), *cells, f"{np.nanmean(values):.3f}", _failed(run / stem)]
        print(f"| {' | '.join(told)} |")


def _failed(case: Path) -> str:
    if not (case / "flags.tsv").exists():
        return ""
    with (case / "flags.tsv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["reason"] != OUTSIDE]
    return f"{sum(row['flag'] == 'failed' for row in rows)} of {len(rows)}"


def main() -> None:
    """Two commands."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make")
    making.add_argument("folder", type=Path)
    making.add_argument("--out", type=Path, required=True)
    scoring = commands.add_parser("score")
    scoring.add_argument("made", type=Path)
    scoring.add_argument("run", type=Path)
    args = parser.parse_args()
    if args.command == "make":
        make(args.folder, args.out)
    else:
        score(args.made, args.run)


if __name__ == "__main__":
    main()

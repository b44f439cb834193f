"""The cohort of phantoms against Table 6 of Soufi et al. (2024): volumes, densities, ratios of sides.

    python benchmarks/cohort_table.py --count 50 --spacing 4

Every phantom is made as ``mskt phantom`` makes it and measured on its own image and labels. The
table says for every structure and side what the cohort's mean is, what the paper's is, and whether it
is as near as it must be: volume over squared height ±10 %, mean HU ±3 (bones ±10), affected over
unaffected volume ±0.05. It ends with 1 if anything is not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np

from mskt.core.anatomy import Structure, label_set
from mskt.synthesis.cohort import atoms_of, draw_patient, posture, volume_table
from mskt.synthesis.labelmap import LEFT_OFFSET, MIDLINE
from mskt.synthesis.phantom import make_phantom
from mskt.synthesis.tissue import mean_hu_table

VOLUME, RATIO = 0.10, 0.05
HU: Mapping[str, float] = {"muscle": 3.0, "bone": 10.0}
Measured = dict[tuple[str, str], tuple[float, float]]


def measure(seed: int, spacing_mm: float) -> Measured:
    """(structure, side of the disease) to cm³/m² and mean HU of one phantom."""
    phantom = make_phantom(seed, spacing_mm=(spacing_mm, spacing_mm, spacing_mm))
    labels = phantom.labels.data.ravel()
    count = np.bincount(labels, minlength=256)
    total = np.bincount(labels, weights=phantom.image.data.ravel(), minlength=256)
    height_m = phantom.person["height_m"]
    found: Measured = {}
    for name in volume_table():
        for side in ("right", "left"):
            shift = LEFT_OFFSET if side == "left" and not atoms_of(name) & MIDLINE else 0
            codes = [atom + shift for atom in sorted(atoms_of(name))]
            affected = "affected" if side == phantom.person["affected_side"] else "unaffected"
            voxels = count[codes].sum()
            cm3 = voxels * spacing_mm**3 / 1000
            found[name, affected] = (cm3 / height_m**2, float(total[codes].sum() / voxels))
    return found


def goal(name: str, affected: bool) -> tuple[float, float]:
    """cm³/m² and HU of the paper."""
    atom = min(atoms_of(name))
    return volume_table()[name][not affected], mean_hu_table()[atom][not affected]


def rows(cohort: list[Measured]) -> Iterator[tuple[list[str], bool]]:
    """Lines of the table, and whether each holds."""
    for structure in label_set("msk22").structures:
        sides = ["affected", "unaffected"]
        volume = {s: _mean(cohort, structure, s, 0) for s in sides}
        ratio = volume["affected"] / volume["unaffected"]
        wanted = volume_table()[structure.name]
        for side in sides[: 1 if atoms_of(structure.name) & MIDLINE else 2]:
            target, target_hu = goal(structure.name, side == "affected")
            hu = _mean(cohort, structure, side, 1)
            off, off_hu = volume[side] / target - 1, hu - target_hu
            fine = abs(off) <= VOLUME and abs(off_hu) <= HU[structure.tissue]
            line = [
                structure.name,
                side,
                f"{target:.1f}",
                f"{volume[side]:.1f}",
                f"{100 * off:+.1f} %",
            ]
            line += [f"{target_hu:.1f}", f"{hu:.1f}", f"{off_hu:+.1f}"]
            if side == "affected":
                paper = wanted[0] / wanted[1]
                fine &= abs(ratio - paper) <= RATIO
                line += [f"{paper:.2f}", f"{ratio:.2f}"]
            else:
                line += ["", ""]
            yield [*line, "ok" if fine else "**not**"], fine


def _mean(cohort: list[Measured], structure: Structure, side: str, which: int) -> float:
    return float(np.mean([one[structure.name, side][which] for one in cohort]))


def posture_factors(cohort: list[Measured], seeds: range) -> dict[str, float]:
    """What stands in the package's table as ``posture``, measured again."""
    patients = [draw_patient(seed) for seed in seeds]
    found = {}
    for name, before in posture().items():
        drawn = sum(sum(p.volumes_cm3[name]) / p.height_m**2 for p in patients)
        got = sum(one[name, side][0] for one in cohort for side in ("affected", "unaffected"))
        found[name] = before * got / drawn / (2 if atoms_of(name) & MIDLINE else 1)
    return found


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50, help="phantoms, seeds 1, 2, …")
    parser.add_argument("--spacing", type=float, default=4.0, metavar="MM")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--posture", action="store_true", help="print these factors instead")
    args = parser.parse_args()
    seeds = range(1, args.count + 1)
    with ProcessPoolExecutor(args.jobs) as pool:
        cohort = []
        for one in pool.map(partial(measure, spacing_mm=args.spacing), seeds):
            cohort.append(one)
            print(f"{len(cohort)} of {args.count}", end="\r", file=sys.stderr, flush=True)
    if args.posture:
        print("\n".join(f"{n},{f:.3f}" for n, f in posture_factors(cohort, seeds).items()))
        return
    head = "structure|side|cm³/m², paper|phantoms|off by|HU, paper|phantoms|off by|ratio, paper|phantoms|"
    print(f"| {head.replace('|', ' | ')} |\n|{'---|' * 11}")
    everything = True
    for line, fine in rows(cohort):
        print(f"| {' | '.join(line)} |")
        everything &= fine
    sys.exit(not everything)


if __name__ == "__main__":
    main()

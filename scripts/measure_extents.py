"""Measure between which body coordinates each atom lies, for the region check.

    python scripts/measure_extents.py ../shared/anatomy src/mskt/core/data/extents.tsv

Sources are the three label maps and six parametric persons. An end counts only in sources that go on
beyond it; where none does, the table leaves it open.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mskt.core.anatomy import LEFT_OFFSET, atoms
from mskt.core.atomic import write_bytes
from mskt.core.regions import coordinate
from mskt.synthesis.labelmap import LabelMap
from mskt.synthesis.parametric import canonical_labels
from mskt.synthesis.source import PreparedSource, prepare

NEAR_END_MM = 8.0
PEOPLE = ("bp3d_male", "vh_female", "vh_male")
PERSONS = 6
ENDS_WITH_SOURCE = ("psoas_major_proximal",)
"""Reaches higher than any other label: the maps end with it, not before it."""


def sources(folder: Path) -> Iterator[PreparedSource]:
    """Maps, then parametric persons."""
    for name in PEOPLE:
        yield prepare(
            LabelMap.from_file(folder / f"{name}_labels_2mm.nii.gz", folder / "labels.json")
        )
    for person in range(PERSONS):
        yield prepare(canonical_labels(70_000 + person, spacing_mm=3.0))


def ends(source: PreparedSource) -> dict[str, tuple[float, float]]:
    """Lower and upper end of each atom in body coordinates; NaN where the source ends first."""
    heights = source.origin_mm[2] + source.step_mm[2] * np.arange(source.labels.shape[2])
    labelled = heights[(source.labels > 0).any(axis=(0, 1))]
    knee = float(source.skeleton.knee[:, 2].mean())
    found = {}
    for name, atom in atoms().items():
        mask = np.isin(source.labels, (atom.index, atom.index + LEFT_OFFSET)).any(axis=(0, 1))
        if not mask.any():
            continue
        z = heights[mask]
        low, high = coordinate(
            np.array([z[0], z[-1]]), knee_mm=knee, crest_mm=source.skeleton.crest_z
        )
        found[name] = (
            np.nan if z[0] - labelled[0] < NEAR_END_MM else float(low),
            np.nan
            if labelled[-1] - z[-1] < NEAR_END_MM and name not in ENDS_WITH_SOURCE
            else float(high),
        )
    return found


def main() -> None:
    """Write the table."""
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    measured = [ends(source) for source in sources(folder)]
    lines = [
        "# Extent of each atom in body coordinates (mskt.core.regions), over "
        f"{len(PEOPLE)} label maps and {PERSONS} parametric persons; empty: no source shows the end.",
        "# scripts/measure_extents.py",
        "atom\tlow\thigh\tsources",
    ]
    for name in atoms():
        pairs = np.array([m[name] for m in measured if name in m])
        if not len(pairs):
            continue
        low = "" if np.isnan(pairs[:, 0]).all() else f"{np.nanmin(pairs[:, 0]):.2f}"
        high = "" if np.isnan(pairs[:, 1]).all() else f"{np.nanmax(pairs[:, 1]):.2f}"
        lines.append(f"{name}\t{low}\t{high}\t{len(pairs)}")
        spread = [np.round(pairs[:, side], 2).tolist() for side in (0, 1)]
        print(name, spread)
    write_bytes(out, ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    main()

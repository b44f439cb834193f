"""Regenerate the packaged shape table from the label maps it was measured on.

    python scripts/measure_anatomy.py ../shared/anatomy

The label maps are not part of this repository; the same maps give the same bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mskt.synthesis import shape_table
from mskt.synthesis.measure import measure_people

OUTPUT = Path(__file__).parents[1] / "src" / "mskt" / "synthesis" / shape_table.PACKAGED


def main() -> None:
    """Measure, save, and say how large the table became."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("../shared/anatomy"))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    table = measure_people(args.folder)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    shape_table.save(table, args.output)
    size_kb = args.output.stat().st_size / 1024
    outlines = sum(len(loops) for loops in table.contours.values())
    print(f"{args.output}: {outlines} contours at {len(table.levels_mm)} levels, {size_kb:.0f} KiB")


if __name__ == "__main__":
    main()

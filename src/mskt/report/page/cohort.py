"""The page of many cases: which to look at, what failed, and how the structures are distributed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from mskt.core.records import read_csv
from mskt.report.flagged import WORST_FIRST
from mskt.report.outputs import FAILED, FLAGS, RESULTS, RUN, own_sides, read_json
from mskt.report.page.content import read_flags
from mskt.report.page.overview import (
    FEWEST,
    METRICS,
    OUTLIER,
    QUANTITIES,
    case_lines,
    methods,
    structure_lines,
)
from mskt.report.page.rendering import number, render
from mskt.report.page.rows import FLAG_WORDS


def cohort_page(root: Path) -> str:
    """The page of all cases below ``root``.

    Args:
        root: what ``mskt run --out`` was given.
    """
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    runs = {f.name: run for f in folders if (run := read_json(f / RUN)) is not None}
    failed = {
        f.name: str(content.get("reason", ""))
        for f in folders
        if f.name not in runs and (content := read_json(f / FAILED)) is not None
    }
    table = root / RESULTS
    records = [
        record
        for record in own_sides(read_csv(table, METRICS) if table.exists() else [])
        if record.case_id in runs
    ]
    judged = {name: read_flags(root / name / FLAGS) for name in runs}
    flags = {
        name: [(row.structure, row.side, row.flag, row.predicted_dice) for row in rows]
        for name, rows in judged.items()
    }
    cases = case_lines(root, runs, records, flags)
    return render(
        "cohort.html.j2",
        cases=cases,
        failed=failed,
        structures=structure_lines(records, flags),
        judged=any(flags.values()),
        synthetic=sum(case.synthetic for case in cases),
        methods=methods(runs.values()),
        counted=Counter(flag for rows in flags.values() for _, _, flag, _ in rows),
        order=(*WORST_FIRST, "ok"),
        words=FLAG_WORDS,
        quantities=[title for _, title in QUANTITIES],
        with_dice=any(record.metric == "dice" for record in records),
        fewest=FEWEST,
        outlier=OUTLIER,
        number=number,
    )

"""Write the pages: one a case, and one over all cases."""

from __future__ import annotations

from pathlib import Path

from mskt.core import atomic
from mskt.core.volume import Volume
from mskt.report.outputs import REPORT
from mskt.report.page import case, cohort
from mskt.report.page.content import read_case


def write_case_page(root: Path, case_id: str, image: Volume | None) -> Path:
    """Write ``root/case_id/report.html`` from what the run left there; returns its path.

    Args:
        root: what ``mskt run --out`` was given.
        case_id: a finished case.
        image: the CT that was segmented; None leaves grey slices, tissues and histograms out.

    Raises:
        InputError: the folder of the case is not whole, or the image lies on another grid.
        OutputError: the page cannot be written.
    """
    content = read_case(root, case_id)
    target = root / case_id / REPORT
    atomic.write_text(target, case.page(content, image))
    return target


def write_cohort_page(root: Path) -> Path:
    """Write ``root/report.html`` over all finished and failed cases; returns its path.

    Raises:
        OutputError: the page cannot be written.
    """
    target = root / REPORT
    atomic.write_text(target, cohort.cohort_page(root))
    return target

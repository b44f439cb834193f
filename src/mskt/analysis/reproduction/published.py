"""What the papers print, to stand beside a user's own figures: another population, never a target."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from functools import cache
from importlib import resources

ANOTHER = "published values are of another population: other patients, scanners and annotators"
CITATIONS: Mapping[str, str] = {
    "Hiasa 2020": "IEEE Transactions on Medical Imaging 2020, doi 10.1109/TMI.2019.2940555",
    "Soufi 2024": "Scientific Reports 2025, doi 10.1038/s41598-024-83793-7 (preprint 2024)",
    "Kim 2024": "Scientific Reports 2024, doi 10.1038/s41598-024-53707-8",
    "Haque 2019": "arXiv:1911.09249",
}
_KIM_NAMES = {"fascia_latae": "tensor_fasciae_latae"}
"""Kim 2024 shortens one name."""


@cache
def table(name: str) -> tuple[Mapping[str, str], ...]:
    """Read the rows of a published table, cells as text.

    Args:
        name: of the file without ``.csv``.
    """
    file = resources.files(__package__).joinpath("published", f"{name}.csv")
    return tuple(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))


def number(cell: str | None) -> float | None:
    """Read a cell as a number; None where the paper prints none."""
    if not cell:
        return None
    value = float(cell)
    return None if math.isnan(value) else value


def lookup(name: str, key: str, value: str, column: str) -> float | None:
    """Find the cell ``column`` of the row whose ``key`` is ``value``; None if there is none."""
    row = next((row for row in table(name) if row[key] == value), None)
    return None if row is None else number(row[column])


def kim(structure: str, column: str) -> float | None:
    """Look up a muscle in the table of Kim 2024, figure 5, by mskt's name of it."""
    own = {mskt: theirs for theirs, mskt in _KIM_NAMES.items()}
    return lookup("kim2024_fig5_per_muscle", "structure", own.get(structure, structure), column)


def headline(paper: str, model: str, dataset: str, metric: str) -> tuple[float, float | None]:
    """Value and standard deviation of one row of the headline results.

    Raises:
        KeyError: there is no such row.
    """
    for row in table("headline_results"):
        if (row["paper"], row["model"], row["dataset"], row["metric"]) == (
            paper,
            model,
            dataset,
            metric,
        ):
            return float(row["value"]), number(row["sd"])
    raise KeyError((paper, model, dataset, metric))


def mean_sd(value: tuple[float | None, float | None], digits: int) -> str:
    """Write ``0.891 ± 0.016``; a dash where the paper prints nothing."""
    mean, sd = value
    if mean is None:
        return "–"
    return f"{mean:.{digits}f}" + ("" if sd is None else f" ± {sd:.{digits}f}")

"""Read back what a cell has left in its folders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mskt.core.records import Record, read_csv
from mskt.report.outputs import FAILED, RESULTS, CaseFolder, read_json

DONE, PARTIAL, FAILED_CELL = "done", "partial", "failed"


@dataclass(frozen=True)
class CellResult:
    """What is known of one cell.

    Attributes:
        name: of the contestant; ``uncertainty`` and ``device`` as asked for.
        status: ``done``, ``partial``, ``failed`` or ``incompatible``.
        reason: why it is not done; empty where it is.
        cases: of the benchmark, in order.
        records: rows of the cases that are done.
        runs: ``run.json`` of each of them.
        failed: reason by case.
        outside: seconds by case of a tool that is timed from outside; None for the others.
        processes: what each process took.
        trained: trained here, on the other folds; with the seconds it took in ``training_seconds``.
    """

    key: str
    name: str
    uncertainty: str
    device: str
    status: str
    reason: str
    cases: tuple[str, ...]
    records: tuple[Record, ...]
    runs: Mapping[str, Mapping[str, Any]]
    failed: Mapping[str, str]
    outside: Mapping[str, float] | None = None
    processes: tuple[Mapping[str, Any], ...] = ()
    trained: bool = False
    training_seconds: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What figures and tests call it."""
        return f"{self.name} + {self.uncertainty}"


def read_folders(
    parts: Iterable[tuple[Path, Sequence[str]]],
) -> tuple[tuple[Record, ...], dict[str, dict[str, Any]], dict[str, str]]:
    """Rows and ``run.json`` of the finished cases, and the reasons of the failed ones.

    Args:
        parts: run folders and the cases that are looked for in each.
    """
    records: list[Record] = []
    runs: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    for root, cases in parts:
        for case in cases:
            folder = CaseFolder(root, case)
            run = folder.run()
            if run is not None:
                runs[case] = run
                records += read_csv(folder.path / RESULTS)
                continue
            note = read_json(folder.path / FAILED)
            if note is not None:
                failed[case] = " ".join(str(note.get("reason", "")).split())
    return tuple(records), runs, failed


def status_of(cases: Sequence[str], done: int, failed: Mapping[str, str]) -> tuple[str, str]:
    """Status and reason of a cell that could begin."""
    if done == len(cases):
        return DONE, ""
    reasons = list(dict.fromkeys(failed.values()))
    more = f" (and {len(reasons) - 1} other reasons)" if len(reasons) > 1 else ""
    missing = len(cases) - done
    unit = "case" if len(cases) == 1 else "cases"
    said = reasons[0] if reasons else "not done"
    return (
        PARTIAL if done else FAILED_CELL,
        f"{missing} of {len(cases)} {unit} failed: {said}{more}",
    )


def renamed(result: CellResult, several_devices: bool) -> list[Record]:
    """Rows for the table over all cells: under the contestant's name, with the device where needed."""
    name = f"{result.name}@{result.device}" if several_devices else result.name
    return [replace(row, segmenter=name, uncertainty=result.uncertainty) for row in result.records]

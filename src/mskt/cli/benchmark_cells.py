"""Do the cells: each part in a process of its own, until every case is done or has failed."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mskt.cli.benchmark_child import FAILED
from mskt.cli.benchmark_data import listed
from mskt.cli.benchmark_options import without_folders
from mskt.cli.benchmark_process import Ended, start
from mskt.cli.console import INTERRUPTED
from mskt.cli.options import RunOptions
from mskt.core import atomic
from mskt.report import collection
from mskt.report.outputs import FAILED as FAILED_FILE
from mskt.report.outputs import RUN, CaseFolder, read_json, write_json

if TYPE_CHECKING:
    from mskt.cli.benchmark_data import Data
    from mskt.cli.benchmark_options import BenchmarkOptions, Cell
    from mskt.cli.benchmark_process import Say
    from mskt.core.cases import Case
    from mskt.core.registry import Registry

CELL, PROCESSES = "cell.json", "processes.json"
MOST_CRASHES = 3
"""Processes in a row that die without finishing a case; then the rest is given up."""


@dataclass(frozen=True)
class Part:
    """Cases that one model does: all of them, or those of one fold.

    Attributes:
        folder: a run folder.
        options: of the segmenter, for this part only: weights or atlases.
        broken: why there is no model; empty where there is one.
    """

    folder: Path
    cases: tuple[Case, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    broken: str = ""


@dataclass(frozen=True)
class Fault:
    """Why a part could not be done: ``incompatible`` or ``failed``."""

    kind: str
    reason: str


def finished(part: Part, case: Case) -> bool:
    """True if a case has its results."""
    return CaseFolder(part.folder, case.case_id).run() is not None


def do_part(
    cell: Cell, part: Part, data: Data, options: BenchmarkOptions, plugins: Registry, say: Say
) -> Fault | None:
    """Do the cases of a part that are not done; returns why that was not possible.

    A case during which the process dies counts as failed, and another process does the others.
    """
    if part.broken:
        return Fault(FAILED, part.broken)
    left = [case for case in part.cases if not finished(part, case)]
    crashes = 0
    while left:
        before = sum(finished(part, case) for case in part.cases)
        fault, ended = _process(cell, part, left, data, options, plugins, say)
        if fault is not None:
            return fault
        if ended is None:  # it came to its end: every case is done or has failed
            return None
        unsettled = [case for case in left if not _settled(part, case)]
        if not unsettled:
            return None
        dead, *left = unsettled
        done = sum(finished(part, case) for case in part.cases)
        crashes = 1 if done > before else crashes + 1
        _bury(part, dead, ended)
        if crashes >= MOST_CRASHES and done == 0:
            return Fault(FAILED, f"{crashes} processes in a row died: {_clean(ended.why)}")
    return None


def _settled(part: Part, case: Case) -> bool:
    """Done or failed in this call."""
    folder = part.folder / case.case_id
    return (folder / RUN).exists() or (folder / FAILED_FILE).exists()


def _bury(part: Part, case: Case, ended: Ended) -> None:
    """Write down that a case has taken its process with it."""
    bury(part.folder, case.case_id, f"the process died: {_clean(ended.why)}", ended.seconds)


def bury(root: Path, case_id: str, reason: str, seconds: float) -> None:
    """Note a case as failed, in the folder of a run as :mod:`mskt.cli.runner` does."""
    folder = CaseFolder(root, case_id)
    folder.begin()
    folder.fail(reason, seconds, "")
    collection.write_tables(root)


def _process(
    cell: Cell,
    part: Part,
    cases: Sequence[Case],
    data: Data,
    options: BenchmarkOptions,
    plugins: Registry,
    say: Say,
) -> tuple[Fault | None, Ended | None]:
    """One process for these cases: a fault, or how it died, or neither."""
    atomic.make_folder(part.folder)
    for case in cases:  # what failed in an earlier call is tried again
        (part.folder / case.case_id / FAILED_FILE).unlink(missing_ok=True)
    before = {case.case_id for case in part.cases if finished(part, case)}
    with listed(cases) as table, tempfile.TemporaryDirectory(prefix="mskt-cell-") as folder:
        answer = Path(folder) / "answer.json"
        run = run_options(cell, part, data, options, plugins, table)
        # A tool's masks are only read: nothing is slow once, and no time of it is shown.
        warm_up = options.warm_up and not cell.contestant.command
        request = {"options": asdict(run), "answer": str(answer), "warm_up": warm_up}
        ended = start(
            [sys.executable, "-m", "mskt.cli.benchmark_child"],
            text=json.dumps(request, default=_plain),
            say=say,
        )
        told = read_json(answer)
    if ended.interrupted or (told is not None and told.get("code") == INTERRUPTED):
        raise KeyboardInterrupt
    done = sum(case.case_id not in before and finished(part, case) for case in part.cases)
    _note(part.folder, ended, told or {}, done)
    if told is None:
        return None, ended
    if "kind" in told:
        return Fault(told["kind"], _clean(told["reason"])), None
    return None, None


def run_options(
    cell: Cell,
    part: Part,
    data: Data,
    options: BenchmarkOptions,
    plugins: Registry,
    cases: Path,
) -> RunOptions:
    """The call of ``mskt run`` that the part is."""
    from mskt.cli.building import takes

    extra = {**cell.contestant.options, **part.options}
    uncertainty = cell.uncertainty if not cell.contestant.command else "deterministic"
    asked: dict[str, Any] = {"samples": options.samples, "aggregation": options.aggregation}
    device = "cpu" if cell.contestant.command else cell.device
    segmenter = cell.contestant.segmenter
    quicker = takes(plugins, "segmenter", segmenter, "fast") or takes(
        plugins, "uncertainty", uncertainty, "samples"
    )
    return RunOptions(
        inputs=(cases,),
        out=part.folder,
        segmenter=segmenter,
        uncertainty=uncertainty,
        weights=_text(extra.pop("weights", None)),
        backbone=_text(extra.pop("backbone", None)),
        extra=extra,
        seed=options.seed,
        fast=(options.fast and quicker) or None,
        device=device,
        threads=options.threads,
        label_set=data.label_set or None,
        allow=options.allow,
        resume=True,
        **{
            name: value
            for name, value in asked.items()
            if value is not None and takes(plugins, "uncertainty", uncertainty, name)
        },
    )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, frozenset) else str(value)


def _clean(text: str) -> str:
    return without_folders(" ".join(text.split()))


def _note(folder: Path, ended: Ended, told: Mapping[str, Any], done: int) -> None:
    """Add what a process took to the record; a resumed part has several."""
    known = read_json(folder / PROCESSES) or {"processes": []}
    own = {
        "seconds": ended.seconds,
        "exit_code": ended.code,
        "peak_memory_bytes": ended.peak_memory_bytes,
        "cases_done": done,
        **{key: told.get(key) for key in ("energy_j", "torch", "threads", "gpu")},
    }
    write_json(folder / PROCESSES, {"processes": [*known["processes"], own]})


def parts_of(folder: Path, cases: Sequence[Case], folds: Sequence[Sequence[str]]) -> Iterator[Part]:
    """One part, or one for each fold with the cases that it holds out."""
    if not folds:
        yield Part(folder, tuple(cases))
        return
    for number, held in enumerate(folds):
        mine = tuple(case for case in cases if case.case_id in held)
        yield Part(folder / f"fold{number}", mine)

"""The benchmark: cases × segmenters × uncertainties, cell by cell, then one content for all outputs.

From Python::

    from pathlib import Path
    from mskt.cli.benchmarking import BenchmarkOptions, benchmark

    found = benchmark(BenchmarkOptions(
        segmenters=["unet_bayes"], uncertainties=["deterministic", "mcdropout"],
        data="phantom:db1?n=3", out=Path("bench"), quiet=True,
    ))
    found["cells"][0]["dice"]["mean"]
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mskt.cli import benchmark_cells as running
from mskt.cli import benchmark_training as training
from mskt.cli.benchmark_cells import Part
from mskt.cli.benchmark_child import INCOMPATIBLE
from mskt.cli.benchmark_data import DATA, Data, listed, open_cases
from mskt.cli.benchmark_external import MASKS, run_tool, shown_command
from mskt.cli.benchmark_options import BenchmarkOptions, Cell, Contestant, plain, without_folders
from mskt.cli.benchmark_process import Say
from mskt.cli.sources import SYNTHETIC_MARK
from mskt.core import atomic
from mskt.core.errors import UsageError
from mskt.report import collection
from mskt.report.benchmark import cells as reading
from mskt.report.outputs import read_json, write_json

if TYPE_CHECKING:
    from mskt.core.cases import Case
    from mskt.core.registry import Registry

__all__ = ["BenchmarkOptions", "benchmark"]

CALL, CELLS, EXTERNAL = "call.json", "cells", "external"
RESULTS, JSON, TEXT, PAGE = "results.csv", "benchmark.json", "benchmark.md", "benchmark.html"
_OWN_FOLDERS = (CELLS, EXTERNAL, training.TRAINING, DATA)


def benchmark(options: BenchmarkOptions, say: Say = lambda _: None) -> dict[str, Any]:
    """Do what the call says and write its outputs.

    Args:
        options: the call; ``json``, ``quiet`` and ``verbose`` do nothing here.
        say: gets lines about progress.

    Returns:
        What ``benchmark.json`` says.

    Raises:
        UsageError: the call is wrong.
        InputError: the data cannot be used.
    """
    from mskt.core.registry import registry

    options.check()
    cells = options.cells()
    plugins = registry()
    _check_names(cells, plugins)
    if options.overwrite:
        _clear(options.out)
    data = open_cases(options, lambda facts: _agree(options, facts), say)
    folds = training.folds_of(data, options.folds, options.seed) if options.folds else []
    if folds:
        training.prepare(options, data, folds)
    work = _Work(options, data, folds, plugins, say)
    results = [
        work.do(cell, f"[{number}/{len(cells)}] {cell.key}")
        for number, cell in enumerate(cells, start=1)
    ]
    return _written(options, data, folds, results)


def _check_names(cells: Sequence[Cell], plugins: Registry) -> None:
    """Refuse names that nobody announces before anything is computed."""
    for cell in cells:
        plugins.find("segmenter", cell.contestant.segmenter)
        if not cell.contestant.command:
            plugins.find("uncertainty", cell.uncertainty)


def _clear(out: Path) -> None:
    """Remove what a benchmark has written here, and nothing else."""
    if (out / CALL).is_file():
        for name in _OWN_FOLDERS:
            shutil.rmtree(out / name, ignore_errors=True)
        (out / CALL).unlink()


def _agree(options: BenchmarkOptions, facts: Mapping[str, Any]) -> None:
    """Cells in one folder share everything but who competes; finished work is not lost by accident.

    Raises:
        UsageError: there are results and no ``--resume``, or they were made by another call.
    """
    from mskt import __version__

    call = {"mskt": __version__, **facts, **_settings(options)}
    who = {one.name: _identity(one) for one in options.contestants()}
    known = read_json(options.out / CALL)
    if known is not None:
        if not options.resume:
            raise UsageError(
                str(options.out),
                "holds a benchmark already.",
                "--resume goes on with it, --overwrite begins again; or choose another --out.",
            )
        before = known["contestants"]
        changed = collection.differences(known["call"], call)
        changed += [
            f"{name}: {difference}"
            for name in who
            if name in before
            for difference in collection.differences(before[name], who[name])
        ]
        if changed:
            raise UsageError(
                str(options.out),
                f"holds a benchmark of another call ({'; '.join(changed)}).",
                "Repeat that call, choose another --out, or begin again with --overwrite. More "
                "segmenters, uncertainties and devices may be added at any time.",
            )
        who = {**before, **who}
    atomic.make_folder(options.out)
    write_json(options.out / CALL, {"call": call, "contestants": who})


def _settings(options: BenchmarkOptions) -> dict[str, Any]:
    """What decides the numbers of all cells."""
    return {
        "seed": options.seed,
        "samples": options.samples,
        "aggregation": options.aggregation,
        "fast": options.fast,
        "folds": options.folds,
        "recipe": without_folders(options.recipe) if options.folds else None,
        "max_steps": options.max_steps,
        "classes": without_folders(options.classes) if options.folds else None,
        "warm_up": options.warm_up,
        "allow": sorted(options.allow),
    }


def _identity(one: Contestant) -> dict[str, Any]:
    return {
        "segmenter": one.segmenter,
        "options": {key: plain(value) for key, value in sorted(one.options.items())},
        "training": dict(sorted(one.training.items())),
        "command": shown_command(one.command),
    }


@dataclass
class _Work:
    """All cells of a call, one after the other.

    Attributes:
        trained: by contestant; training is done when the first of its cells needs it.
    """

    options: BenchmarkOptions
    data: Data
    folds: Sequence[Sequence[str]]
    plugins: Registry
    say: Say
    trained: dict[str, training.Trained] = field(default_factory=dict)

    def do(self, cell: Cell, title: str) -> reading.CellResult:
        """One cell, to its end or as far as it goes."""
        self.say(title)
        folder = self.options.out / CELLS / cell.key
        outside = self._tool(cell, folder) if cell.contestant.command else None
        with ExitStack() as stack:
            parts = self._parts(cell, folder, outside, stack)
            fault = self._do_parts(cell, parts)
        return self._result(cell, folder, parts, fault, outside)

    def _do_parts(self, cell: Cell, parts: Sequence[Part]) -> running.Fault | None:
        fault = None
        for part in parts:
            found = running.do_part(cell, part, self.data, self.options, self.plugins, self._line)
            fault = fault or found
            if found is not None:
                self._line(f"{found.kind}: {found.reason}")
                if found.kind == INCOMPATIBLE:
                    break
        return fault

    def _line(self, text: str) -> None:
        self.say(f"  {text}")

    def _parts(
        self,
        cell: Cell,
        folder: Path,
        outside: Mapping[str, Mapping[str, Any]] | None,
        stack: ExitStack,
    ) -> list[Part]:
        cases = self.data.cases
        if outside is not None:
            worked = tuple(case for case in cases if not outside[case.case_id]["reason"])
            masks = self.options.out / EXTERNAL / cell.contestant.name / MASKS
            return [Part(folder, worked, {"masks": str(masks)})]
        parts = list(running.parts_of(folder, cases, self.folds))
        if not self.folds:
            return parts
        return [self._with_model(cell, n, part, stack) for n, part in enumerate(parts)]

    def _with_model(self, cell: Cell, number: int, part: Part, stack: ExitStack) -> Part:
        """The part of a fold with the weights or atlases that did not see its cases."""
        one = cell.contestant
        if training.can_be_trained(one, self.plugins):
            trained = self._trained(one)
            if trained.reason:
                return replace(part, broken=trained.reason)
            return replace(part, options={"weights": str(trained.weights[number])})
        if _wants_atlases(one, self.plugins):
            others = [case for case in self.data.cases if case not in part.cases]
            table = stack.enter_context(listed(others, f"atlases-fold{number}.tsv"))
            return replace(part, options={"atlases": f"list:{table}"})
        return part

    def _trained(self, one: Contestant) -> training.Trained:
        if one.name not in self.trained:
            self._line(f"training {one.name}, {len(self.folds)} folds")
            self.trained[one.name] = training.train(
                one, self.options, self.data, len(self.folds), self._line
            )
        return self.trained[one.name]

    def _tool(self, cell: Cell, folder: Path) -> dict[str, dict[str, Any]]:
        home = self.options.out / EXTERNAL / cell.contestant.name
        told = run_tool(cell.contestant, self.data.cases, home, self._line)
        atomic.make_folder(folder)
        for case_id, one in told.items():
            if one["reason"]:
                running.bury(folder, case_id, one["reason"], one["seconds"])
        return told

    def _result(
        self,
        cell: Cell,
        folder: Path,
        parts: Sequence[Part],
        fault: running.Fault | None,
        outside: Mapping[str, Mapping[str, Any]] | None,
    ) -> reading.CellResult:
        names = tuple(case.case_id for case in self.data.cases)
        looked = [(part.folder, _ids(part.cases)) for part in parts]
        if outside is not None:  # those whose tool failed stand in the cell's folder too
            looked = [(folder, names)]
        records, runs, failed = reading.read_folders(looked)
        if outside is not None:
            records = tuple(r for r in records if r.metric.partition(":")[0] != "uncertainty")
        status, reason = reading.status_of(names, len(runs), failed)
        if fault is not None:
            status = reading.PARTIAL if runs else fault.kind
            reason = fault.reason
        return reading.CellResult(
            cell.key,
            cell.contestant.name,
            cell.uncertainty,
            cell.device,
            status,
            reason,
            names,
            records,
            runs,
            failed,
            None if outside is None else {name: one["seconds"] for name, one in outside.items()},
            self._processes(parts, outside),
            **self._training_facts(cell),
            facts={"command": shown_command(cell.contestant.command)} if outside else {},
        )

    def _training_facts(self, cell: Cell) -> dict[str, Any]:
        trained = self.trained.get(cell.contestant.name)
        atlases = bool(self.folds) and _wants_atlases(cell.contestant, self.plugins)
        return {
            "trained": trained is not None or atlases,
            "training_seconds": trained.seconds if trained else None,
        }

    def _processes(
        self, parts: Sequence[Part], outside: Mapping[str, Mapping[str, Any]] | None
    ) -> tuple[Mapping[str, Any], ...]:
        if outside is not None:
            return tuple(outside.values())
        notes = [read_json(part.folder / running.PROCESSES) or {} for part in parts]
        return tuple(one for note in notes for one in note.get("processes", ()))


def _ids(cases: Sequence[Case]) -> tuple[str, ...]:
    return tuple(case.case_id for case in cases)


def _wants_atlases(one: Contestant, plugins: Registry) -> bool:
    """Labelled cases are its training, and the user has named none."""
    from mskt.cli.building import takes

    return "atlases" not in one.options and takes(plugins, "segmenter", one.segmenter, "atlases")


def _written(
    options: BenchmarkOptions,
    data: Data,
    folds: Sequence[Sequence[str]],
    results: Sequence[reading.CellResult],
) -> dict[str, Any]:
    """Write all outputs; returns what ``benchmark.json`` says."""
    from mskt.core.records import to_csv
    from mskt.report.benchmark.content import content
    from mskt.report.benchmark.page import page
    from mskt.report.benchmark.text import markdown

    facts = _facts(options, data, folds, results)
    told = content(results, facts, SYNTHETIC_MARK, truncated=options.include_truncated)
    if data.unlabelled:
        told["notes"].append(f"{data.unlabelled} cases without reference labels are left out.")
    several = len(options.devices) > 1
    rows = [row for one in results for row in reading.renamed(one, several and not one.outside)]
    atomic.write_text(options.out / RESULTS, to_csv(rows))
    write_json(options.out / JSON, told)
    atomic.write_text(options.out / TEXT, markdown(told))
    atomic.write_text(options.out / PAGE, page(told))
    return told


def _facts(
    options: BenchmarkOptions,
    data: Data,
    folds: Sequence[Sequence[str]],
    results: Sequence[reading.CellResult],
) -> dict[str, Any]:
    from mskt import __version__

    return {
        "mskt": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": {
            "name": data.name,
            "kind": data.kind,
            "cases": len(data.cases),
            "patients": len(set(data.patient_of.values())),
            "folds": [list(fold) for fold in folds],
        },
        "settings": {**_settings(options), "include_truncated": options.include_truncated},
        "machine": _machine(results),
    }


def _machine(results: Sequence[reading.CellResult]) -> dict[str, Any]:
    known = [process for one in results for process in one.processes]

    def said(name: str) -> Any:
        return next((p[name] for p in known if p.get(name) is not None), None)

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        **{name: said(name) for name in ("torch", "threads", "gpu")},
    }


def _processor() -> str:
    """Its name where Linux tells it, else the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()

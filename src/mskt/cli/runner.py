"""The run: model once, then case by case; one that fails does not stop the others."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mskt.cli import memory
from mskt.cli.ahead import ReadAhead
from mskt.cli.behind import WriteBehind
from mskt.cli.building import Model, load_model, providers
from mskt.cli.case import CaseWork, Engine, Found
from mskt.cli.console import INTERRUPTED, SOME_FAILED, Reporter, print_json, stderr
from mskt.cli.options import RunOptions, run_id
from mskt.cli.sources import Source, find
from mskt.core.errors import DeviceError, MsktError, OutputError

if TYPE_CHECKING:
    from mskt.analysis.flags import FlagRow
    from mskt.cli.judging import Chosen, Judge
    from mskt.core.records import Record
    from mskt.core.registry import Registry


@dataclass
class Outcome:
    """What became of the cases of this process.

    Attributes:
        judge: None without a calibration, or where nothing was left to do.
        flags: of each case done; empty lists without a calibration.
    """

    done: dict[str, list[Record]] = field(default_factory=dict)
    flags: dict[str, list[FlagRow]] = field(default_factory=dict)
    judge: Judge | None = None
    failed: dict[str, str] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)


def run(
    options: RunOptions, *, warmed_up: Callable[[], None] | None = None, warm_up: bool = True
) -> int:
    """Do what the call says; returns the exit code.

    Args:
        options: the call.
        warmed_up: for whoever measures times: the first case is done once more beforehand, into a
            folder that is thrown away, and then this is called. The results are the same.
        warm_up: False leaves that one out.
    """
    from mskt.cli.judging import choose
    from mskt.core import atomic
    from mskt.core.registry import registry
    from mskt.report import collection

    options.check()
    plugins = registry()
    provided = providers(options, plugins)
    sources = {source.case_id: source for source in find(options, plugins)}
    model = cache(lambda: load_model(options, plugins))
    chosen = choose(options, model)
    settings = options.settings(provided, chosen.settings if chosen else None)
    plan = collection.plan(
        options.out,
        sources,
        settings,
        {
            case_id: size
            for case_id, source in sources.items()
            if (size := source.bytes) is not None
        },
        resume=options.resume,
        overwrite=options.overwrite,
    )
    engine = _build(options, plugins, settings, model(), chosen) if plan.todo else None
    atomic.make_folder(options.out)
    if options.num_parts == 1:  # else another part may be writing there
        atomic.sweep(options.out)
    outcome = Outcome(skipped=plan.done, judge=engine.judge if engine else None)
    reporter = Reporter(len(plan.todo), options.quiet or options.json)
    if outcome.judge and outcome.judge.note:
        reporter.say(outcome.judge.note, "bold yellow")
    try:
        todo = [sources[case_id] for case_id in plan.todo]
        # Whoever measures wants the time of reading, not of waiting for it.
        beside = warmed_up is None
        with (
            reporter.running(),
            ReadAhead(todo if beside else []) as images,
            WriteBehind(beside=beside) as behind,
        ):
            if warmed_up is not None and engine is not None:
                if warm_up:
                    _warm_up(todo[0], images, options, engine)
                warmed_up()
            for source in todo:
                assert engine is not None
                cases = _Cases(options, engine, outcome, reporter)
                cases.do(source, images, behind, last=source is todo[-1])
    except KeyboardInterrupt:
        stderr().print(
            f"Stopped. {len(outcome.done)} finished cases are kept; the same call with "
            "--resume does the others.",
            highlight=False,
        )
        return INTERRUPTED
    finally:
        collection.write_tables(options.out)
        if options.report:
            _write_cohort_page(options)
    _report(options, outcome)
    return SOME_FAILED if outcome.failed else 0


def _write_cohort_page(options: RunOptions) -> None:
    from mskt.report.page.pages import write_cohort_page

    write_cohort_page(options.out)


def _build(
    options: RunOptions,
    plugins: Registry,
    settings: Mapping[str, Any],
    model: Model,
    chosen: Chosen | None,
) -> Engine:
    """Put together what all cases share; refuse what does not fit before the first one is touched."""
    from mskt.analysis.evaluation import metrics_of
    from mskt.cli.judging import appoint

    return Engine(
        model,
        settings,
        str(model.facts.get("device", "cpu")),
        run_id(settings, model.facts),
        metrics_of(plugins),
        appoint(chosen, model, options, plugins) if chosen else None,
    )


def _warm_up(source: Source, images: ReadAhead, options: RunOptions, engine: Engine) -> None:
    """What is slow only once (caches, kernels, lazily read files) is done before times count."""
    with TemporaryDirectory(prefix="mskt-warm-up-") as folder:
        elsewhere = replace(options, out=Path(folder))
        cases = _Cases(elsewhere, engine, Outcome(), Reporter(1, quiet=True))
        with WriteBehind(beside=False) as behind:
            cases.do(source, images, behind, last=True)


@dataclass(frozen=True)
class _Cases:
    """Does one case after the other; what goes wrong with one is written down, and the run goes on."""

    options: RunOptions
    engine: Engine
    outcome: Outcome
    reporter: Reporter

    def do(self, source: Source, images: ReadAhead, behind: WriteBehind, *, last: bool) -> None:
        """Compute one case, and begin to write it.

        Raises:
            OutputError: nothing more can be written.
            DeviceError: nothing more can be computed.
        """
        from mskt.report.outputs import CaseFolder

        folder = CaseFolder(self.options.out, source.case_id)
        folder.begin()
        work = CaseWork(source, images, self.options, self.engine, self.reporter)
        with self._kept(work):
            found = work.compute()
            behind.do(lambda: self._write(work, found), last=last)

    def _write(self, work: CaseWork, found: Found) -> None:
        with self._kept(work):
            work.write(found)
            self.outcome.done[work.case_id] = found.records
            self.outcome.flags[work.case_id] = found.flags
            self.outcome.seconds[work.case_id] = work.seconds
            self.reporter.case(f"{work.case_id}: done in {work.seconds:.1f} s")

    @contextmanager
    def _kept(self, work: CaseWork) -> Iterator[None]:
        """Note what goes wrong with a case, unless nothing can go right with the next one either."""
        from mskt.report.outputs import CaseFolder

        try:
            yield
        except (OutputError, DeviceError):
            raise
        except Exception as error:
            reason = _reason(error, work)
            self.outcome.failed[work.case_id] = reason
            folder = CaseFolder(self.options.out, work.case_id)
            folder.fail(reason, work.seconds, self.engine.run_id)
            self.reporter.case(f"{work.case_id}: FAILED: {reason}", "red")
            if _device_lost(error):
                raise DeviceError(
                    "--device",
                    f"the GPU failed: {error}",
                    "Finished cases are kept; when it works again, the same call with --resume "
                    "does the others.",
                ) from error
            if self.options.verbose and not isinstance(error, MsktError):
                self.reporter.say("".join(traceback.format_exception(error)), "dim")


def _device_lost(error: Exception) -> bool:
    """After any error of CUDA but a lack of memory, the process cannot use the GPU again."""
    text = str(error)
    return isinstance(error, RuntimeError) and ("CUDA error" in text or "CUDA driver error" in text)


def _reason(error: Exception, work: CaseWork) -> str:
    """One line without paths for the table of cases."""
    if isinstance(error, MsktError):
        return ". ".join(line.strip().rstrip(".") for line in str(error).splitlines()) + "."
    if memory.ran_out(error):
        return memory.advice(work.shape, error)
    return f"unexpected {type(error).__name__}: {error}. This is a defect: run again with -v and report it."


def _report(options: RunOptions, outcome: Outcome) -> None:
    """The end of the run: tables for people, or JSON for programs."""
    from mskt.report import summary

    judge = outcome.judge
    if options.json:
        print_json(
            summary.as_json(
                options.out,
                outcome.done,
                outcome.failed,
                outcome.skipped,
                flags=outcome.flags,
                calibration={**judge.facts, "warnings": judge.warnings} if judge else None,
            )
        )
    elif not options.quiet:
        from mskt.cli.tables import print_summary

        print_summary(options.out, outcome, everything=options.verbose, report=options.report)

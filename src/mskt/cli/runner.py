"""The run: model once, then case by case; one that fails does not stop the others."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mskt.cli.ahead import ReadAhead
from mskt.cli.building import Model, load_model, providers
from mskt.cli.console import INTERRUPTED, SOME_FAILED, Reporter, print_json, stderr
from mskt.cli.options import RunOptions, run_id
from mskt.cli.sources import SYNTHETIC_MARK, Source, find
from mskt.core.errors import MsktError, OutputError

if TYPE_CHECKING:
    from mskt.analysis.assessment import Keys
    from mskt.analysis.calibration import FlagRow
    from mskt.cli.judging import Chosen, Judge
    from mskt.core.interfaces import Metric
    from mskt.core.pipeline import CaseResult
    from mskt.core.records import Record
    from mskt.core.registry import Registry
    from mskt.core.volume import Labels, Volume


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


@dataclass(frozen=True)
class Engine:
    """What is the same for all cases.

    Attributes:
        settings: what decides the numbers (:meth:`RunOptions.settings`).
        device: that the segmenter computes on.
        judge: None without a calibration.
    """

    model: Model
    settings: Mapping[str, Any]
    device: str
    run_id: str
    metrics: Sequence[Metric]
    judge: Judge | None = None


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
        ahead = todo if warmed_up is None else []
        with reporter.running(), ReadAhead(ahead) as images:
            if warmed_up is not None and engine is not None:
                if warm_up:
                    _warm_up(todo[0], images, options, engine)
                warmed_up()
            for source in todo:
                assert engine is not None
                _one(source, images, options, engine, outcome, reporter)
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
        _one(source, images, elsewhere, engine, Outcome(), Reporter(1, quiet=True))


def _one(
    source: Source,
    images: ReadAhead,
    options: RunOptions,
    engine: Engine,
    outcome: Outcome,
    reporter: Reporter,
) -> None:
    """One case; what goes wrong with it is written down, and the run goes on."""
    from mskt.report.outputs import CaseFolder

    begin = time.perf_counter()
    folder = CaseFolder(options.out, source.case_id)
    folder.begin()
    try:
        records, flags = _Case(source, images, options, engine, reporter).do()
    except OutputError:
        raise  # the next case could not be written either
    except Exception as error:
        reason = _reason(error)
        outcome.failed[source.case_id] = reason
        folder.fail(reason, time.perf_counter() - begin, engine.run_id)
        reporter.case(f"{source.case_id}: FAILED: {reason}", "red")
        if options.verbose and not isinstance(error, MsktError):
            reporter.say("".join(traceback.format_exception(error)), "dim")
        return
    outcome.done[source.case_id] = records
    outcome.flags[source.case_id] = flags
    outcome.seconds[source.case_id] = time.perf_counter() - begin
    reporter.case(f"{source.case_id}: done in {outcome.seconds[source.case_id]:.1f} s")


def _reason(error: Exception) -> str:
    """One line without paths for the table of cases."""
    if isinstance(error, MsktError):
        return ". ".join(line.strip().rstrip(".") for line in str(error).splitlines()) + "."
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return (
            "memory ran out. Close other programs, use --device cpu, or crop the image to hip "
            "and thigh."
        )
    return f"unexpected {type(error).__name__}: {error}. This is a defect: run again with -v and report it."


class _Case:
    """The stages of one case, each timed."""

    def __init__(
        self,
        source: Source,
        images: ReadAhead,
        options: RunOptions,
        engine: Engine,
        reporter: Reporter,
    ) -> None:
        self._source = source
        self._images = images
        self._options = options
        self._engine = engine
        self._reporter = reporter
        self._seconds: dict[str, float] = {}
        self._notes: list[str] = []

    def do(self) -> tuple[list[Record], list[FlagRow]]:
        """Load, segment, assess, evaluate, judge, write."""
        from mskt.core.pipeline import segment_case
        from mskt.core.volume import Subject
        from mskt.report.outputs import restrict

        begin = time.perf_counter()
        with self._stage("load"):
            image = self._images.load(self._source)
        # A segmenter that looks things up for a case (``precomputed``) knows it by this.
        image = replace(image, source={**image.source, "case_id": self._source.case_id})
        if self._options.height_m is not None:
            image = replace(image, subject=Subject(self._options.height_m, image.subject.weight_kg))
        result = segment_case(
            image,
            self._engine.model.segmenter,
            self._engine.model.estimator,
            seed=self._options.seed,
            progress=self._tell,
        )
        self._seconds.update(result.seconds)
        for note in result.notes:
            self._reporter.say(f"{self._source.case_id}: {note}", "yellow")
        labels = result.labels
        if self._options.roi_subset:
            labels = restrict(labels, self._options.roi_subset)
        with self._stage("assess"):
            records = self._assess(image, labels, result)
            judged, flags = self._judge(records)
        records += judged
        self._write(image, labels, result, records, flags, begin)
        return records, flags

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        self._tell(name, 0.0)
        yield
        self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - begin

    def _tell(self, stage: str, part: float) -> None:
        self._reporter.stage(self._source.case_id, stage, part)

    def _assess(self, image: Volume, labels: Labels, result: CaseResult) -> list[Record]:
        from mskt.analysis.assessment import Doubt, Keys, assess
        from mskt.report.outputs import NOT_EVALUATED

        keys = Keys(
            self._source.case_id,
            SYNTHETIC_MARK if self._source.synthetic else "",
            self._options.segmenter,
            self._options.uncertainty,
            self._engine.run_id,
        )
        records = assess(
            labels,
            image,
            result.sides,
            Doubt(
                result.uncertainty,
                result.unit,
                result.measure,
                self._engine.model.estimator.aggregation,
                result.structurewise,
                self._engine.model.estimator.further,
            ),
            keys=keys,
            truncated=result.truncated,
        )
        if self._source.reference is None:
            return records
        try:
            return records + self._evaluate(image, labels, result, keys)
        except MsktError as error:
            # The segmentation stands; only the comparison is missing, and the user is told.
            self._note(f"{NOT_EVALUATED}: {error}")
            return records

    def _evaluate(
        self, image: Volume, labels: Labels, result: CaseResult, keys: Keys
    ) -> list[Record]:
        """Compare with the reference labels that came with the case."""
        from mskt.analysis.evaluation import compare

        assert self._source.reference is not None
        reference = self._source.reference(labels.label_set)
        return compare(
            labels,
            reference.labels,
            self._engine.metrics,
            keys=keys,
            image=image,
            prediction_sides=result.sides,
            reference_sides=reference.sides,
        )

    def _judge(self, records: list[Record]) -> tuple[list[Record], list[FlagRow]]:
        """Predicted Dice and flags; nothing without a calibration."""
        judge = self._engine.judge
        if judge is None:
            return [], []
        if judge.note:  # every case is marked; on the terminal it was said once for all
            self._notes.append(judge.note)
        return judge.judge(records)

    def _note(self, text: str) -> None:
        line = " ".join(text.split())
        self._notes.append(line)
        self._reporter.say(f"{self._source.case_id}: {line}", "yellow")

    def _write(
        self,
        image: Volume,
        labels: Labels,
        result: CaseResult,
        records: list[Record],
        flags: list[FlagRow],
        begin: float,
    ) -> None:
        from mskt.report import preview
        from mskt.report.outputs import CaseFolder, split_sides

        folder = CaseFolder(self._options.out, self._source.case_id)
        mark = f"{SYNTHETIC_MARK}; " if self._source.synthetic else ""
        text = f"{mark}mskt {self._engine.settings['mskt']} research use"
        info = self._engine.model.info
        with self._stage("write"):
            stored = split_sides(labels, result.sides) if self._options.split_sides else labels
            folder.write_labels(stored, image, text)
            folder.write_uncertainty(result.uncertainty, info, image, text)
            folder.write_records(records)
            if self._engine.judge is not None:
                folder.write_flags(flags)
        with self._stage("preview"):
            caption = self._caption(flags)
            folder.write_preview(
                preview.render(image, labels, result.sides, result.uncertainty, caption)
            )
        checksum = self._source.checksum()
        self._seconds["total"] = time.perf_counter() - begin
        folder.finish(self._run_json(image, result, checksum))
        if self._options.report:
            self._write_page(image)

    def _write_page(self, image: Volume) -> None:
        """After ``run.json``, which it shows; without it the case is done all the same."""
        from mskt.report.page.pages import write_case_page

        self._tell("report", 0.0)
        try:
            write_case_page(self._options.out, self._source.case_id, image)
        except OutputError:
            raise
        except MsktError as error:
            self._reporter.say(f"{self._source.case_id}: no report.html: {error}", "yellow")

    def _caption(self, flags: list[FlagRow]) -> Any:
        from mskt.report.flagged import remarks
        from mskt.report.preview import Caption

        model, judge = self._engine.model, self._engine.judge
        info = model.info
        draws = f"{info.draws} draw{'s' if info.draws != 1 else ''}"
        method = (
            f"mskt {self._engine.settings['mskt']} · {self._options.segmenter} + "
            f"{info.estimator}, {draws} · label set {model.segmenter.label_set.name}"
        )
        return Caption(
            self._source.case_id,
            method,
            info.measure,
            info.unit,
            self._source.synthetic,
            () if judge is None else remarks(flags, judge.origin, judge.warnings),
        )

    def _run_json(
        self, image: Volume, result: CaseResult, checksum: dict[str, Any]
    ) -> dict[str, Any]:
        from dataclasses import asdict

        from mskt.report.outputs import RUN_SCHEMA

        model, judge = self._engine.model, self._engine.judge
        return {
            "schema": RUN_SCHEMA,
            "case_id": self._source.case_id,
            "run_id": self._engine.run_id,
            "synthetic": self._source.synthetic,
            "settings": self._engine.settings,
            "segmenter": model.facts,
            "uncertainty": asdict(model.info),
            "draws_mean": round(result.structurewise.drawn, 2),
            **({} if judge is None else {"calibration": judge.facts}),
            "label_set": model.segmenter.label_set.name,
            "device": self._engine.device,
            "threads": _threads(),
            "input": checksum,
            "grid": {
                "shape": list(image.data.shape),
                "spacing_mm": [round(s, 6) for s in image.spacing_mm],
            },
            "notes": [*image.notes, *result.notes, *self._notes],
            "removed_voxels": dict(result.removed),
            "seconds": {name: round(value, 3) for name, value in self._seconds.items()},
            **_peak_memory(self._engine.device),
        }


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _peak_memory(device: str) -> dict[str, int | None]:
    """Largest memory of the process so far, and of the GPU, in bytes."""
    import sys

    peak = None
    if sys.platform != "win32":
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    gpu = None
    if device.startswith("cuda"):
        import torch

        gpu = torch.cuda.max_memory_allocated(device)
    return {"peak_memory_bytes": peak, "peak_gpu_memory_bytes": gpu}


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

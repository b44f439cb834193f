"""One case: load, segment, assess, judge; then write what came of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mskt.cli.ahead import ReadAhead
from mskt.cli.building import Model
from mskt.cli.console import Reporter
from mskt.cli.options import RunOptions
from mskt.cli.sources import SYNTHETIC_MARK, Source
from mskt.core.errors import MsktError, OutputError

if TYPE_CHECKING:
    from mskt.analysis.assessment import Keys
    from mskt.analysis.flags import FlagRow
    from mskt.cli.judging import Judge
    from mskt.core.interfaces import Metric
    from mskt.core.pipeline import CaseResult
    from mskt.core.records import Record
    from mskt.core.volume import Labels, Volume
    from mskt.report.outputs import CaseFolder


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


@dataclass(frozen=True)
class Found:
    """What was computed of a case.

    Attributes:
        labels: as they are written; not all of the result's with ``--roi-subset``.
        flags: empty without a calibration.
    """

    image: Volume
    labels: Labels
    result: CaseResult
    records: list[Record]
    flags: list[FlagRow]


class CaseWork:
    """The stages of one case, each timed; the clock stands still between computing and writing.

    Args:
        source: the case.
        images: gives its image.
        options: the call.
        engine: what all cases share.
        reporter: is told how far it is.

    Attributes:
        case_id: of the source.
        shape: of the image; None until it is read.
    """

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
        self._spent = 0.0
        self.shape: tuple[int, ...] | None = None
        self.case_id = source.case_id

    @property
    def seconds(self) -> float:
        """Wall time spent on it so far, without waiting for others."""
        return self._spent

    def compute(self) -> Found:
        """Load, segment, assess, evaluate, judge."""
        with self._spending():
            return self._compute()

    def _compute(self) -> Found:
        from mskt.core.pipeline import segment_case
        from mskt.core.volume import Subject
        from mskt.report.outputs import restrict

        with self._stage("load"):
            image = self._images.load(self._source)
        self.shape = image.data.shape
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
        return Found(image, labels, result, records + judged, flags)

    @contextmanager
    def _spending(self) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._spent += time.perf_counter() - begin

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
        from mskt.analysis.flags import scan_in_question

        judge = self._engine.judge
        if judge is None:
            return [], []
        if judge.note:  # every case is marked; on the terminal it was said once for all
            self._notes.append(judge.note)
        judged, flags = judge.judge(records)
        if whole := scan_in_question(flags):
            self._note(whole)
        return judged, flags

    def _note(self, text: str) -> None:
        line = " ".join(text.split())
        self._notes.append(line)
        self._reporter.say(f"{self._source.case_id}: {line}", "yellow")

    def write(self, found: Found) -> None:
        """All files of the case; ``run.json``, which says that it is done, comes last.

        Raises:
            OutputError: they cannot be written.
        """
        from mskt.report.outputs import CaseFolder

        folder = CaseFolder(self._options.out, self._source.case_id)
        # The maps are compressed while the picture is drawn.
        with self._spending(), ThreadPoolExecutor(1, thread_name_prefix="maps") as beside:
            maps = beside.submit(self._write_maps, folder, found)
            with self._stage("preview"):
                self._write_preview(folder, found)
            maps.result()
            checksum = self._source.checksum()
        self._seconds["total"] = self._spent
        folder.finish(self._run_json(found.image, found.result, checksum))
        if self._options.report:
            self._write_page(found.image)

    def _write_maps(self, folder: CaseFolder, found: Found) -> None:
        from mskt.report.outputs import split_sides

        image, labels, sides = found.image, found.labels, found.result.sides
        mark = f"{SYNTHETIC_MARK}; " if self._source.synthetic else ""
        text = f"{mark}mskt {self._engine.settings['mskt']} research use"
        with self._stage("write"):
            stored = split_sides(labels, sides) if self._options.split_sides else labels
            folder.write_labels(stored, image, text)
            folder.write_uncertainty(found.result.uncertainty, self._engine.model.info, image, text)
            folder.write_records(found.records)
            if self._engine.judge is not None:
                folder.write_flags(found.flags)

    def _write_preview(self, folder: CaseFolder, found: Found) -> None:
        from mskt.report import preview

        result, caption = found.result, self._caption(found.flags)
        folder.write_preview(
            preview.render(found.image, found.labels, result.sides, result.uncertainty, caption)
        )

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

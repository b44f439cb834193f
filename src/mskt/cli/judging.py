"""The calibration of a run: which one, whether it fits, and what it says of each case."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mskt.cli.building import Model, takes
from mskt.core.errors import InputError, MsktError, UsageError

if TYPE_CHECKING:
    from mskt.analysis.calibration import Calibration
    from mskt.analysis.flags import FlagRow
    from mskt.cli.options import RunOptions
    from mskt.core.records import Record
    from mskt.core.registry import Registry

AUTO = "auto"


@dataclass(frozen=True)
class Chosen:
    """A calibration as it was read.

    Attributes:
        file: its name, without folder.
        sha256: of its bytes.
    """

    file: str
    sha256: str
    calibration: Calibration

    @property
    def settings(self) -> dict[str, str]:
        """What tells it from others among the settings of a run."""
        return {"calibration": self.file, "calibration_sha256": self.sha256}


@dataclass(frozen=True)
class Judge:
    """A calibration that fits the run, or was forced on it.

    Attributes:
        note: what differs from the method calibrated; empty where all agrees.
    """

    chosen: Chosen
    note: str = ""

    def judge(self, records: Sequence[Record]) -> tuple[list[Record], list[FlagRow]]:
        """Predict the Dice of each structure of a case.

        Args:
            records: of one case, whose :meth:`Chosen.calibration` metric is among them.

        Returns:
            Further rows for ``results.csv``, and the flags.
        """
        from mskt.analysis.flags import apply

        return apply(self.chosen.calibration, records)

    @property
    def facts(self) -> dict[str, Any]:
        """What ``run.json`` says of it."""
        made = self.chosen.calibration
        known = made.provenance
        return {
            "file": self.chosen.file,
            "sha256": self.chosen.sha256,
            "metric": made.metric,
            "coverage": made.coverage,
            "cases": known.cases,
            "patients": known.patients,
            "synthetic": known.synthetic_cases > 0,
            "synthetic_cases": known.synthetic_cases,
            "forced": bool(self.note),
        }

    @property
    def origin(self) -> str:
        """What the predictions rest on, in a few words."""
        known = self.chosen.calibration.provenance
        return f"{self.chosen.file}, {known.cases} calibration cases"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know before believing a prediction; mostly nothing."""
        return tuple(self._warnings())

    def _warnings(self) -> Iterator[str]:
        known = self.chosen.calibration.provenance
        if known.synthetic_cases:
            whole = known.synthetic_cases == known.cases
            part = "All" if whole else f"{known.synthetic_cases} of the {known.cases}"
            yield (
                f"{part} calibration cases were synthetic phantoms: not to be believed for patients."
            )
        if self.note:
            yield self.note


def choose(options: RunOptions, model: Callable[[], Model]) -> Chosen | None:
    """Read the calibration that the call names; None if it names none.

    Args:
        options: the call.
        model: loads the method, which ``auto`` asks for.

    Raises:
        UsageError: there is no such file or name, it is no whole calibration, or ``auto`` finds
            none or several that fit.
    """
    if options.calibration is None:
        return None
    if options.calibration == AUTO:
        return _automatic(model())
    return _read(_path(options.calibration))


def appoint(chosen: Chosen, model: Model, options: RunOptions, plugins: Registry) -> Judge:
    """Refuse a calibration that does not fit the method, unless it is forced.

    Raises:
        UsageError: it was made for another method, or of a row of the results that this run does
            not have, which cannot be forced.
    """
    try:
        note = _difference(chosen, model, options.force_calibration)
    except UsageError as error:
        raise UsageError(
            chosen.file,
            error.fault,
            f"{error.remedy}\n--force-calibration uses it all the same and marks every case.",
        ) from error
    if not _has_metric(chosen, model):
        raise UsageError(
            chosen.file,
            f"judges by {chosen.calibration.metric!r}, which this run would not have.",
            _what_to_add(chosen.calibration.metric, options, plugins),
        )
    return Judge(chosen, note)


def _path(text: str) -> Path:
    from mskt.analysis import shipped_calibrations as shipped

    path = Path(text)
    if text in shipped.names():
        return shipped.find(text)
    if path.is_file():
        return path
    # "hips" may be a misspelt name, "hips.json" and "../hips" are files.
    if path.is_dir() or path.suffix or len(path.parts) > 1:
        fault = "is a folder." if path.is_dir() else "does not exist."
        raise UsageError(
            f"--calibration {text}", fault, "Give the file that mskt calibrate has written."
        )
    return shipped.find(text)


def _read(path: Path) -> Chosen:
    from mskt.analysis.calibration import Calibration

    try:
        data = path.read_bytes()
        made = Calibration.from_json(data.decode("utf-8"), path.name)
    except OSError as error:
        raise UsageError(
            path.name, f"cannot be read ({error.strerror}).", "Choose another --calibration."
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            path.name, "is no text.", "Give the file that mskt calibrate has written."
        ) from error
    except InputError as error:  # a wrong argument of the call, not a case that fails
        raise UsageError(error.thing, error.fault, error.remedy) from error
    return Chosen(path.name, hashlib.sha256(data).hexdigest(), made)


def _automatic(model: Model) -> Chosen:
    """Find the one shipped calibration that fits; several are not chosen among."""
    from mskt.analysis import shipped_calibrations as shipped

    fitting, others = [], []
    for name in shipped.names():
        one = _read(shipped.find(name))
        try:
            _difference(one, model, force=False)
        except UsageError as error:
            others.append(f"{name} {error.fault}")
            continue
        if _has_metric(one, model):
            fitting.append(one)
        else:
            others.append(f"{name} judges by {one.calibration.metric!r}.")
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        several = ", ".join(one.file.removesuffix(shipped.SUFFIX) for one in fitting)
        raise UsageError("--calibration auto", f"several fit: {several}.", "Name one of them.")
    there = others or ["None comes with this version."]
    raise UsageError(
        "--calibration auto",
        "no shipped calibration fits this method.",
        "\n".join([*there, "Make one with mskt calibrate, or leave --calibration out."]),
    )


def _difference(chosen: Chosen, model: Model, force: bool) -> str:
    method = model.method
    return chosen.calibration.check_fits(
        method.segmenter,
        method.weights_sha256,
        method.estimator,
        method.measure,
        method.label_set,
        aggregation=method.aggregation,
        draws=method.draws,
        force=force,
    )


def _has_metric(chosen: Chosen, model: Model) -> bool:
    from mskt.analysis.assessment import metrics_of_run

    estimator = model.estimator
    return chosen.calibration.metric in metrics_of_run(estimator.measure, estimator.further)


def _what_to_add(metric: str, options: RunOptions, plugins: Registry) -> str:
    """Say by which option the run would have the metric, after trying that it would."""
    from mskt.analysis.assessment import metrics_of_run

    if takes(plugins, "uncertainty", options.uncertainty, "measures"):
        try:
            every = plugins.get(
                "uncertainty",
                options.uncertainty,
                **{**options.estimator_options, "measures": "all"},
            )
        except MsktError:
            pass
        else:
            if metric in metrics_of_run(every.measure, every.further):
                return (
                    "Add --measures all, or of them the one of that name "
                    f"('mskt plugins info {options.uncertainty}')."
                )
    return "No option of this uncertainty adds it. Calibrate another --metric."

"""``mskt calibrate``: from results with references to predicted Dice, lower bounds and flags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mskt.core.errors import InputError, UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from mskt.analysis.calibration import Calibration, Provenance
    from mskt.analysis.failure import Interval, Score
    from mskt.analysis.pairs import Pairs
    from mskt.analysis.trial import Figures, Trial
    from mskt.report.finished import Finished


@dataclass(frozen=True)
class CalibrateOptions:
    """What the user asked for."""

    results: tuple[Path, ...]
    out: Path
    metric: str = "uncertainty"
    coverage: float = 0.9
    tests: tuple[Path, ...] = ()
    figure: Path | None = None
    overwrite: bool = False
    json: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        own: the calibration on its own cases, each judged without its patient.
        test: on the cases of ``--test``; None without.
        notes: what must be said beside the figures.
    """

    calibration: Calibration
    own: Trial
    test: Trial | None
    notes: tuple[str, ...]


def calibrate_command(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULTS...",
            help="Folders of mskt run whose cases had reference labels; several for the folds of a "
            "cross-validation.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="File for the calibration (.json).", show_default=False),
    ],
    metric: Annotated[
        str,
        typer.Option(help="Which row of the results is the doubt: larger must be less certain."),
    ] = "uncertainty",
    coverage: Annotated[
        float, typer.Option(help="Part of structures that the lower bound on Dice should hold for.")
    ] = 0.9,
    test: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder with results of other patients, to try the calibration on; may be repeated.",
            show_default=False,
        ),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="Picture: reliability of the predicted Dice, risk–coverage curve of the doubt.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say errors only.")] = False,
) -> None:
    """Learn from cases with references how far to trust cases without.

    Writes what mskt run --calibration needs to state a predicted Dice, a lower bound and a flag for
    every structure.
    """
    calibrate(
        CalibrateOptions(
            tuple(results), out, metric, coverage, tuple(test or ()), figure, overwrite, json, quiet
        )
    )


def calibrate(options: CalibrateOptions) -> Outcome:
    """Read, fit, try, write and tell.

    Raises:
        UsageError: the file exists, results of different methods are mixed, or the metric is unknown.
        InputError: results are missing, incomplete, without Dice, or of too few patients.
    """
    from mskt.analysis import trial
    from mskt.analysis.fitting import calibrate as fit
    from mskt.analysis.pairs import pairs_of
    from mskt.core import atomic
    from mskt.report.finished import read_finished

    for file in (options.out, options.figure):
        if file is not None and file.exists() and not options.overwrite:
            raise UsageError(
                file.name, "exists already.", "--overwrite replaces it; or choose another name."
            )
    finished = read_finished(options.results)
    pairs = pairs_of(finished.records, options.metric)
    made = fit(pairs, options.metric, options.coverage, _provenance(finished, pairs))
    notes = _notes(made, pairs)
    tested = None
    if options.tests:
        others, remarks = _test_pairs(options, finished, made)
        tested = trial.on_other_cases(made, others)
        notes += remarks
    outcome = Outcome(made, trial.leave_one_patient_out(made, pairs), tested, tuple(notes))
    atomic.make_folder(options.out.absolute().parent)
    atomic.write_text(options.out, made.to_json())
    if options.figure is not None:
        _draw(options.figure, outcome)
    _tell(options, outcome)
    return outcome


def _draw(target: Path, outcome: Outcome) -> None:
    from mskt.core import atomic
    from mskt.report.reliability import picture

    trials = {"calibration cases, each without its patient": outcome.own}
    if outcome.test is not None:
        trials["test"] = outcome.test
    atomic.make_folder(target.absolute().parent)
    atomic.write_bytes(target, picture(trials))


def _provenance(finished: Finished, pairs: Pairs) -> Provenance:
    """Say what the calibration is of; refuses a mixture of methods."""
    from datetime import date

    from mskt import __version__
    from mskt.analysis.calibration import Provenance
    from mskt.report.finished import common_method

    used = sorted({*map(str, pairs.case_id)})
    method, same_but_weights = common_method({case: finished.methods[case] for case in used})
    return Provenance(
        segmenter=method.segmenter,
        weights=tuple(dict.fromkeys(m.weights for m in same_but_weights if m.weights)),
        weights_sha256=tuple(
            dict.fromkeys(m.weights_sha256 for m in same_but_weights if m.weights_sha256)
        ),
        estimator=method.estimator,
        measure=method.measure,
        aggregation=method.aggregation,
        draws=method.draws,
        label_set=method.label_set,
        cases=len(used),
        patients=0,
        pairs=0,
        synthetic_cases=len(finished.synthetic.intersection(used)),
        rows_sha256="",
        date=date.today().isoformat(),
        mskt=__version__,
    )


def _notes(made: Calibration, pairs: Pairs) -> list[str]:
    """Say what a reader must know beside the figures, the most important first."""
    known = made.provenance
    notes = []
    if known.synthetic_cases:
        part = "All" if known.synthetic_cases == known.cases else f"{known.synthetic_cases}"
        notes.append(
            f"{part} of the {known.cases} cases are synthetic phantoms, no patients: predictions for "
            "patients made from them are not to be believed."
        )
    if len(known.weights_sha256) > 1:
        notes.append(
            f"{len(known.weights_sha256)} sets of weights (folds) are calibrated together; weights "
            "trained anew on all cases are another method."
        )
    if made.pooled.missed:
        notes.append(
            f"{made.pooled.missed} structures were not found at all; they have no doubt, are in no "
            "figure here. mskt run flags them as failed where the scan should show them."
        )
    if pairs.without_doubt:
        notes.append(f"{pairs.without_doubt} Dice without {made.metric}: left out.")
    notes += [f"{fit.structure}: {note}." for fit in made.structures for note in fit.notes]
    notes += [f"{made.pooled.structure}: {note}." for note in made.pooled.notes]
    return notes


def _test_pairs(
    options: CalibrateOptions, finished: Finished, made: Calibration
) -> tuple[Pairs, list[str]]:
    """Read the cases of ``--test``; none may be among those calibrated."""
    from mskt.analysis.pairs import pairs_of
    from mskt.report.finished import common_method, read_finished

    others = read_finished(options.tests)
    known = {digest: case for case, digest in finished.inputs.items() if digest}
    for case, digest in others.inputs.items():
        if digest in known:
            raise UsageError(
                "--test",
                f"case {case!r} is the same image as {known[digest]!r}, which is calibrated.",
                "Test on other patients: on its own cases every calibration looks good.",
            )
    pairs = pairs_of(others.records, options.metric)
    if not pairs.found.any():
        raise InputError("--test", f"has no case with both Dice and {options.metric}", "")
    used = {*map(str, pairs.case_id)}
    method, all_weights = common_method({case: others.methods[case] for case in used})
    note = made.check_fits(
        method.segmenter,
        [m.weights_sha256 for m in all_weights],
        method.estimator,
        method.measure,
        method.label_set,
        aggregation=method.aggregation,
        draws=method.draws,
        force=True,
    )
    notes = [f"--test: {note}"] if note else []
    if synthetic := len(others.synthetic & used):
        notes.append(f"--test: {synthetic} of {len(used)} cases are synthetic phantoms.")
    return pairs, notes


def _tell(options: CalibrateOptions, outcome: Outcome) -> None:
    """Show tables to people, JSON to programs."""
    from mskt.cli.console import print_json, stderr, stdout

    if options.json:
        print_json(_plain(options, outcome))
        return
    if options.quiet:
        return
    known = outcome.calibration.provenance
    console = stdout()
    console.print(
        table(
            outcome.own,
            f"{known.segmenter} + {known.estimator}: {known.cases} calibration cases, "
            "each judged without its patient",
        )
    )
    _tell_below(console, outcome.own, outcome.calibration)
    if outcome.test is not None:
        cases = outcome.test.cases
        console.print(table(outcome.test, f"Test: {cases} other case{'s' * (cases != 1)}"))
        _tell_below(console, outcome.test, outcome.calibration)
    remarks = stderr()
    for note in outcome.notes:
        remarks.print(note, style="dim", markup=False, highlight=False, soft_wrap=True)


def _plain(options: CalibrateOptions, outcome: Outcome) -> dict[str, Any]:
    return {
        "calibration": options.out.name,
        "provenance": asdict(outcome.calibration.provenance),
        "metric": options.metric,
        "coverage": options.coverage,
        "leave_one_patient_out": asdict(outcome.own),
        "test": None if outcome.test is None else asdict(outcome.test),
        "notes": outcome.notes,
    }


def table(found: Trial, title: str) -> Table:
    """One line a structure, then the means of cases, then all structures pooled."""
    from rich.table import Table

    shown = Table(title=title, title_justify="left")
    shown.add_column("structure", no_wrap=True)
    for name in ("n", "missed", "r", "AUROC inacc.", "AUROC failed", "MAE", "coverage"):
        shown.add_column(name, justify="right", no_wrap=True)
    for figures in found.structures:
        shown.add_row(*_cells(figures))
    shown.add_section()
    shown.add_row(*_cells(found.case_means))
    shown.add_row(*_cells(found.pooled))
    return shown


def _cells(figures: Figures) -> Sequence[str]:
    def auroc(score: Score, bad: int) -> str:
        value = _number(score, 2)
        return f"{value} ({bad})" if bad or score.value is not None else value

    coverage = figures.coverage.value
    return (
        figures.structure,
        str(figures.pairs),
        str(figures.missed or ""),
        _number(figures.r, 2),
        auroc(figures.auroc_inaccurate, figures.inaccurate),
        auroc(figures.auroc_failed, figures.failed),
        _number(figures.mae, 3),
        "–" if coverage is None else f"{coverage:.2f} (n={figures.bounded})",
    )


def _number(score: Score, digits: int) -> str:
    return "–" if score.value is None else f"{score.value:.{digits}f}"


def _tell_below(console: Console, found: Trial, made: Calibration) -> None:
    """Say what the columns mean, the intervals, and whether the bound held."""
    lines = [
        "n: pairs of Dice and doubt. AUROC: of the doubt, in brackets how many were inaccurate or "
        "failed; –: undefined. MAE: of the predicted Dice.",
        f"coverage: part whose Dice is at least its lower bound; {made.coverage:g} was asked for.",
        "all structures, 95 % intervals over patients: "
        + ", ".join(f"{name} {_interval(i)}" for name, i in found.intervals.items()),
        f"AURC {_number(found.aurc, 4)}, E-AURC {_number(found.e_aurc, 4)}, "
        f"AUGRC {_number(found.augrc, 4)}, calibration error {_number(found.calibration_error, 3)}",
    ]
    for line in lines:
        console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)
    if warning := breakdown(found, made):
        console.print(warning, style="bold red", markup=False, highlight=False, soft_wrap=True)


def breakdown(found: Trial, made: Calibration) -> str:
    """Say that the lower bound held too rarely, and whether chance may explain it; else empty."""
    from mskt.analysis.conformal import lowest_by_chance

    reached, interval = found.pooled.coverage.value, found.intervals["coverage"]
    highest = reached if interval.high is None else interval.high
    if reached is None or highest is None or highest >= made.coverage:
        return ""
    patients = made.provenance.patients
    told = (
        f"The lower bound did NOT hold: for {reached:.2f} of {found.pooled.bounded} structures "
        f"instead of {made.coverage:g}."
    )
    if highest >= lowest_by_chance(made.coverage, patients):
        return f"{told} With {patients} calibration patients that may be chance: add some."
    return f"{told} These cases are not like the calibration cases."


def _interval(found: Interval) -> str:
    if found.low is None or found.high is None:
        return f"– ({found.reason})"
    return f"{found.low:.3f} to {found.high:.3f}"

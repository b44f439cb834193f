"""One call: read results, run an experiment, write tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mskt.analysis.reproduction.catalogue import experiment
from mskt.analysis.reproduction.findings import Findings
from mskt.analysis.reproduction.inputs import Facts, Inputs, Source
from mskt.core.errors import UsageError
from mskt.report.reproduction import reading
from mskt.report.reproduction.writing import FORMATS, write


@dataclass(frozen=True)
class Settings:
    """Choices that all experiments share.

    Attributes:
        doubt: which metric is the uncertainty.
        structure: for experiments on one structure.
        truncated: count structures cut by the field of view.
        draws, seed: of each bootstrap over patients.
        formats: of the figures, of :data:`~mskt.report.reproduction.writing.FORMATS`.
    """

    doubt: str = "uncertainty"
    structure: str = "gluteus_medius"
    truncated: bool = False
    draws: int = 1000
    seed: int = 0
    formats: tuple[str, ...] = ("png",)

    def __post_init__(self) -> None:
        """Refuse formats that cannot be written."""
        strange = [name for name in self.formats if name not in FORMATS]
        if strange or not self.formats:
            raise UsageError(
                "--format",
                f"{', '.join(strange) or 'nothing'} is none of the formats.",
                f"Take of {', '.join(FORMATS)}, with commas between.",
            )


@dataclass(frozen=True)
class Outcome:
    """What came of it: the findings, the files written (names in ``out``), and remarks."""

    experiment: str
    findings: Findings
    files: tuple[str, ...]
    notes: tuple[str, ...]


def reproduce(
    name: str,
    results: Sequence[Path | str] | Mapping[str, Path | str],
    out: Path | str,
    *,
    cases: Path | str | None = None,
    labelled: Sequence[Path | str] = (),
    reference: Path | str | None = None,
    settings: Settings | None = None,
    overwrite: bool = False,
) -> Outcome:
    """Repeat an analysis of the papers on results of one's own.

    Args:
        name: of :data:`mskt.analysis.reproduction.catalogue.EXPERIMENTS`.
        results: folders of ``mskt run`` or ``mskt evaluate``, or results tables; a mapping names them.
            For tables of one name, such as folds, use a list of ``NAME=PATH`` texts.
        out: folder for tables (CSV), the page (Markdown) and figures.
        cases: table of further facts (:func:`mskt.report.reproduction.reading.read_facts`).
        labelled: results with Dice to learn thresholds from (``large-cohort``).
        reference: results whose values are taken as true (``side``, ``sarcopenia``).
        settings: choices; the defaults if None.
        overwrite: replace files of an earlier call.

    Returns:
        Everything, also what was written.

    Raises:
        UsageError: something is missing, all of it named; files are there already.
        InputError: a table cannot be used as it is.
    """
    chosen, settings = experiment(name), settings or Settings()
    folder = Path(out)
    _check_free(folder, name, overwrite)
    named = _named(results)
    inputs, notes = _inputs(named, cases, labelled, reference, settings)
    findings = chosen.compute(inputs)
    files = write(folder, chosen, findings, (*findings.notes, *notes), settings.formats)
    files += _copy_exemplars(folder, name, findings, [path for _, path in named])
    return Outcome(name, findings, tuple(files), (*findings.notes, *notes))


def _check_free(folder: Path, name: str, overwrite: bool) -> None:
    if (folder / f"{name}.csv").exists() and not overwrite:
        raise UsageError(
            f"{folder.name}/{name}.csv",
            "exists already.",
            "--overwrite replaces it; or choose another folder with --out.",
        )


def _named(results: Sequence[Path | str] | Mapping[str, Path | str]) -> list[tuple[str, Path]]:
    if isinstance(results, Mapping):
        return [(name, Path(path)) for name, path in results.items()]
    return [name_and_path(str(text)) for text in results]


def name_and_path(text: str) -> tuple[str, Path]:
    """``NAME=PATH``, or a path alone, which has no name."""
    name, equals, path = text.partition("=")
    if equals and name and path and not Path(text).exists():
        return name, Path(path)
    return "", Path(text)


def _inputs(
    named: Sequence[tuple[str, Path]],
    cases: Path | str | None,
    labelled: Sequence[Path | str],
    reference: Path | str | None,
    settings: Settings,
) -> tuple[Inputs, list[str]]:
    if not named:
        raise UsageError("--results", "is missing.", "Give a folder that mskt run wrote to.")
    sources = reading.read_sources(named)
    others = [reading.read_source("labelled", Path(path)) for path in labelled]
    true = None if reference is None else reading.read_source("reference", Path(reference))
    facts: dict[str, Facts] = {}
    notes: list[str] = []
    if cases is not None:
        facts, patients = reading.read_facts(Path(cases))
        notes = _unknown(facts, sources, Path(cases).name)
        reading.check_labels(patients, Path(cases).name)
        sources = [reading.by_patient(source, patients) for source in sources]
        others = [reading.by_patient(other, patients) for other in others]
        true = true and reading.by_patient(true, patients)
        facts = {
            reading.bids_name(case, patients[case]) if case in patients else case: own
            for case, own in facts.items()
        }
    inputs = Inputs(
        tuple(sources),
        any(name for name, _ in named),
        facts,
        tuple(others),
        true,
        settings.doubt,
        settings.structure,
        settings.truncated,
        settings.draws,
        settings.seed,
    )
    return inputs, notes


def _unknown(facts: Mapping[str, Facts], sources: Sequence[Source], table: str) -> list[str]:
    """Cases without facts are named: a wrong spelling must not pass in silence.

    Raises:
        UsageError: no case of the results is in the table.
    """
    there = dict.fromkeys(row.case_id for source in sources for row in source.records)
    lacking = [case for case in there if case not in facts]
    if len(lacking) == len(there):
        raise UsageError(
            table,
            f"names no case of the results (it has {_some(list(facts))}; they have "
            f"{_some(list(there))}).",
            "The column case_id must have the names of the case folders.",
        )
    if not lacking:
        return []
    return [f"{len(lacking)} cases of the results are not in {table}: {_some(lacking)}."]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")


def _copy_exemplars(
    folder: Path, name: str, findings: Findings, roots: Sequence[Path]
) -> list[str]:
    """Previews of the exemplary cases, where the runs wrote any, beside the page."""
    from mskt.core import atomic
    from mskt.report.outputs import PREVIEW

    written = []
    for case, label in findings.exemplars:
        for root in roots:
            preview = (root if root.is_dir() else root.parent) / case / PREVIEW
            if preview.is_file():
                target = f"{name}_{label}.png"
                atomic.write_bytes(folder / target, preview.read_bytes())
                written.append(target)
                break
    return written

"""Results folders, plain results tables and the table of further facts about cases."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mskt.analysis.reproduction.inputs import Facts, Source
from mskt.core.errors import InputError, UsageError
from mskt.core.records import Record, read_csv
from mskt.report.outputs import RESULTS, RUN, RUN_SCHEMA, read_json

_CASE = ("case_id", "participant_id", "case")
KNOWN = ("patient", "sex", "affected_side", "height_m", "cohort", "sarcopenia", "smi")
_SEX = {"f": "F", "female": "F", "w": "F", "m": "M", "male": "M"}
_SIDE = {"left": "left", "l": "left", "right": "right", "r": "right"}
_YES = {"1": True, "yes": True, "true": True, "0": False, "no": False, "false": False}
_NOTHING = ("", "n/a", "na", "nan", "none", "-")


def read_sources(named: Sequence[tuple[str, Path]]) -> list[Source]:
    """Read each table.

    Args:
        named: name, empty for that of the folder, and folder or ``results.csv``.

    Raises:
        UsageError: nothing there, or the same table twice.
        InputError: a table that is none, has no rows, or is of another schema.
    """
    paths = [path.resolve() for _, path in named]
    if len(set(paths)) < len(paths):
        raise UsageError("--results", "name the same table twice.", "Give each table once.")
    short = [name or _short(path) for (name, _), path in zip(named, paths, strict=True)]
    unlike = [
        own if name or short.count(own) == 1 else f"{path.parent.name}/{own}"
        for own, (name, _), path in zip(short, named, paths, strict=True)
    ]
    return [read_source(name, path) for name, (_, path) in zip(unlike, named, strict=True)]


def read_source(name: str, path: Path) -> Source:
    """Read one results table, and what the runs beside it say of draws and training cases."""
    file = path / RESULTS if path.is_dir() else path
    if not file.is_file():
        raise UsageError(
            str(path),
            f"has no {RESULTS}." if path.is_dir() else "does not exist.",
            "Give a results.csv, or the folder that mskt run or mskt evaluate wrote to.",
        )
    records = read_csv(file)
    if not records:
        raise InputError(name, f"has a {RESULTS} without rows", "No case was finished there.")
    runs = [run for case in dict.fromkeys(r.case_id for r in records) if (run := _run(file, case))]
    _check_schema(name, runs)
    draws = {_part(run, "uncertainty").get("draws") for run in runs}
    return Source(
        name,
        tuple(records),
        frozenset(number for number in draws if isinstance(number, int)),
        frozenset(n for run in runs if (n := _training_cases(run)) is not None),
    )


def _run(table: Path, case_id: str) -> dict[str, Any] | None:
    """``run.json`` of a case in a folder of many, or of the only case."""
    for file in (table.parent / case_id / RUN, table.parent / RUN):
        if file.is_file():
            return read_json(file)
    return None


def _check_schema(name: str, runs: Iterable[Mapping[str, Any]]) -> None:
    schemas = {run.get("schema"): str(run.get("case_id")) for run in runs}
    if set(schemas) - {RUN_SCHEMA}:
        told = ", ".join(f"{schema} (case {case})" for schema, case in schemas.items())
        raise InputError(
            name,
            f"has results of schema {told}; this mskt reads {RUN_SCHEMA}",
            "Run these cases again with one version of mskt: mskt run … --overwrite.",
        )


def _training_cases(run: Mapping[str, Any]) -> int | None:
    """Number of training cases, if the weights' card says it in the run."""
    number = _part(run, "segmenter").get("training_cases")
    return number if isinstance(number, int) else None


def _part(run: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = run.get(name)
    return found if isinstance(found, dict) else {}


def _short(path: Path) -> str:
    """Name of a table: that of its folder, or of the file if it is no ``results.csv``."""
    if path.name == RESULTS:
        path = path.parent
    return path.stem if path.suffix == ".csv" else path.name


# --- facts about cases -------------------------------------------------------------------------


def read_facts(path: Path) -> tuple[dict[str, Facts], dict[str, str]]:
    """Read a table of cases: CSV or TSV, one line a case.

    Args:
        path: with a column ``case_id`` (or ``participant_id``, as ``mskt phantom`` writes it) and any
            of :data:`KNOWN`. Empty cells and ``n/a`` say nothing.

    Returns:
        Facts by case, and by case the patient, for those cases that name one.

    Raises:
        UsageError: there is no such file.
        InputError: no column of cases, a case twice, or a cell that cannot be understood.
    """
    if not path.is_file():
        raise UsageError(str(path), "does not exist.", "Give a table with the column case_id.")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            path.name, f"cannot be read ({type(error).__name__})", "Give a TSV or CSV file."
        ) from error
    head = lines[0] if lines else ""
    reader = csv.DictReader(lines, delimiter=max("\t;,", key=head.count))
    columns = [name.strip() for name in reader.fieldnames or []]
    reader.fieldnames = columns
    key = next((name for name in _CASE if name in columns), None)
    if key is None:
        raise InputError(
            path.name,
            f"has no column case_id (it has {', '.join(columns) or 'none'})",
            f"It needs case_id, and what the experiment needs of {', '.join(KNOWN)}.",
        )
    facts: dict[str, Facts] = {}
    patients: dict[str, str] = {}
    for row in reader:
        cells = {name: (cell or "").strip() for name, cell in row.items() if isinstance(name, str)}
        case = cells[key]
        if case in facts:
            raise InputError(path.name, f"names the case {case!r} twice", "One line a case.")
        place = f"{path.name}, case {case}"
        facts[case] = _facts(cells, place)
        if cells.get("patient", "").lower() not in _NOTHING:
            patients[case] = cells["patient"]
    return facts, patients


def _facts(cells: Mapping[str, str], place: str) -> Facts:
    height = _number(cells, "height_m", place, 0.5, 2.5)
    return Facts(
        sex=str(_choice(cells, "sex", _SEX, place) or ""),
        affected_side=str(_choice(cells, "affected_side", _SIDE, place, ignore="both") or ""),
        height_m=height,
        cohort="" if cells.get("cohort", "").lower() in _NOTHING else cells["cohort"],
        sarcopenia=_choice(cells, "sarcopenia", _YES, place),
        smi=_number(cells, "smi", place, 1.0, 20.0),
    )


def _choice(
    cells: Mapping[str, str], name: str, words: Mapping[str, Any], place: str, ignore: str = ""
) -> Any:
    cell = cells.get(name, "").lower()
    if cell in _NOTHING or (ignore and cell == ignore):
        return None
    if cell not in words:
        raise InputError(
            place, f"{name} {cells[name]!r} is not understood", f"Take one of {', '.join(words)}."
        )
    return words[cell]


def _number(
    cells: Mapping[str, str], name: str, place: str, low: float, high: float
) -> float | None:
    cell = cells.get(name, "")
    if cell.lower() in _NOTHING:
        return None
    try:
        found = float(cell)
    except ValueError:
        found = float("nan")
    if not low <= found <= high:
        raise InputError(
            place, f"{name} {cell!r} is no number from {low:g} to {high:g}", "Correct the cell."
        )
    return found


def by_patient(source: Source, patients: Mapping[str, str]) -> Source:
    """Give cases the BIDS name of their patient in front, by which all statistics know whose they are.

    Args:
        source: a table.
        patients: by case; others keep their names.
    """
    return replace(source, records=tuple(_renamed(row, patients) for row in source.records))


def _renamed(row: Record, patients: Mapping[str, str]) -> Record:
    patient = patients.get(row.case_id)
    return row if patient is None else replace(row, case_id=bids_name(row.case_id, patient))


def bids_name(case_id: str, patient: str) -> str:
    """``sub-PATIENT_case``; the case alone if it is called so already."""
    label = f"sub-{re.sub(r'[^A-Za-z0-9]', '', patient.removeprefix('sub-'))}"
    return (
        case_id if case_id.startswith((f"{label}_",)) or case_id == label else f"{label}_{case_id}"
    )


def check_labels(patients: Mapping[str, str], place: str) -> None:
    """Refuse patients whose names differ in signs only, which would become one.

    Raises:
        InputError: two are alike, or one has neither letter nor digit.
    """
    seen: dict[str, str] = {}
    for patient in dict.fromkeys(patients.values()):
        label = re.sub(r"[^A-Za-z0-9]", "", patient.removeprefix("sub-"))
        if not label or seen.setdefault(label, patient) != patient:
            raise InputError(
                place,
                f"patient {patient!r} cannot be told from {seen.get(label, 'others')!r}",
                "Name patients by different letters and digits.",
            )

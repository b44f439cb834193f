"""Sources of training cases; here those of the user: images with label maps, in any layout."""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mskt.core.anatomy import LabelSet, suggestion
from mskt.core.cases import Case, find_cases
from mskt.core.errors import InputError, UsageError
from mskt.training.annotated import AnnotatedStream
from mskt.training.cases import CaseStream, TrainingCase
from mskt.training.dataspec import DataSpec
from mskt.training.prepared import Prepared, Settings, named, prepare
from mskt.training.splits import Identity

_OPTIONS = ("share", "labels", "patients", "empty", "allow")
_PATIENT_TABLES = ("patients.csv", "patients.tsv", "participants.tsv")

Report = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What all sources of a data set have in common.

    Attributes:
        label_set: classes to learn.
        spacing_mm: of the cases.
        shape: voxels of a case, at most.
        seed: of all that is drawn.
        cache: folder for prepared cases.
        report: gets a sentence on what takes time, or was found.
    """

    label_set: LabelSet
    spacing_mm: tuple[float, float, float]
    shape: tuple[int, int, int]
    seed: int
    cache: Path
    report: Report = lambda _: None


class Source(ABC):
    """Where cases come from.

    Attributes:
        share: of the mixture; None: equal parts.
        follows_folds: its patients are split; without, all of it trains in every fold.
    """

    share: float | None
    follows_folds: bool = True

    @property
    @abstractmethod
    def patients(self) -> tuple[str, ...]:
        """Who can be left out."""

    @abstractmethod
    def stream(self, patients: Collection[str]) -> CaseStream | None:
        """Cases of these patients to train on; None if the source has none of them."""

    @abstractmethod
    def cases(self, patients: Collection[str]) -> list[Callable[[], TrainingCase]]:
        """Each case of these patients once."""

    @abstractmethod
    def identities(self) -> list[Identity]:
        """What tells equal cases; nothing for cases that are made on the fly."""

    @abstractmethod
    def describe(self) -> Mapping[str, Any]:
        """Facts for the record of a run, JSON-ready, without paths."""


@dataclass(frozen=True)
class AnnotatedSource(Source):
    """Prepared cases with their label maps.

    Attributes:
        facts: kind and name of the source and what was found in it.
    """

    plan: Plan
    prepared: tuple[Prepared, ...]
    facts: Mapping[str, Any]
    share: float | None = None

    @property
    def patients(self) -> tuple[str, ...]:
        """All patients, sorted."""
        return tuple(sorted({one.patient for one in self.prepared}))

    def stream(self, patients: Collection[str]) -> CaseStream | None:
        """Windows of the cases of these patients."""
        mine = tuple(one for one in self.prepared if one.patient in patients)
        plan = self.plan
        if not mine:
            return None
        return AnnotatedStream(mine, plan.label_set, plan.spacing_mm, plan.shape, plan.seed)

    def cases(self, patients: Collection[str]) -> list[Callable[[], TrainingCase]]:
        """Whole cases, memory-mapped."""
        return [one.whole for one in self.prepared if one.patient in patients]

    def identities(self) -> list[Identity]:
        """Names, patients and checksums of the voxels."""
        return [Identity(one.name, one.patient, one.voxels_sha256) for one in self.prepared]

    def describe(self) -> Mapping[str, Any]:
        """Facts, and name, patient and checksums of every case."""
        columns = ("name", "patient", "image_sha256", "labels_sha256")
        cases = [{key: getattr(one, key) for key in columns} for one in self.prepared]
        return {**self.facts, "share": self.share, "cases": cases}


def files(spec: DataSpec, plan: Plan, share: float | None) -> AnnotatedSource:
    """Images with label maps.

    Raises:
        UsageError, InputError: an option, an image, a label map or a table cannot be used.
    """
    assert spec.path is not None
    spec.check_keys(_OPTIONS)
    names = spec.options.get("labels")
    allow = frozenset(part for part in spec.options.get("allow", "").split(",") if part)
    settings = Settings(plan.label_set, plan.spacing_mm, named(names) if names else None, allow)
    found = find_cases([spec.path])
    labelled = [case for case in found if case.reference is not None]
    if not labelled:
        raise InputError(
            spec.path.name,
            f"holds {len(found)} images and no label map that belongs to one",
            "docs/training-data.md shows how label maps are named; or give a list (.tsv) with the "
            "columns image and reference.",
        )
    patient_of = _patients(spec, labelled)
    prepared = []
    for number, case in enumerate(labelled, start=1):
        plan.report(f"{spec.path.name}: {case.case_id} ({number} of {len(labelled)})")
        one = prepare(case, settings, plan.cache)
        prepared.append(replace(one, patient=patient_of[case.case_id]))
    facts = {
        "kind": spec.kind,
        "name": spec.path.name,
        "images_without_labels": len(found) - len(labelled),
        "patients_from": patient_of.origin,
    }
    return annotated(prepared, facts, plan, share, skip_empty=_skips_empty(spec))


def annotated(
    prepared: Sequence[Prepared],
    facts: Mapping[str, Any],
    plan: Plan,
    share: float | None,
    *,
    skip_empty: bool = False,
) -> AnnotatedSource:
    """A source of prepared cases; what none of them shows is taken for not annotated.

    Raises:
        InputError: a case has no labelled voxel, or no case tells a structure of the label set.
    """
    name = str(facts["name"])
    empty = [one.name for one in prepared if one.empty]
    full = [one for one in prepared if not one.empty]
    if empty and (not full or not skip_empty):
        raise InputError(
            f"{name}: {', '.join(empty[:3])}{', …' if len(empty) > 3 else ''}",
            f"{'has' if len(empty) == 1 else 'have'} no labelled voxel",
            "Correct or remove the label map; ?empty=skip leaves such cases out."
            if full
            else "No case of this source has one: check that these are the label maps.",
        )
    tellable = {s for one in full for s in one.known}
    absent = frozenset(tellable - {s for one in full for s in one.present if s in one.known})
    known = [s for s in plan.label_set.names if s in tellable - absent]
    if not known:
        raise _nothing_in_common(name, full, absent, plan.label_set)
    ignored = sorted({s for one in full for s in one.ignored})
    notes = _notes(name, absent, ignored, empty)
    for note in notes:
        plan.report(note)
    found = {
        **facts,
        "known": known,
        "absent_everywhere": sorted(absent),
        "ignored": ignored,
        "left_out_as_empty": empty,
        "notes": notes,
    }
    return AnnotatedSource(plan, tuple(one.restricted(absent) for one in full), found, share)


def _notes(
    name: str, absent: frozenset[str], ignored: Sequence[str], empty: Sequence[str]
) -> list[str]:
    notes = []
    if absent:
        notes.append(
            f"{name}: {', '.join(sorted(absent))} stand in the table, but no case has a voxel of "
            "them: taken for not annotated"
        )
    if ignored:
        notes.append(
            f"{name}: {', '.join(ignored)} cannot be told in this label set: their voxels count "
            "for nothing, and what they overlap is not learned from this source"
        )
    if empty:
        notes.append(f"{name}: {len(empty)} cases without a labelled voxel are left out")
    return notes


def _nothing_in_common(
    name: str, full: Sequence[Prepared], absent: frozenset[str], target: LabelSet
) -> InputError:
    ignored = sorted({s for one in full for s in one.ignored})
    why = "none of its labels is a structure"
    if absent:
        why = "no voxel has a label that is a structure"
    elif ignored:
        why = f"its labels ({', '.join(ignored[:5])}) fill no structure exactly"
    return InputError(
        name,
        f"{why} of the label set {target.name!r}",
        f"Name the label values as mskt does ({', '.join(target.names[:4])}, …), or choose another "
        "label set.",
    )


def _skips_empty(spec: DataSpec) -> bool:
    """Whole-body collections have scans without hips; elsewhere an empty map is a mistake."""
    choice = spec.options.get("empty", "skip" if spec.kind == "totalsegmentator" else "refuse")
    if choice not in ("skip", "refuse"):
        raise UsageError(spec.text, f"empty={choice!r} is no choice.", "Write skip or refuse.")
    return choice == "skip"


class _PatientOf(dict[str, str]):
    """The patient of each case, and where that is from."""

    origin = ""


def patients_of(spec: DataSpec, cases: Sequence[Case]) -> Mapping[str, str]:
    """The patient of each case, as folds are made of them (docs/training-data.md)."""
    return _patients(spec, cases)


def _patients(spec: DataSpec, cases: Sequence[Case]) -> _PatientOf:
    """By table, else by BIDS' ``sub-XX``, else every case is a patient of its own: no guessing."""
    assert spec.path is not None
    root = spec.path if spec.path.is_dir() else spec.path.absolute().parent
    given = spec.options.get("patients")
    beside = [root / name for name in _PATIENT_TABLES]
    tables = [Path(given)] if given else [path for path in beside if path.is_file()]
    for table in tables:
        rows = _patient_rows(table, required=given is not None)
        if rows is None:
            continue
        missing = [case.case_id for case in cases if case.case_id not in rows]
        if missing:
            raise InputError(
                table.name,
                f"says of {len(missing)} cases not whose they are ({', '.join(missing[:3])})",
                suggestion(missing[0], tuple(rows)),
            )
        found = _PatientOf({case.case_id: rows[case.case_id] for case in cases})
        found.origin = table.name
        return found
    found = _PatientOf({case.case_id: _of_bids(case.case_id) for case in cases})
    bids = all(case.case_id.startswith("sub-") for case in cases)
    found.origin = "sub-XX" if bids else "every case is taken for a patient of its own"
    return found


def _of_bids(name: str) -> str:
    return name.partition("_")[0] if name.startswith("sub-") else name


def _patient_rows(table: Path, *, required: bool) -> dict[str, str] | None:
    """Patient of each case; None if the table has no such columns and need not have them."""
    try:
        text = table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(table.name, "cannot be read as a table", "Check the path.") from error
    head = text.partition("\n")[0]
    rows = csv.DictReader(text.splitlines(), delimiter=max("\t;,", key=head.count))
    columns = {(name or "").strip().lower(): name for name in rows.fieldnames or ()}
    case = columns.get("case") or columns.get("case_id")
    patient = columns.get("patient") or columns.get("patient_id")
    if case is None or patient is None:
        if required:
            raise InputError(
                table.name,
                f"has the columns {', '.join(columns) or 'none'}",
                "It needs the columns case and patient.",
            )
        return None
    return {(row[case] or "").strip(): (row[patient] or "").strip() for row in rows}

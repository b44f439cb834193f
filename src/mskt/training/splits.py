"""Who trains and who validates: always whole patients, and nobody on both sides."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from mskt.core.anatomy import suggestion
from mskt.core.cases.tables import read_json
from mskt.core.errors import InputError, MsktError, UsageError
from mskt.core.seeding import generator


class LeakError(MsktError):
    """A patient or an image is on both sides of a fold."""


@dataclass(frozen=True)
class Fold:
    """Patients to train on, and patients to validate on; both sorted, disjoint, not empty."""

    train: tuple[str, ...]
    validation: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse a side without patients, and a patient on both sides."""
        for side in ("train", "validation"):
            if not getattr(self, side):
                raise UsageError(
                    "fold", f"has no patient to {side.replace('ion', 'e')}.", "Choose other folds."
                )
        both = sorted({*self.train} & {*self.validation})
        if both:
            raise LeakError(
                _some(both),
                "is in training and in validation of one fold"
                if len(both) == 1
                else "are in training and in validation of one fold",
                "All cases of a patient belong to one side.",
            )


@dataclass(frozen=True)
class Identity:
    """What tells whether two cases are the same: their file's name, patient and content."""

    name: str
    patient: str
    content: str


def folds(patients: Collection[str], k: int, seed: int) -> tuple[Fold, ...]:
    """Cross-validation: every patient validates in exactly one of ``k`` folds.

    The folds' sizes differ by one at most; they depend on the names and the seed, not on an order.

    Raises:
        UsageError: fewer than two folds, or more folds than patients.
    """
    names = sorted({*patients})
    if k < 2:
        raise UsageError("--folds", f"{k} is too few.", "Cross-validation needs 2 folds or more.")
    if k > len(names):
        raise UsageError(
            "--folds",
            f"{k} folds need as many patients, but the data have {len(names)}.",
            f"Choose at most {len(names)} folds." if len(names) > 1 else "Give more patients.",
        )
    order = [names[i] for i in generator(seed, "folds").permutation(len(names))]
    return tuple(_without(names, order[number::k]) for number in range(k))


def leave_one_out(patients: Collection[str]) -> tuple[Fold, ...]:
    """One fold for each patient, who validates alone.

    Raises:
        UsageError: there are fewer than two patients.
    """
    names = sorted({*patients})
    if len(names) < 2:
        raise UsageError(
            "--leave-one-out",
            f"needs at least 2 patients, but the data have {len(names)}.",
            "Give more patients.",
        )
    return tuple(_without(names, [name]) for name in names)


def read_splits(path: Path, patients: Collection[str] | Mapping[str, str]) -> tuple[Fold, ...]:
    """Folds from a file in the form of nnU-Net's ``splits_final.json``.

    Args:
        path: a list with one ``{"train": [names], "val": [names]}`` for each fold.
        patients: the patients of the data; or the patient of each case, where the file names cases.

    Raises:
        InputError: the file has another form, or names somebody whom the data do not have.
        LeakError: a patient is on both sides of a fold.
    """
    patient_of = {name: name for name in patients}
    if isinstance(patients, Mapping):
        patient_of = {name: name for name in patients.values()} | dict(patients)
    content = read_json(path)
    if not isinstance(content, list) or not content:
        raise _wrong_form(path)
    found = []
    for number, entry in enumerate(content):
        sides = [_side(path, number, entry, names, patient_of) for names in ("train", "val")]
        found.append(Fold(*sides))
    return tuple(found)


def check_leaks(fold: Fold, cases: Iterable[Identity]) -> None:
    """Refuse a fold in which one image stands on both sides under two names.

    Raises:
        LeakError: names both cases.
    """
    by_content: dict[str, list[Identity]] = {}
    for case in cases:
        by_content.setdefault(case.content, []).append(case)
    train, validation = {*fold.train}, {*fold.validation}
    for same in by_content.values():
        for one, other in product(same, same):
            if one.patient in train and other.patient in validation:
                raise LeakError(
                    f"{one.name} and {other.name}",
                    "are the same image, and a fold trains on one and validates on the other",
                    "Remove one of them, or give both the same patient (patients.csv).",
                )


def _without(names: list[str], held_out: list[str]) -> Fold:
    return Fold(tuple(n for n in names if n not in held_out), tuple(sorted(held_out)))


def _side(
    path: Path, number: int, entry: Any, side: str, patient_of: Mapping[str, str]
) -> tuple[str, ...]:
    names = entry.get(side) if isinstance(entry, dict) else None
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise _wrong_form(path)
    for name in names:
        if name not in patient_of:
            raise InputError(
                path.name,
                f'fold {number} names {name!r} under "{side}", who is not in the data',
                suggestion(name, tuple(patient_of)),
            )
    return tuple(sorted({patient_of[name] for name in names}))


def _wrong_form(path: Path) -> InputError:
    return InputError(
        path.name,
        "is no list of folds",
        'Expected [{"train": [names], "val": [names]}, …], as nnU-Net writes it.',
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")

"""The cases of a benchmark: files with reference labels, or phantoms that are made once."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mskt.core.errors import InputError, UsageError

if TYPE_CHECKING:
    from mskt.cli.benchmark_options import BenchmarkOptions
    from mskt.cli.benchmark_process import Say
    from mskt.core.cases import Case
    from mskt.training.dataspec import DataSpec

COHORTS = ("db1",)
"""Names of phantom cohorts: db1 is like the first data base of Soufi et al. (2024), the only one."""
DATA = "data"


@dataclass(frozen=True)
class Data:
    """What all cells are tried on.

    Attributes:
        name: without folders.
        spec: for ``mskt train --data``.
        cases: with reference labels, ordered by name.
        patient_of: by case.
        label_set: what the values of masks without a table mean; empty: not said.
        unlabelled: cases that have no reference and are left out.
        facts: what a resumed call must share.
    """

    name: str
    kind: str
    spec: str
    cases: tuple[Case, ...]
    patient_of: Mapping[str, str]
    label_set: str
    unlabelled: int
    facts: Mapping[str, Any]


def open_cases(
    options: BenchmarkOptions, agree: Callable[[Mapping[str, Any]], None], say: Say
) -> Data:
    """Find the cases; make the phantoms that are named.

    Args:
        options: the call.
        agree: is told :attr:`Data.facts` before anything is written, and may refuse them.
        say: gets a sentence on what takes time.

    Raises:
        UsageError: the specification is wrong, or its kind has no fixed cases.
        InputError: there is no case with a reference.
    """
    from mskt.training import dataspec

    text = options.data
    body, mark, query = text.partition("?")
    if body in {f"phantom:{cohort}" for cohort in COHORTS} and not Path(text).exists():
        text = f"phantom{mark}{query}"
    spec = dataspec.parse(text)
    if spec.kind == "synthesis":
        raise UsageError(
            options.data, "has no fixed cases.", "Take phantom?n=20&seed=1, or labelled scans."
        )
    if spec.kind == "phantom":
        return _phantoms(spec, options, agree, say)
    data = _files(spec, options)
    agree(data.facts)
    return data


def _files(spec: DataSpec, options: BenchmarkOptions) -> Data:
    from mskt.core.cases import find_cases
    from mskt.training.sources import patients_of

    assert spec.path is not None
    spec.check_keys(("labels", "patients", "allow", "empty"))
    found = sorted(find_cases([spec.path]), key=lambda case: case.case_id)
    cases = [case for case in found if case.reference is not None]
    if not cases:
        raise InputError(
            spec.path.absolute().name,
            f"holds {len(found)} images and no label map that belongs to one",
            "A benchmark needs cases with reference labels; docs/training-data.md shows how label "
            "maps are named, and a list (.tsv) may name image and reference.",
        )
    name = spec.path.absolute().name
    return Data(
        name,
        spec.kind,
        options.data,
        tuple(cases),
        patients_of(spec, cases),
        spec.options.get("labels", ""),
        len(found) - len(cases),
        {"data": name, "cases": [case.case_id for case in cases]},
    )


def _phantoms(
    spec: DataSpec,
    options: BenchmarkOptions,
    agree: Callable[[Mapping[str, Any]], None],
    say: Say,
) -> Data:
    """Make the phantoms in ``OUT/data``; those that are there already are left as they are."""
    from mskt.cli.phantom import parse_spacing

    if spec.path is not None:
        raise UsageError(
            options.data,
            f"there is no cohort of phantoms {str(spec.path)!r}.",
            f"There is {', '.join(COHORTS)}: phantom:db1?n=20&seed=1&spacing=2,2,3.",
        )
    spec.check_keys(("n", "seed", "spacing"))
    count, first = spec.count("n", 20), spec.count("seed", 1, low=0)
    spacing = parse_spacing(spec.options.get("spacing", "2,2,3"))
    root = options.out / DATA
    size = "×".join(f"{part:g}" for part in spacing)
    name = f"{count} phantoms of cohort db1, seeds {first} to {first + count - 1}, {size} mm"
    agree({"data": name})
    persons = []
    for number in range(1, count + 1):
        say(f"phantom {number} of {count}")
        persons.append(_phantom(root, f"phantom_{number:04d}", first + number - 1, spacing))
    from mskt.core.anatomy import label_set
    from mskt.report import dataset

    dataset.write_description(root, label_set("msk22"), persons)
    made = _files(replace(spec, kind="nnunet", path=root, options={}), options)
    return replace(
        made,
        name=name,
        kind="phantom",
        spec=f"nnunet:{root}",
        facts={"data": name},
    )


def _phantom(
    root: Path, name: str, seed: int, spacing: tuple[float, float, float]
) -> dict[str, Any]:
    """One phantom on disk and who it is; its last file says that the others are whole."""
    from mskt.core import atomic
    from mskt.core.anatomy import label_set
    from mskt.report import dataset
    from mskt.report.outputs import read_json, write_json
    from mskt.synthesis.phantom import in_label_set, make_phantom

    note = root / "persons" / f"{name}.json"
    wanted = {"participant_id": name, "seed": seed, "spacing_mm": list(spacing)}
    known = read_json(note)
    if known is not None and all(known.get(key) == value for key, value in wanted.items()):
        return known
    made = make_phantom(seed, spacing_mm=spacing)
    dataset.write_labels(root, name, in_label_set(made.labels, label_set("msk22")))
    dataset.write_image(root, name, made.image)
    atomic.make_folder(note.parent)
    person = {**wanted, **made.person}
    write_json(note, person)
    return person


@contextmanager
def listed(cases: Sequence[Case], name: str = "cases.tsv") -> Iterator[Path]:
    """A table of cases for another process; it has paths and is gone when that has ended."""
    with TemporaryDirectory(prefix="mskt-cases-") as folder:
        path = Path(folder) / name
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, delimiter="\t", lineterminator="\n")
            rows.writerow(("case_id", "image", "reference", "table"))
            for case in cases:
                files = (case.image, case.reference, case.table)
                rows.writerow((case.case_id, *("" if f is None else f.absolute() for f in files)))
        yield path


def splits_file(path: Path, folds: Sequence[Sequence[str]], cases: Sequence[str]) -> None:
    """Folds in the form of nnU-Net's ``splits_final.json``: cases to train on, cases to test on."""
    from mskt.core import atomic

    content = [
        {"train": [name for name in cases if name not in held], "val": list(held)} for held in folds
    ]
    atomic.write_text(path, json.dumps(content, indent=1) + "\n")

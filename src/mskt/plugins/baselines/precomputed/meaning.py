"""What the values, or the file names, of another tool's masks mean.

TotalSegmentator's values are those of its task ``total`` in version 2 (``--ml``). MuscleMap numbers
its structures anew with every model, so its values are read from the JSON file that comes with the
model; nnU-Net's stand in ``dataset.json``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mskt.core.anatomy import (
    LabelSet,
    Structure,
    elements_named,
    known_structures,
    label_set,
    suggestion,
    with_anatomy,
)
from mskt.core.cases import label_set_from
from mskt.core.cases.names import is_volume_file, stem
from mskt.core.cases.tables import read_json
from mskt.core.errors import InputError, UsageError
from mskt.plugins.baselines.precomputed.finding import Masks

FORMATS = ("auto", "totalsegmentator", "musclemap", "nnunet", "mskt")
TOTAL_VALUES: Mapping[str, int] = {
    "sacrum": 25,
    "femur_left": 75, "femur_right": 76,
    "hip_left": 77, "hip_right": 78,
    "gluteus_maximus_left": 80, "gluteus_maximus_right": 81,
    "gluteus_medius_left": 82, "gluteus_medius_right": 83,
    "gluteus_minimus_left": 84, "gluteus_minimus_right": 85,
    "iliopsoas_left": 88, "iliopsoas_right": 89,
}  # fmt: skip
"""Values of muscles and bones of hip and thigh in TotalSegmentator 2, task ``total``."""
_MUSCLEMAP_NAMES = {"tensor_fascia_latae": "tensor_fasciae_latae"}
"""MuscleMap's spelling where it is not the one of the label sets here."""
_REMEDY = (
    "Say what the values mean: --option label_set=msk22 (thigh10, thigh30, totalseg or a table "
    "FILE.tsv), or --option format=totalsegmentator."
)


@dataclass(frozen=True)
class Meaning:
    """How masks become label maps.

    Attributes:
        label_set: structures 1 … n.
        values: what stands for each structure's name in a label map; empty for masks by name.
        others: what to do with values that are not named: ``refuse``, or ``background``.
        format: one of :data:`FORMATS` but ``auto``, or ``table``.
    """

    label_set: LabelSet
    values: Mapping[str, int]
    others: str
    format: str


def meaning_of(masks: Masks, format_: str, names: str) -> Meaning:
    """Settle what the masks mean.

    Args:
        masks: all of them.
        format_: one of :data:`FORMATS`.
        names: the option ``label_set``: empty, a built-in set, or the path of a table.

    Raises:
        UsageError: no such format or set, or the format needs a table.
        InputError: the table cannot be read.
    """
    if format_ not in FORMATS:
        raise UsageError(
            "--option format", f"there is no format {format_!r}.", suggestion(format_, FORMATS)
        )
    if masks.per_class:
        return _by_name(masks, names)
    if format_ == "totalsegmentator":
        return Meaning(label_set("totalseg"), TOTAL_VALUES, "background", format_)
    if format_ == "musclemap" and not names:
        raise UsageError(
            "--option format=musclemap",
            "needs the table of the model that made the masks: its values change from model to "
            "model.",
            "Give the JSON file that MuscleMap keeps beside the model: --option label_set=FILE.json",
        )
    if names:
        return _numbered(_named(names), "table" if format_ == "auto" else format_)
    tables = {mask.table for mask in masks.by_case.values()}
    meanings = [_numbered(label_set_from(t), "table") for t in sorted(t for t in tables if t)]
    if None in tables or not meanings:
        raise UsageError(masks.name, "no table names the values of the masks.", _REMEDY)
    if any(one.values != meanings[0].values for one in meanings):
        raise UsageError(
            masks.name,
            "the tables beside the masks differ, and one run has one label set.",
            _REMEDY,
        )
    return replace(meanings[0], format=format_ if format_ != "auto" else "table")


def _by_name(masks: Masks, names: str) -> Meaning:
    """Masks in files named after their structures."""
    stems = {
        stem(file)
        for mask in masks.by_case.values()
        for file in mask.path.iterdir()
        if is_volume_file(file)
    }
    if names:
        chosen = _named(names)
        if not stems & {*chosen.names}:
            raise UsageError(
                "--option label_set",
                f"none of the masks in {masks.name!r} has a name of {names!r}",
                suggestion(sorted(stems)[0], chosen.names),
            )
        return Meaning(_renumbered(chosen), {}, "background", "table")
    built_in = label_set("totalseg")
    if stems & {*built_in.names}:
        return Meaning(built_in, {}, "background", "totalsegmentator")
    known = sorted(name for name in stems if elements_named(name))
    return Meaning(_of_names("masks", known), {}, "background", "table")


def _of_names(name: str, names: Iterable[str]) -> LabelSet:
    known = known_structures()
    return with_anatomy(
        LabelSet(
            name,
            tuple(
                replace(known.get(one, Structure(0, one)), index=index)
                for index, one in enumerate(names, start=1)
            ),
        )
    )


def _named(text: str) -> LabelSet:
    """The set of an option: built in, a table, nnU-Net's or MuscleMap's JSON file."""
    if not text.endswith((".tsv", ".json")):
        return label_set(text)
    path = Path(text)
    if not path.is_file():
        raise UsageError(
            "--option label_set", f"there is no file {path.name!r}.", "Check the path."
        )
    content = read_json(path) if path.suffix == ".json" else None
    if isinstance(content, dict) and isinstance(content.get("labels"), list):
        return _musclemap(path, content["labels"])
    return label_set_from(path)


def _musclemap(path: Path, rows: list[Any]) -> LabelSet:
    """MuscleMap's table: rows of anatomy (or structure), side and value."""
    found: dict[str, int] = {}
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("value"), int):
            raise InputError(
                path.name, f"has a label without value ({row!r})", "Correct the table."
            )
        name = str(row.get("anatomy") or row.get("structure") or "").strip().replace(" ", "_")
        name = _MUSCLEMAP_NAMES.get(name, name)
        side = str(row.get("side", ""))
        name = f"{name}_{side}" if side in ("left", "right") else name
        if not name or name in found:
            name = f"{row.get('region', 'part')}_{name}"
        found[name] = row["value"]
    if not found:
        raise InputError(path.name, "names no labels", "Take the table of the model that was used.")
    values = dict(sorted(found.items(), key=lambda item: item[1]))
    numbered = _of_names(path.stem, values)
    structures = tuple(replace(one, index=values[one.name]) for one in numbered.structures)
    return LabelSet(path.stem, structures)


def _numbered(names: LabelSet, format_: str) -> Meaning:
    values = {structure.name: structure.index for structure in names.structures}
    return Meaning(_renumbered(names), values, "refuse", format_)


def _renumbered(names: LabelSet) -> LabelSet:
    """The same structures with the indices 1 … n, which channels need."""
    ordered = sorted(names.structures, key=lambda structure: structure.index)
    if len(ordered) > 255:
        raise InputError(names.name, f"names {len(ordered)} structures", "mskt reads at most 255.")
    return with_anatomy(
        LabelSet(names.name, tuple(replace(s, index=i) for i, s in enumerate(ordered, start=1)))
    )

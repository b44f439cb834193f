"""Tables of cases (TSV, CSV, JSON, data lists) and of label names."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mskt.core.anatomy import LabelSet, Structure, known_structures, read_label_table
from mskt.core.cases.names import Case, case_name, safe, stem
from mskt.core.errors import InputError

_COLUMNS = {
    "case_id": ("case_id", "case", "id", "name", "subject"),
    "image": ("image", "ct", "img", "path", "file"),
    "reference": ("reference", "label", "labels", "mask", "seg", "segmentation"),
    "table": ("table", "label_table"),
}
_PARTS = ("training", "train", "validation", "val", "test", "testing", "cases", "data")


def read_list(path: Path) -> list[Case]:
    """Cases of a table or data list; relative paths count from the list's folder.

    Raises:
        InputError: it cannot be read, has no column ``image``, or names missing files.
    """
    rows, table = _json_rows(path) if path.suffix.lower() == ".json" else (_csv_rows(path), None)
    if not rows:
        raise InputError(path.name, "lists no cases", "A list needs one line for each case.")
    cases = [_case(row, path, table, line) for line, row in enumerate(rows, start=1)]
    missing = [
        file
        for case in cases
        for file in (case.image, case.reference, case.table)
        if file is not None and not file.exists()
    ]
    if missing:
        shown = ", ".join(file.name for file in missing[:3]) + (", …" if len(missing) > 3 else "")
        raise InputError(
            path.name,
            f"names {len(missing)} files that do not exist ({shown})",
            "Relative paths count from the folder of the list.",
        )
    return cases


def _case(row: Mapping[str, Any], path: Path, table: Path | None, line: int) -> Case:
    values = {field: _text(_pick(row, names), path, line) for field, names in _COLUMNS.items()}
    if not values["image"]:
        raise InputError(
            path.name,
            f"entry {line} names no image (it has {', '.join(row)})",
            "Name the columns case_id, image and, where there is one, reference.",
        )
    image = _file(values["image"], path.parent)
    return Case(
        safe(values["case_id"]) if values["case_id"] else case_name(image),
        image,
        _file(values["reference"], path.parent) if values["reference"] else None,
        _file(values["table"], path.parent) if values["table"] else table,
    )


def _pick(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    for name in names:
        if row.get(name):
            return row[name]
    return ""


def _text(value: Any, path: Path, line: int) -> str:
    if isinstance(value, list):
        if len(value) != 1:
            raise InputError(
                path.name,
                f"entry {line} names {len(value)} files for one image",
                "mskt reads CT alone: name one file for each case.",
            )
        value = value[0]
    return str(value).strip()


def _file(text: str, folder: Path) -> Path:
    """The path; where nnU-Net's list leaves the channel out, the file with it."""
    path = folder / Path(text).expanduser()
    if not path.exists():
        ending = path.name[len(stem(path)) :]
        with_channel = path.with_name(f"{stem(path)}_0000{ending}")
        if with_channel.exists():
            return with_channel
    return path


def _csv_rows(path: Path) -> list[dict[str, str]]:
    text = _read_text(path)
    head = text.partition("\n")[0]
    delimiter = max("\t;,", key=head.count)
    rows = csv.DictReader(text.splitlines(), delimiter=delimiter)
    return [
        {
            (name or "").strip().lower(): value or ""
            for name, value in row.items()
            if isinstance(value, str)
        }
        for row in rows
    ]


def _json_rows(path: Path) -> tuple[list[Mapping[str, Any]], Path | None]:
    content = read_json(path)
    table = path if isinstance(content, dict) and isinstance(content.get("labels"), dict) else None
    if isinstance(content, dict):
        content = [
            item for part in _PARTS if isinstance(content.get(part), list) for item in content[part]
        ]
    if not isinstance(content, list):
        raise InputError(
            path.name,
            "is no list of cases",
            'Expected a list of {"image": …, "label": …}, or an object with "training".',
        )
    return [item if isinstance(item, dict) else {"image": item} for item in content], table


def lists_cases(path: Path) -> bool:
    """True for a JSON file that names its cases; nnU-Net's ``dataset.json`` leaves that to folders."""
    content = read_json(path)
    return isinstance(content, list) or (
        isinstance(content, dict) and any(isinstance(content.get(part), list) for part in _PARTS)
    )


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        InputError: it is none.
    """
    try:
        return json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(
            path.name, f"is no valid JSON (line {error.lineno}: {error.msg})", "Correct the file."
        ) from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(path.name, "is no UTF-8 text", "Save it as UTF-8.") from error
    except OSError as error:
        raise InputError(
            path.name,
            f"cannot be read ({error.strerror})",
            "Check that it exists and that you may read it.",
        ) from error


def label_set_from(table: Path) -> LabelSet:
    """Names of label values from a table beside the data.

    A ``.tsv`` has the columns ``index`` and ``name``; a JSON file is nnU-Net's ``dataset.json``
    (``"labels": {name: index}``, or the other way round) or such a mapping itself. Names that a
    built-in label set knows keep its anatomy, so that they can be compared.

    Raises:
        InputError: the file is no such table.
    """
    if table.suffix.lower() != ".json":
        return read_label_table(table)
    content = read_json(table)
    labels = content.get("labels", content) if isinstance(content, dict) else None
    if not isinstance(labels, dict) or not labels:
        raise InputError(
            table.name, "names no labels", 'Expected "labels": {"background": 0, "name": 1, …}.'
        )
    known = known_structures()
    structures = []
    for first, second in labels.items():
        name, index = _name_and_index(first, second, table)
        if index:
            base = known.get(name, Structure(0, name))
            structures.append(
                Structure(
                    index,
                    name,
                    base.abbreviation,
                    base.group,
                    base.tissue,
                    base.side,
                    base.elements,
                    base.color,
                    base.snomed,
                )
            )
    return LabelSet(
        table.parent.name or table.stem,
        tuple(sorted(structures, key=lambda structure: structure.index)),
    )


def _name_and_index(first: str, second: Any, table: Path) -> tuple[str, int]:
    if isinstance(second, list):
        raise InputError(
            table.name,
            f"label {first!r} is a region of several values {second}",
            "mskt needs one value for each structure: name the values themselves.",
        )
    for name, index in ((first, second), (second, first)):
        if isinstance(index, int) or (isinstance(index, str) and index.isdigit()):
            return str(name), int(index)
    raise InputError(
        table.name,
        f"label {first!r} has no whole number ({second!r})",
        'Expected "name": index, or "index": "name".',
    )


def table_beside(mask: Path) -> Path | None:
    """The table that belongs to a label map: same name, else BIDS' ``dseg.tsv`` in its folder."""
    for name in (f"{stem(mask)}.tsv", f"{stem(mask)}.json", "dseg.tsv"):
        found = mask.with_name(name)
        if found.is_file() and (not name.endswith(".json") or _names_labels(found)):
            return found
    return None


def _names_labels(path: Path) -> bool:
    """True for a JSON file of label names; image sidecars have other contents."""
    content = read_json(path)
    labels = content.get("labels", content) if isinstance(content, dict) else None
    return (
        isinstance(labels, dict)
        and bool(labels)
        and all(str(first).isdigit() or isinstance(second, int) for first, second in labels.items())
    )

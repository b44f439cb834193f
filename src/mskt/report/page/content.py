"""A finished case read back from its folder: all that a page needs but the CT."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from isal import igzip, isal_zlib
from numpy.typing import NDArray

from mskt.analysis.flags import FlagRow
from mskt.core.anatomy import LabelSet, known_structures, read_label_table
from mskt.core.errors import InputError
from mskt.core.records import Record, read_csv
from mskt.core.volume import Grid
from mskt.report.outputs import FLAGS, PREVIEW, RESULTS, CaseFolder

_REMEDY = "Give the whole folder that mskt run wrote; mskt run --overwrite makes the case again."


# isal leaves the type of its errors to be guessed.
_DAMAGED: tuple[type[Exception], ...] = (OSError, EOFError, ValueError, isal_zlib.error)  # type: ignore[assignment]


@dataclass(frozen=True)
class CaseContent:
    """What a run wrote of one case.

    Attributes:
        run: ``run.json``.
        judged: of a calibration; empty without one.
        labels, doubt: label and uncertainty map on ``grid``, the grid of the input.
        preview: PNG, None where there is none.
    """

    case_id: str
    run: Mapping[str, Any]
    records: tuple[Record, ...]
    judged: tuple[FlagRow, ...]
    label_set: LabelSet
    labels: NDArray[np.uint8]
    doubt: NDArray[np.float32]
    grid: Grid
    preview: bytes | None

    @property
    def synthetic(self) -> bool:
        """True for a phantom."""
        return bool(self.run.get("synthetic"))

    @property
    def tissues(self) -> dict[str, str]:
        """``muscle``, ``bone`` or nothing by structure, also where sides have labels of their own."""
        known = known_structures()
        return {
            s.name: s.tissue or (known[whole].tissue if whole in known else "")
            for s in self.label_set.structures
            for whole in [s.name.removesuffix("_left").removesuffix("_right")]
        }


def read_case(root: Path, case_id: str) -> CaseContent:
    """Read the folder ``root/case_id``.

    Raises:
        InputError: a file is missing, damaged, or maps lie on different grids.
    """
    folder = CaseFolder(root, case_id)
    run = folder.run()
    if run is None:
        raise InputError(case_id, "is no finished case: run.json is missing or unreadable", _REMEDY)
    labels, grid = _map(folder.labels)
    doubt, other = _map(folder.uncertainty)
    if not grid.same_as(other):
        raise InputError(case_id, "has label and uncertainty map on different grids", _REMEDY)
    table = folder.path / RESULTS
    if not table.exists():
        raise InputError(f"{case_id}/{RESULTS}", "is missing", _REMEDY)
    preview = folder.path / PREVIEW
    return CaseContent(
        case_id,
        run,
        tuple(read_csv(table)),
        read_flags(folder.path / FLAGS),
        read_label_table(folder.label_table),
        np.asarray(labels, np.uint8),
        np.asarray(doubt, np.float32),
        grid,
        preview.read_bytes() if preview.exists() else None,
    )


def read_flags(path: Path) -> tuple[FlagRow, ...]:
    """``flags.tsv`` of a case; nothing where there is none.

    Raises:
        InputError: the table is not one that mskt wrote.
    """
    if not path.exists():
        return ()
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines(), delimiter="\t"))
    names = [field.name for field in fields(FlagRow)]
    try:
        return tuple(FlagRow(**{name: _cell(name, row[name]) for name in names}) for row in rows)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{path.parent.name}/{path.name}", f"is damaged ({error})", _REMEDY
        ) from error


def _cell(name: str, text: str) -> Any:
    if name in ("predicted_dice", "lower_bound", "doubt"):
        return float(text) if text else None
    return text


def _map(path: Path) -> tuple[Any, Grid]:
    import nibabel as nib

    if not path.exists():
        raise InputError(f"{path.parent.name}/{path.name}", "is missing", _REMEDY)
    try:
        with igzip.open(path) as stream:  # several times faster than what nibabel would take
            image: Any = nib.Nifti1Image.from_bytes(stream.read())
            values = np.asanyarray(image.dataobj)
    except _DAMAGED as error:
        raise InputError(
            f"{path.parent.name}/{path.name}", f"cannot be read ({type(error).__name__})", _REMEDY
        ) from error
    a, b, c = values.shape
    return values, Grid((a, b, c), np.asarray(image.affine, np.float64))

"""The files of one case. ``run.json`` comes last: where it is, everything else is there and whole."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mskt.core import atomic
from mskt.core.anatomy import LEFT_OFFSET, LabelSet, Side, Structure
from mskt.core.errors import OutputError
from mskt.core.records import Record, to_csv
from mskt.core.volume import Labels, Volume
from mskt.report import nifti

if TYPE_CHECKING:
    from mskt.analysis.flags import FlagRow

RUN_SCHEMA = 1
RUN, FAILED, RESULTS = "run.json", "failed.json", "results.csv"
STATISTICS, PREVIEW, FLAGS, REPORT = "statistics.json", "preview.png", "flags.tsv", "report.html"
NOT_EVALUATED = "not evaluated"
"""What a remark in ``run.json`` begins with if a case could not be compared with its reference."""
TABLE_COLUMNS = ("index", "name", "abbreviation", "side", "color", "snomed")


@dataclass(frozen=True)
class UncertaintyInfo:
    """What an uncertainty map holds, for its sidecar, its colour bar and the table.

    Attributes:
        estimator: the name the user gave (``mcdropout``).
        measure: what was computed (``predictive_variance_mean``).
        range: smallest and largest value that the measure can take.
        aggregation: how it becomes the ``uncertainty`` of a structure.
    """

    estimator: str
    measure: str
    unit: str
    range: tuple[float, float]
    draws: int
    seed: int
    aggregation: str = "mean"


class CaseFolder:
    """The folder ``DIR/<case_id>`` and the names of its files.

    Raises:
        OutputError: the case identifier cannot be the name of a folder.
    """

    def __init__(self, root: Path, case_id: str) -> None:
        if not case_id or case_id in {".", ".."} or {"/", "\\", "\0"} & set(case_id):
            raise OutputError(
                f"case {case_id!r}",
                "cannot be the name of a folder",
                "Rename the file, or give another case_id in the list of cases.",
            )
        self.case_id = case_id
        self.path = root / case_id

    @property
    def labels(self) -> Path:
        """The label map."""
        return self.path / f"{self.case_id}_dseg.nii.gz"

    @property
    def label_table(self) -> Path:
        """What the values of the label map mean."""
        return self.path / f"{self.case_id}_dseg.tsv"

    @property
    def uncertainty(self) -> Path:
        """The uncertainty map."""
        return self.path / f"{self.case_id}_uncertainty.nii.gz"

    @property
    def sidecar(self) -> Path:
        """What the values of the uncertainty map mean."""
        return self.path / f"{self.case_id}_uncertainty.json"

    def begin(self) -> None:
        """Make the folder and mark the case as unfinished: nothing old can be taken for new."""
        atomic.make_folder(self.path)
        atomic.sweep(self.path)
        with atomic.explained(RUN):
            (self.path / RUN).unlink(missing_ok=True)
            (self.path / FAILED).unlink(missing_ok=True)
            # Unlike the others these files are not always written anew.
            (self.path / FLAGS).unlink(missing_ok=True)
            (self.path / REPORT).unlink(missing_ok=True)

    def write_labels(self, labels: Labels, image: Volume, description: str) -> None:
        """The label map on the grid of ``image`` and its table."""
        indices = [structure.index for structure in labels.label_set.structures]
        intent = nifti.Intent(
            "label", labels.label_set.name, description, float(max(indices, default=1))
        )
        nifti.write(self.labels, labels.data, image.affine, intent, image.source)
        atomic.write_text(self.label_table, label_table(labels.label_set))

    def write_uncertainty(
        self, values: NDArray[np.float32], info: UncertaintyInfo, image: Volume, description: str
    ) -> None:
        """The uncertainty map on the grid of ``image`` and the JSON that says what it is."""
        largest = float(values.max(initial=0.0))
        intent = nifti.Intent("estimate", "uncertainty", description, largest)
        nifti.write(self.uncertainty, values, image.affine, intent, image.source)
        write_json(
            self.sidecar,
            {
                "measure": info.measure,
                "unit": info.unit,
                "range": list(info.range),
                "largest_here": float(f"{largest:.6g}"),
                "estimator": info.estimator,
                "draws": info.draws,
                "seed": info.seed,
                "precision": "11 significant bits (relative error below 0.05 %)",
                "description": "One value a voxel, larger is less certain; 0 where nothing was "
                "segmented. Not calibrated: compare within one segmenter and measure.",
            },
        )

    def write_records(self, records: Sequence[Record]) -> None:
        """``results.csv``, the long table, and ``statistics.json`` in TotalSegmentator's shape."""
        atomic.write_text(self.path / RESULTS, to_csv(records))
        write_json(self.path / STATISTICS, statistics(records))

    def write_flags(self, flags: Iterable[FlagRow]) -> None:
        """``flags.tsv``: predicted Dice, lower bound and flag of each structure, with the reason."""
        from mskt.analysis.flags import flags_tsv

        atomic.write_text(self.path / FLAGS, flags_tsv(flags))

    def write_preview(self, png: bytes) -> None:
        """The picture."""
        atomic.write_bytes(self.path / PREVIEW, png)

    def finish(self, run: Mapping[str, Any]) -> None:
        """Write ``run.json``: from now on the case counts as done."""
        write_json(self.path / RUN, run)

    def fail(self, reason: str, seconds: float, run_id: str) -> None:
        """Remember why the case gave no result."""
        atomic.make_folder(self.path)
        write_json(
            self.path / FAILED,
            {
                "case_id": self.case_id,
                "reason": reason,
                "seconds": round(seconds, 2),
                "run_id": run_id,
            },
        )

    def run(self) -> dict[str, Any] | None:
        """What ``run.json`` says; None if the case is not done."""
        return read_json(self.path / RUN)


def write_json(target: Path, content: Mapping[str, Any]) -> None:
    """Indented JSON, UTF-8, whole or not at all. NaN is refused: it is no JSON."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    atomic.write_text(target, text + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object; None if the file is missing or no such object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _plain(value: Any) -> Any:
    """Numbers of NumPy, sets and paths as JSON knows them; of a path the last part only."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return value.name
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, (tuple, Mapping)):
        return dict(value) if isinstance(value, Mapping) else list(value)
    return str(value)


def label_table(labels: LabelSet) -> str:
    """The table beside a label map: TSV with the columns of BIDS, side and code."""
    lines = ["\t".join(TABLE_COLUMNS), "0\tbackground\t\t\t#000000\t"]
    for structure in labels.structures:
        lines.append("\t".join(str(getattr(structure, column)) for column in TABLE_COLUMNS))
    return "\n".join(lines) + "\n"


def restrict(labels: Labels, names: Iterable[str]) -> Labels:
    """Only the structures named; all others become background.

    Raises:
        UsageError: the label set has no structure of such a name.
    """
    subset = labels.label_set.subset(names)
    table = np.zeros(256, np.uint8)
    for structure in subset.structures:
        table[structure.index] = structure.index
    return Labels(table[labels.data], labels.affine, subset)


def split_sides(labels: Labels, sides: NDArray[np.uint8]) -> Labels:
    """Left and right as labels of their own: a left one has the index + 100.

    Voxels of a paired structure without a side (1 right, 2 left, 0 unsided) keep the index, so
    that nothing gets lost; its row is then named without a side.
    """
    structures: list[Structure] = []
    data = labels.data.copy()
    for structure in labels.label_set.structures:
        if structure.side != "both":
            structures.append(structure)
            continue
        mine = labels.data == structure.index
        data[mine & (sides == 2)] = structure.index + LEFT_OFFSET
        right: Side = "both" if bool((mine & (sides == 0)).any()) else "right"
        structures += [_sided(structure, right, 0), _sided(structure, "left", LEFT_OFFSET)]
    structures.sort(key=lambda structure: structure.index)
    return Labels(data, labels.affine, LabelSet(labels.label_set.name, tuple(structures)))


def _sided(structure: Structure, side: Side, offset: int) -> Structure:
    name = structure.name if side == "both" else f"{structure.name}_{side}"
    elements = frozenset(e for e in structure.elements if side in (e[1], "both"))
    return Structure(
        structure.index + offset,
        name,
        structure.abbreviation,
        structure.group,
        structure.tissue,
        side,
        elements,
        structure.color,
        structure.snomed,
    )


def statistics(records: Iterable[Record]) -> dict[str, dict[str, float | None]]:
    """TotalSegmentator's shape: volume in mm³ and mean intensity in HU by ``structure_side``.

    What is absent has null, not 0: a mean over several patients must not count it as empty.
    """
    found: dict[str, dict[str, float | None]] = {}
    for record in own_sides(records):
        if record.metric not in ("volume", "mean_hu"):
            continue
        entry = found.setdefault(full_name(record), {"volume": None, "intensity": None})
        if record.metric == "mean_hu":
            entry["intensity"] = record.value if record.value is None else round(record.value, 3)
        elif record.value:
            entry["volume"] = round(record.value * 1000.0, 2)
    return found


def own_sides(records: Iterable[Record]) -> list[Record]:
    """Without the sums of both sides of a structure that has a left and a right row."""
    rows = list(records)
    paired = {(r.case_id, r.structure) for r in rows if r.side != "both"}
    return [r for r in rows if r.side != "both" or (r.case_id, r.structure) not in paired]


def full_name(record: Record) -> str:
    """``gluteus_maximus_left``; the name alone where it has no side or says it already."""
    if record.side == "both" or record.structure.endswith(f"_{record.side}"):
        return record.structure
    return f"{record.structure}_{record.side}"

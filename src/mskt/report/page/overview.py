"""What a page says of many cases: which to look at, what is unusual, how structures are distributed."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mskt.core.records import Record
from mskt.report.flagged import WORST_FIRST
from mskt.report.outputs import PREVIEW, REPORT

Key = tuple[str, str]
Flags = Mapping[str, Sequence[tuple[str, str, str, float | None]]]

OUTLIER = 3.5
"""Modified z-score (Iglewicz and Hoaglin 1993) beyond which a value is called unusual."""
FEWEST = 5
QUANTITIES = (("volume", "cm³"), ("mean_hu", "HU"), ("fat_fraction", "fat, %"))
METRICS = frozenset({name for name, _ in QUANTITIES} | {"uncertainty", "dice"})


@dataclass(frozen=True)
class CaseLine:
    """One finished case.

    Attributes:
        flags: how many structures have each flag; empty without a calibration.
        lowest: structure with the lowest predicted Dice, and that Dice.
        worst: structure with the largest uncertainty over the cohort's median for it, and that ratio.
        unusual: structures with a value far from those of the other cases, in words.
        page, preview: file names relative to the cohort's page; empty where there is none.
    """

    case_id: str
    synthetic: bool
    flags: Mapping[str, int]
    lowest: tuple[str, float] | None
    worst: tuple[str, float] | None
    unusual: tuple[str, ...]
    seconds: float | None
    page: str
    preview: str
    notes: int

    @property
    def rank(self) -> tuple[float, ...]:
        """Cases to look at first are the smallest."""
        flagged = [-self.flags.get(flag, 0) for flag in WORST_FIRST[:2]]
        return (*flagged, -len(self.unusual), -(self.worst[1] if self.worst else 0.0))


@dataclass(frozen=True)
class StructureLine:
    """One structure and side over all cases.

    Attributes:
        n: cases with a volume; ``without`` says why others have none.
        quantities: by title: median, quartiles as numbers and a strip of all values as SVG.
    """

    structure: str
    side: str
    n: int
    without: str
    quantities: Mapping[str, tuple[float, float, float, str]]
    flags: Mapping[str, int]
    dice: float | None


def _values(records: Iterable[Record], metric: str) -> dict[Key, dict[str, float]]:
    """By structure and side, then by case."""
    found: dict[Key, dict[str, float]] = {}
    for record in records:
        if record.metric == metric and record.value is not None:
            found.setdefault((record.structure, record.side), {})[record.case_id] = record.value
    return found


def case_lines(
    root: Path, runs: Mapping[str, Mapping[str, Any]], records: Sequence[Record], flags: Flags
) -> list[CaseLine]:
    """One line a finished case, those to look at first in front.

    Args:
        root: of the run; says which pages and previews exist.
        runs: ``run.json`` by case.
        records: of all these cases, without the sums of both sides.
        flags: by case, empty lists without a calibration.
    """
    unusual = _unusual(records)
    doubt: dict[str, list[tuple[float, str]]] = {}
    for key, by_case in _values(records, "uncertainty").items():
        middle = statistics.median(by_case.values())
        for case_id, value in by_case.items():
            if middle > 0:
                doubt.setdefault(case_id, []).append((value / middle, _words(key)))
    found = []
    for case_id, run in runs.items():
        predicted = [
            (dice, _words((s, side))) for s, side, _, dice in flags[case_id] if dice is not None
        ]
        lowest, worst = min(predicted, default=None), max(doubt.get(case_id, []), default=None)
        seconds = run.get("seconds", {}).get("total")
        found.append(
            CaseLine(
                case_id,
                bool(run.get("synthetic")),
                Counter(flag for _, _, flag, _ in flags[case_id]),
                lowest and (lowest[1], lowest[0]),
                worst and (worst[1], worst[0]),
                tuple(unusual.get(case_id, ())),
                seconds,
                _relative(root, case_id, REPORT),
                _relative(root, case_id, PREVIEW),
                len(run.get("notes", [])),
            )
        )
    return sorted(found, key=lambda case: case.rank)


def _relative(root: Path, case_id: str, name: str) -> str:
    return f"{case_id}/{name}" if (root / case_id / name).exists() else ""


def _unusual(records: Sequence[Record]) -> dict[str, list[str]]:
    """By case: structures whose volume or density is far from those of the other cases."""
    found: dict[str, list[str]] = {}
    for metric, title in (("volume", "volume"), ("mean_hu", "HU")):
        for key, by_case in _values(records, metric).items():
            if len(by_case) < FEWEST:
                continue
            values = np.array(list(by_case.values()))
            middle = np.median(values)
            spread = np.median(np.abs(values - middle))
            if spread == 0:
                continue
            scores = 0.6745 * (values - middle) / spread
            for case_id, score in zip(by_case, scores, strict=True):
                if abs(score) > OUTLIER:
                    found.setdefault(case_id, []).append(
                        f"{_words(key)} {title} {'high' if score > 0 else 'low'}"
                    )
    return found


def structure_lines(records: Sequence[Record], flags: Flags) -> list[StructureLine]:
    """One line a structure and side, in the order of the records.

    Args:
        records: as for :func:`case_lines`.
        flags: as for :func:`case_lines`.
    """
    tables = {name: _values(records, name) for name in METRICS}
    status: dict[Key, Counter[str]] = {}
    for record in records:
        if record.metric == "volume":
            status.setdefault((record.structure, record.side), Counter())[record.status] += 1
    counted: dict[Key, Counter[str]] = {}
    for rows in flags.values():
        for structure, side, flag, _ in rows:
            counted.setdefault((structure, side), Counter())[flag] += 1
    found = []
    for key, statuses in status.items():
        quantities = {
            title: _spread(list(tables[metric][key].values()), 100 if title.endswith("%") else 1)
            for metric, title in QUANTITIES
            if key in tables[metric]
        }
        dice = tables["dice"].get(key)
        found.append(
            StructureLine(
                *key,
                len(tables["volume"].get(key, {})),
                ", ".join(
                    f"{count} {_STATUS.get(name, name)}"
                    for name, count in sorted(statuses.items())
                    if name != "ok"
                ),
                quantities,
                counted.get(key, Counter()),
                statistics.fmean(dice.values()) if dice else None,
            )
        )
    return found


_STATUS = {"truncated": "cut by the scan", "absent_prediction": "not found"}
_STRIP, _TALL = 120, 14


def _spread(values: Sequence[float], factor: float) -> tuple[float, float, float, str]:
    """Median, quartiles, and all values as ticks on a line from the smallest to the largest."""
    scaled = np.sort(np.asarray(values, float) * factor)
    low, middle, high = np.quantile(scaled, (0.25, 0.5, 0.75))
    reach = float(scaled[-1] - scaled[0]) or 1.0

    def x(value: float) -> float:
        return round(3 + (value - float(scaled[0])) / reach * (_STRIP - 6), 1)

    ticks = "".join(
        f"M{x(value)} 2V{_TALL - 2}" for value in sorted({x(v): v for v in scaled}.values())
    )
    svg = (
        f'<svg viewBox="0 0 {_STRIP} {_TALL}" class="strip" aria-hidden="true">'
        f'<rect x="{x(low)}" y="4" width="{max(1.0, x(high) - x(low)):.1f}" '
        f'height="{_TALL - 8}" fill="#9fc6e6"/>'
        f'<path d="{ticks}" stroke="#333" stroke-width=".7" opacity=".7"/>'
        f'<path d="M{x(middle)} 1V{_TALL - 1}" stroke="#d55e00" stroke-width="2"/></svg>'
    )
    return float(middle), float(low), float(high), svg


def _words(key: Key) -> str:
    name = key[0].replace("_", " ")
    return name if key[1] == "both" or name.endswith(key[1]) else f"{name} {key[1]}"


def methods(runs: Iterable[Mapping[str, Any]]) -> list[tuple[str, int]]:
    """Each method that made cases here, and how many: more than one deserves a warning."""
    found: Counter[str] = Counter()
    for run in runs:
        settings, info = run.get("settings", {}), run.get("uncertainty", {})
        weights = run.get("segmenter", {}).get("weights") or ""
        found[
            f"mskt {settings.get('mskt', '?')} · {settings.get('segmenter', '?')} {weights} + "
            f"{info.get('estimator', '?')} ({info.get('measure', '?')}), {info.get('draws', '?')} draws, "
            f"label set {run.get('label_set', '?')}"
        ] += 1
    return found.most_common()

"""Read back what runs have written: the rows of all finished cases, and what method made them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mskt.core.errors import InputError, UsageError
from mskt.core.records import Record, read_csv
from mskt.report.outputs import RESULTS, RUN, read_json


@dataclass(frozen=True, slots=True)
class Method:
    """What made the numbers of a case, as its ``run.json`` says.

    Attributes:
        weights, weights_sha256: empty for a method without weights.
        estimator: of the uncertainty; ``measure`` is what it computes, ``draws`` its samples a voxel.
        aggregation: how the doubts of voxels become one of the structure.
    """

    segmenter: str
    weights: str
    weights_sha256: str
    estimator: str
    measure: str
    aggregation: str
    draws: int
    label_set: str


@dataclass(frozen=True)
class Finished:
    """Finished cases of one or more runs.

    Attributes:
        records: all rows, folder by folder.
        methods: by case.
        synthetic: cases that are phantoms and no patients.
        inputs: by case, the checksum of the image; empty where the run wrote none.
    """

    records: tuple[Record, ...]
    methods: Mapping[str, Method]
    synthetic: frozenset[str]
    inputs: Mapping[str, str]


def read_finished(roots: Iterable[Path]) -> Finished:
    """Read the folders of runs.

    Args:
        roots: what ``mskt run --out`` was given, one or more.

    Raises:
        UsageError: a folder does not exist.
        InputError: a folder has no results, a case no readable ``run.json``, or two folders hold a
            case of the same name or the same image.
    """
    records: list[Record] = []
    methods: dict[str, Method] = {}
    inputs: dict[str, str] = {}
    synthetic = set()
    for root in roots:
        rows = _rows(root)
        for case_id in dict.fromkeys(row.case_id for row in rows):
            run = _run(root, case_id)
            _check_new(case_id, run, methods, inputs)
            methods[case_id] = _method(run, case_id)
            inputs[case_id] = str(_part(run, "input").get("sha256") or "")
            if run.get("synthetic"):
                synthetic.add(case_id)
        records += rows
    return Finished(tuple(records), methods, frozenset(synthetic), inputs)


def common_method(methods: Mapping[str, Method]) -> tuple[Method, tuple[Method, ...]]:
    """Refuse cases of different methods; weights may differ, as those of folds do.

    Args:
        methods: by case, at least one.

    Returns:
        One of them, and all that differ by their weights, ordered by checksum.

    Raises:
        UsageError: segmenter, uncertainty, measure, draws or label set differ; names what with which
            case.
    """
    cases: dict[Method, str] = {}
    for case, method in methods.items():
        cases.setdefault(method, case)
    for field in fields(Method):
        if field.name.startswith("weights"):
            continue
        values: dict[Any, str] = {}
        for method, case in cases.items():
            values.setdefault(getattr(method, field.name), case)
        if len(values) > 1:
            listed = "; ".join(
                f"{value or 'none'} (case {case})"
                for value, case in sorted(values.items(), key=lambda pair: str(pair[0]))
            )
            raise UsageError(
                "results",
                f"come from different methods: {field.name.replace('_', ' ')} {listed}.",
                "A doubt means something else in each of them. Calibrate each by itself.",
            )
    ordered = sorted(cases, key=lambda method: (method.weights_sha256, method.weights))
    return ordered[0], tuple(ordered)


def _rows(root: Path) -> list[Record]:
    if not root.is_dir():
        raise UsageError(
            str(root), "is no folder.", "Give the folder that mskt run --out wrote to."
        )
    table = root / RESULTS
    rows = read_csv(table) if table.is_file() else []
    if not rows:
        raise InputError(
            root.name,
            f"has no {RESULTS} with finished cases",
            "Give the folder that mskt run --out wrote to; cases.tsv in it says what became of each.",
        )
    return rows


def _run(root: Path, case_id: str) -> dict[str, Any]:
    run = read_json(root / case_id / RUN)
    if run is None:
        raise InputError(
            f"{root.name}/{case_id}/{RUN}",
            "is missing or not readable, so nobody can tell which method made the results",
            "Give the whole folder of a run; mskt run --resume does unfinished cases.",
        )
    return run


def _check_new(
    case_id: str, run: Mapping[str, Any], methods: Mapping[str, Method], inputs: Mapping[str, str]
) -> None:
    remedy = (
        "A case counts once: give each folder once, and give cases of different patients "
        "different names."
    )
    if case_id in methods:
        raise InputError(f"case {case_id!r}", "is in two of the folders", remedy)
    digest = _part(run, "input").get("sha256")
    same = [other for other, known in inputs.items() if digest and known == digest]
    if same:
        raise InputError(f"cases {same[0]!r} and {case_id!r}", "are the same image", remedy)


def _method(run: Mapping[str, Any], case_id: str) -> Method:
    settings, facts, estimator = (_part(run, n) for n in ("settings", "segmenter", "uncertainty"))
    try:
        return Method(
            str(settings["segmenter"]),
            str(facts.get("weights") or ""),
            str(facts.get("weights_sha256") or ""),
            str(estimator["estimator"]),
            str(estimator["measure"]),
            str(estimator.get("aggregation", "mean")),
            int(estimator["draws"]),
            str(run["label_set"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{case_id}/{RUN}", f"lacks {error}", "Restore the file as mskt wrote it."
        ) from error


def _part(run: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = run.get(name)
    return found if isinstance(found, dict) else {}

"""The folder of a run: which cases are done, and the tables over all of them.

Everything is read back from the case folders, so several processes that share the folder
(``--num-parts``) need not talk to each other: whoever finishes last writes the complete tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mskt.core import atomic
from mskt.core.errors import UsageError
from mskt.core.records import COLUMNS
from mskt.report.outputs import FAILED, FLAGS, RESULTS, RUN, CaseFolder, read_json

CASES = "cases.tsv"
CASE_COLUMNS = ("case_id", "status", "reason", "seconds", "run_id")


@dataclass(frozen=True)
class Plan:
    """What is to be done and what is done already."""

    todo: tuple[str, ...]
    done: tuple[str, ...]


def plan(
    root: Path,
    case_ids: Iterable[str],
    settings: Mapping[str, Any],
    sizes: Mapping[str, int],
    *,
    resume: bool,
    overwrite: bool,
) -> Plan:
    """Decide for every case whether it must be computed; finished work is never lost by accident.

    Args:
        root: folder of the run.
        case_ids: all cases of this call.
        settings: of this call; a finished case must have the same to be left as it is.
        sizes: bytes of each case's input; an input that has changed is computed again.
        resume: ``--resume`` was given.
        overwrite: ``--overwrite`` was given.

    Raises:
        UsageError: there are finished cases and neither ``--resume`` nor ``--overwrite`` was given,
            or ``--resume`` meets a case that was made with other settings.
    """
    ids = tuple(case_ids)
    runs = {i: run for i in ids if (run := CaseFolder(root, i).run()) is not None}
    if overwrite or not runs:
        return Plan(ids, ())
    if not resume:
        raise UsageError(
            f"{root}",
            f"holds results of {_some(list(runs))} already.",
            "--resume leaves finished cases as they are and does the others; --overwrite computes "
            "all of them again; or choose another folder with --out.",
        )
    for case_id, run in runs.items():
        other = differences(run.get("settings", {}), settings)
        if other:
            raise UsageError(
                f"{root}",
                f"case {case_id!r} was made with other settings ({'; '.join(other)}).",
                "Repeat the call with the same settings, choose another folder with --out, or "
                "compute all again with --overwrite.",
            )
    done = tuple(i for i in ids if i in runs and _same_input(runs[i], sizes.get(i)))
    return Plan(tuple(i for i in ids if i not in done), done)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """``samples 10, now 20`` for every setting that is not the same."""
    return [
        f"{key} {_word(before.get(key))}, now {_word(now.get(key))}"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]


def write_tables(root: Path) -> None:
    """``results.csv`` and ``flags.tsv`` (all finished cases, ordered by name) and ``cases.tsv``.

    ``cases.tsv`` says what became of each case. ``flags.tsv`` is there if a case was judged by a
    calibration.
    """
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    header = ",".join(COLUMNS) + "\n"
    with atomic.writing(root / RESULTS) as out:
        out.write(header.encode())
        for folder in folders:
            table = folder / RESULTS
            if (folder / RUN).exists() and table.exists():
                out.write(table.read_bytes().partition(b"\n")[2])
    lines = ["\t".join(CASE_COLUMNS)]
    lines += [line for folder in folders if (line := _case_line(folder))]
    atomic.write_text(root / CASES, "\n".join(lines) + "\n")
    _write_flags(root, folders)


def _write_flags(root: Path, folders: Iterable[Path]) -> None:
    """The flags of all finished cases with the case in front; no file where no case has any."""
    header, lines = "", []
    for folder in folders:
        table = folder / FLAGS
        if (folder / RUN).exists() and table.exists():
            header, *rows = table.read_text(encoding="utf-8").splitlines()
            lines += [f"{folder.name}\t{row}" for row in rows]
    if header:
        atomic.write_text(root / FLAGS, "\n".join([f"case_id\t{header}", *lines]) + "\n")
    else:
        with atomic.explained(FLAGS):
            (root / FLAGS).unlink(missing_ok=True)


def _case_line(folder: Path) -> str:
    for name, status in ((RUN, "done"), (FAILED, "failed")):
        content = read_json(folder / name)
        if content is None:
            continue
        seconds = content.get("seconds", 0.0)
        total = seconds.get("total", 0.0) if isinstance(seconds, dict) else seconds
        reason = " ".join(str(content.get("reason", "")).split())
        return "\t".join([folder.name, status, reason, f"{total:.1f}", content.get("run_id", "")])
    return ""


def _same_input(run: Mapping[str, Any], size: int | None) -> bool:
    return size is None or run.get("input", {}).get("bytes") in (None, size)


def _some(ids: list[str]) -> str:
    shown = ", ".join(ids[:3]) + (", …" if len(ids) > 3 else "")
    return f"{len(ids)} case{'s' if len(ids) != 1 else ''} ({shown})"


def _word(value: Any) -> str:
    return "not given" if value is None else str(value)

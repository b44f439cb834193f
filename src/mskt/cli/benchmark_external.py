"""Tools that are not mskt's: run them on every case, time them from outside, keep their masks."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mskt.cli.benchmark_options import IMAGE, OUT, OUT_FOLDER, without_folders
from mskt.cli.benchmark_process import start
from mskt.core import atomic
from mskt.report.outputs import read_json, write_json

if TYPE_CHECKING:
    from mskt.cli.benchmark_options import Contestant
    from mskt.cli.benchmark_process import Say
    from mskt.core.cases import Case

MASKS, CALLS = "masks", "calls"


def shown_command(words: Sequence[str]) -> str:
    """The command as it may stand in a result: without folders."""
    return " ".join(without_folders(word) for word in words)


def run_tool(
    contestant: Contestant, cases: Sequence[Case], folder: Path, say: Say
) -> dict[str, dict[str, Any]]:
    """Run a tool on each case that it has not done yet.

    Args:
        contestant: with the words of the command.
        cases: images.
        folder: gets the masks and a record of each call.
        say: gets a line for each case.

    Returns:
        By case: ``seconds``, ``peak_memory_bytes``, ``reason`` (empty where it worked).
    """
    atomic.make_folder(folder / MASKS)
    atomic.make_folder(folder / CALLS)
    return {case.case_id: _call(contestant, case, folder, say) for case in cases}


def _call(contestant: Contestant, case: Case, folder: Path, say: Say) -> dict[str, Any]:
    file = (folder / MASKS / f"{case.case_id}.nii.gz").absolute()
    masks = (folder / MASKS / case.case_id).absolute()
    note = folder / CALLS / f"{case.case_id}.json"
    known = read_json(note)
    if known is not None and not known["reason"] and (file.is_file() or _filled(masks)):
        return known
    file.unlink(missing_ok=True)
    shutil.rmtree(masks, ignore_errors=True)
    if any(OUT_FOLDER in word for word in contestant.command):
        atomic.make_folder(masks)
    places = {IMAGE: str(case.image.absolute()), OUT: str(file), OUT_FOLDER: str(masks)}
    ended = start([_filled_in(word, places) for word in contestant.command])
    if ended.interrupted:
        raise KeyboardInterrupt
    reason = "" if ended.code == 0 else ended.why
    if not reason and not (file.is_file() or _filled(masks)):
        reason = "it ended without an error and without a mask"
    told = {
        "seconds": ended.seconds,
        "peak_memory_bytes": ended.peak_memory_bytes,
        "reason": without_folders(reason),
    }
    write_json(note, told)
    say(f"{case.case_id}: {'FAILED: ' + reason if reason else f'{ended.seconds:.1f} s'}")
    return told


def _filled_in(word: str, places: Mapping[str, str]) -> str:
    for mark, path in places.items():
        word = word.replace(mark, path)
    return word


def _filled(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())

"""Files that are whole or not there: write beside the target, force to disk, rename.

A run that is killed at any moment leaves every file under its final name complete. What it was
writing stays under a name that begins with ``.`` and ends with ``.part``, and is swept away by the
next run into the same folder.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mskt.core.errors import OutputError

SUFFIX = ".part"
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def writing(target: Path) -> Iterator[BinaryIO]:
    """A binary file that becomes ``target`` when the block ends, and vanishes when it fails.

    Raises:
        OutputError: the disk is full, or the folder must not be written to.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}{SUFFIX}")
    with explained(target.name):
        try:
            with part.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)


def write_bytes(target: Path, data: bytes) -> None:
    """Write ``data`` to ``target``, whole or not at all."""
    with writing(target) as file:
        file.write(data)


def write_text(target: Path, text: str) -> None:
    """Write ``text`` as UTF-8, its line ends as they are, to ``target``, whole or not at all."""
    write_bytes(target, text.encode("utf-8"))


def make_folder(folder: Path) -> None:
    """Create a folder and its parents; one that is there already is fine."""
    with explained(folder.name or str(folder)):
        folder.mkdir(parents=True, exist_ok=True)


def sweep(folder: Path) -> int:
    """Remove what a killed run has left in ``folder``; returns how many files that were.

    Only for folders that no other process is writing to.
    """
    left = list(folder.glob(f".*{SUFFIX}"))
    for file in left:
        file.unlink(missing_ok=True)
    return len(left)


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn the system's error about the file or folder ``name`` into one that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            fault, remedy = (
                "the disk is full",
                "Free some space; --resume continues where it stopped.",
            )
        elif error.errno in _FORBIDDEN:
            fault, remedy = "must not be written to", "Choose another folder with --out."
        else:
            fault = f"cannot be written ({error.strerror or type(error).__name__})"
            remedy = "Check the folder given with --out."
        raise OutputError(name, fault, remedy) from error


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut, where the system can do that."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:  # some network file systems cannot; the rename is done all the same
        pass
    finally:
        os.close(handle)

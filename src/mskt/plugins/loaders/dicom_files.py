"""The DICOM files in a folder or a zip archive, whatever their names.

An archive is read in memory: nothing is ever extracted, so names of members cannot do harm.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO

from mskt.core.errors import InputError

MAGIC_OFFSET, MAGIC = 128, b"DICM"
LARGEST_ARCHIVE_BYTES = 32 << 30
LARGEST_MEMBER_BYTES = 4 << 30
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError)
_INDEX_FILE = "DICOMDIR"  # an index of the folder, no image


@dataclass(frozen=True, slots=True)
class Part:
    """One DICOM file.

    Attributes:
        name: base name, for messages.
        open: opens it; seekable.
    """

    name: str
    open: Callable[[], IO[bytes]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a folder or archive holds.

    Attributes:
        dicom: files that begin like DICOM.
        junk: number of other files.
    """

    dicom: tuple[Part, ...]
    junk: int


def looks_like_dicom(head: bytes) -> bool:
    """True for the first 132 bytes of a DICOM file, with or without its preamble."""
    if head[MAGIC_OFFSET : MAGIC_OFFSET + 4] == MAGIC:
        return True
    # files of old archives begin with the first element: group 0008 or 0002, then a length or a VR
    return (
        head[:2] in (b"\x08\x00", b"\x02\x00")
        and len(head) >= 132
        and head[2:4] in (b"\x00\x00", b"\x01\x00", b"\x05\x00", b"\x08\x00", b"\x16\x00")
    )


@contextmanager
def dicom_parts(path: Path) -> Iterator[Parts]:
    """The files below a folder, or in a ``.zip`` archive that stays open meanwhile.

    Raises:
        InputError: unreadable, empty, damaged or dangerous.
    """
    if path.is_dir():
        yield _sorted_out(path.name, _folder_parts(path))
        return
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise InputError(
            path.name,
            "is no readable zip archive: truncated or damaged",
            "Copy or download the file again.",
        ) from error
    except OSError as error:
        raise unreadable(path.name, error) from error
    with archive:
        yield _sorted_out(path.name, _archive_parts(archive, path.name))


def unreadable(thing: str, error: OSError) -> InputError:
    """The error for a file that the system does not let us read; without its path."""
    return InputError(
        thing,
        f"cannot be read ({error.strerror or type(error).__name__})",
        "Check that it exists and that you may read it.",
    )


def _folder_parts(folder: Path) -> Iterator[Part]:
    def refuse(error: OSError) -> None:
        raise unreadable(Path(error.filename or folder).name, error)

    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not _hidden(name))
        for name in sorted(names):
            if not _hidden(name) and name != _INDEX_FILE:
                path = Path(root, name)
                yield Part(name, lambda path=path: path.open("rb"))  # type: ignore[misc]


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _archive_parts(archive: zipfile.ZipFile, thing: str) -> Iterator[Part]:
    members = [info for info in archive.infolist() if not info.is_dir()]
    _check_members(members, thing)

    def opener(info: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
        def open_member() -> IO[bytes]:
            try:
                return BytesIO(archive.read(info))
            except _DAMAGED as error:
                member = PurePosixPath(info.filename).name
                raise InputError(
                    thing,
                    f"its member {member!r} is damaged",
                    "Copy or download the archive again.",
                ) from error

        return open_member

    for info in sorted(members, key=lambda info: info.filename):
        parts = PurePosixPath(info.filename).parts
        if not any(_hidden(part) for part in parts) and parts[-1] != _INDEX_FILE:
            yield Part(parts[-1], opener(info))


def _check_members(members: list[zipfile.ZipInfo], thing: str) -> None:
    for info in members:
        member = PurePosixPath(info.filename.replace("\\", "/"))
        if member.is_absolute() or ".." in member.parts or ":" in member.parts[0]:
            raise InputError(
                thing,
                f"its member {member.name!r} has a path that leads out of the archive",
                "Make the archive again from the folder of the series.",
            )
        if info.flag_bits & 1:
            raise InputError(thing, "is encrypted", "Extract it and give the folder.")
        if info.file_size > LARGEST_MEMBER_BYTES:
            raise InputError(
                thing,
                f"its member {member.name!r} would take {info.file_size / 1e9:.1f} GB",
                "Extract it and give the folder.",
            )
    total = sum(info.file_size for info in members)
    if total > LARGEST_ARCHIVE_BYTES:
        raise InputError(
            thing,
            f"would take {total / 1e9:.0f} GB when extracted",
            "Give an archive that holds one series.",
        )


def _sorted_out(thing: str, parts: Iterator[Part]) -> Parts:
    dicom, junk = [], 0
    for part in parts:
        try:
            with part.open() as stream:
                head = stream.read(MAGIC_OFFSET + 4)
        except OSError as error:
            raise unreadable(part.name, error) from error
        if looks_like_dicom(head):
            dicom.append(part)
        else:
            junk += 1
    if not dicom:
        found = f"other files: {junk}" if junk else "no files"
        raise InputError(
            thing,
            f"holds no DICOM files ({found})",
            "Give the folder or .zip archive that holds the slices of one CT series.",
        )
    return Parts(tuple(dicom), junk)

"""Which input a result was made from: a checksum of its bytes, never its path."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK = 1 << 20


def of_input(path: Path) -> dict[str, Any]:
    """Name, number of files, bytes and SHA-256 of a file or of all files below a folder.

    For a folder: SHA-256 over the sorted checksums of its files, so that neither their names nor
    their order matter (DICOM exports number the same slices differently).
    """
    files = sorted(_files(path))
    digests = sorted(_digest(file) for file in files)
    total = (
        hashlib.sha256("\n".join(digests).encode()).hexdigest() if len(digests) != 1 else digests[0]
    )
    return {"name": path.name, "files": len(files), "bytes": size(path), "sha256": total}


def size(path: Path) -> int:
    """Bytes of the file, or of all files below the folder."""
    return sum(file.stat().st_size for file in _files(path))


def of_bytes(data: bytes, name: str) -> dict[str, Any]:
    """The same facts for an image that was made, not read."""
    return {
        "name": name,
        "files": 0,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from (file for file in path.rglob("*") if file.is_file())
    else:
        yield path


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()

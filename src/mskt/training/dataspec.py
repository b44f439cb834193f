"""What a user names as training data: ``KIND:PATH?key=value&key=value``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mskt.core.anatomy import suggestion
from mskt.core.cases.names import LIST_SUFFIXES
from mskt.core.cases.tables import lists_cases
from mskt.core.errors import UsageError

FILES = ("folder", "nnunet", "decathlon", "bids", "totalsegmentator", "list")
"""Kinds that name images with label maps."""
KINDS = (*FILES, "synthesis", "phantom")
_ALIKE = {"nnunet": {"decathlon"}, "decathlon": {"nnunet", "list"}, "list": {"decathlon"}}
"""Kinds that may be taken for each other: old nnU-Net data sets list their cases."""


@dataclass(frozen=True)
class DataSpec:
    """One source of cases.

    Attributes:
        kind: one of :data:`KINDS`.
        path: None where the kind needs none.
        options: as the user wrote them.
        text: all of it, for messages.
    """

    kind: str
    path: Path | None
    options: Mapping[str, str]
    text: str

    def check_keys(self, known: Sequence[str]) -> None:
        """Refuse options that this kind does not have.

        Raises:
            UsageError: names the nearest ones.
        """
        for key in self.options:
            if key not in known:
                raise UsageError(
                    self.text, f"{self.kind!r} has no option {key!r}.", suggestion(key, known)
                )

    def number(self, key: str, default: float, low: float, high: float) -> float:
        """A number among the options.

        Raises:
            UsageError: it is none, or lies outside ``low`` … ``high``.
        """
        text = self.options.get(key)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise UsageError(
                self.text, f"{key}={text!r} is no number from {low:g} to {high:g}.", "Correct it."
            )
        return value

    def count(self, key: str, default: int, low: int = 1, high: int = 1_000_000_000) -> int:
        """A whole number among the options.

        Raises:
            UsageError: it is none, or lies outside ``low`` … ``high``.
        """
        value = self.number(key, default, low, high)
        if value != int(value):
            raise UsageError(self.text, f"{key}={self.options[key]!r} is not whole.", "Correct it.")
        return int(value)


def parse(text: str) -> DataSpec:
    """Read one specification.

    A path alone is enough where its layout says what it is. A path that contains ``:`` or ``?`` and
    exists is taken as it is.

    Raises:
        UsageError: an unknown kind, a missing path, an option without value or given twice.
    """
    if Path(text).exists():
        return DataSpec(layout(Path(text)), Path(text), {}, text)
    body, mark, query = text.partition("?")
    kind, colon, rest = body.partition(":")
    if not colon and kind in ("synthesis", "phantom"):
        return DataSpec(kind, None, _options(query, text), text)
    # One letter before a colon is a drive; folders in front of it make it part of a path.
    if not colon or len(kind) == 1 or "/" in kind or "\\" in kind:
        _refuse_missing(Path(body), text)
        return DataSpec(layout(Path(body)), Path(body), _options(query if mark else "", text), text)
    if kind not in KINDS:
        raise UsageError(text, f"there is no kind of data {kind!r}.", suggestion(kind, KINDS))
    path = Path(rest) if rest else None
    if kind in FILES:
        if path is None:
            raise UsageError(text, f"{kind!r} needs a path.", f"Write {kind}:PATH.")
        _refuse_missing(path, text)
        found = layout(path)
        if found != kind and found not in _ALIKE.get(kind, ()):
            raise UsageError(
                text,
                f"{path.name!r} has not the layout {kind!r}; it looks like {found!r}.",
                f"Write {found}:PATH, or the path alone (docs/training-data.md shows the layouts).",
            )
    return DataSpec(kind, path, _options(query, text), text)


def layout(path: Path) -> str:
    """Which of :data:`FILES` lies at ``path``, by its names; ``folder`` if no other."""
    if path.is_file():
        return "list" if path.name.lower().endswith(LIST_SUFFIXES) else "folder"
    described = path / "dataset.json"
    if described.is_file():
        return "decathlon" if lists_cases(described) else "nnunet"
    if any(path.glob("sub-*/ct")) or any(path.glob("sub-*/ses-*/ct")):
        return "bids"
    if (path / "segmentations").is_dir() or any(path.glob("*/segmentations")):
        return "totalsegmentator"
    return "nnunet" if (path / "imagesTr").is_dir() else "folder"


def _options(query: str, text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in query.split("&") if query else ():
        key, equals, value = part.partition("=")
        if not key or not equals or not value:
            raise UsageError(text, f"{part!r} is no option.", "Write ?key=value&key=value.")
        if key in found:
            raise UsageError(text, f"gives {key!r} twice.", "Give it once.")
        found[key] = value
    return found


def _refuse_missing(path: Path, text: str) -> None:
    if not path.exists():
        hint = "" if path.parent.is_dir() else " The folder it should be in does not exist either."
        raise UsageError(
            text,
            f"there is nothing at this path.{hint}",
            f"Give a path, or KIND:PATH with one of {', '.join(KINDS)}.",
        )

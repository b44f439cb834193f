"""What the user asked of ``mskt benchmark``: who competes, with which doubt, on which data."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mskt.cli.options import not_both, parse_extra
from mskt.core.anatomy import suggestion
from mskt.core.errors import UsageError

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_FOLDERS = re.compile(r"(?:[A-Za-z]:)?[\\/](?:[^\s\\/:'\"]+[\\/])+|(?:[\w.-]+/){2,}")
IMAGE, OUT, OUT_FOLDER = "{image}", "{out}", "{out_dir}"
OUTSIDE = "outside"
"""What stands for the device of a tool that is not mskt's."""
PRECOMPUTED = "precomputed"


@dataclass(frozen=True)
class Contestant:
    """One segmenter with its options.

    Attributes:
        name: what the tables call it; that of the segmenter if no other was given.
        options: of the segmenter; ``weights`` and ``backbone`` among them.
        training: options of ``mskt train`` for it.
        command: words of an external tool's command; empty for a segmenter of mskt.
    """

    name: str
    segmenter: str
    options: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cell:
    """One contestant with one uncertainty on one device."""

    contestant: Contestant
    uncertainty: str
    device: str

    @property
    def key(self) -> str:
        """Name of its folder, unique among the cells."""
        return f"{self.contestant.name}+{self.uncertainty}+{self.device.replace(':', '-')}"


@dataclass(frozen=True)
class BenchmarkOptions:
    """The call.

    Attributes:
        segmenters: names, or ``NAME=SEGMENTER`` to have one several times with other options.
        uncertainties: names.
        data: as ``mskt train --data``, files or phantoms.
        external: ``NAME=COMMAND`` with ``{image}`` and ``{out}`` or ``{out_dir}``.
        options: ``NAME.OPTION=VALUE``, of the segmenter called NAME.
        train_options: ``NAME.OPTION=VALUE``, of its network in training; ``NAME.part=PART``.
        folds: of a cross-validation; None: nothing is trained.
        classes: label set that is learned.
        include_truncated: rank structures cut by the field of view too; decides tables, not runs.
        warm_up: do the first case once more beforehand, its time not counted.
    """

    segmenters: Sequence[str]
    uncertainties: Sequence[str]
    data: str
    out: Path
    external: Sequence[str] = ()
    devices: Sequence[str] = ("auto",)
    options: Sequence[str] = ()
    train_options: Sequence[str] = ()
    folds: int | None = None
    recipe: str = "mskt"
    max_steps: int | None = None
    classes: str = "msk22"
    samples: int | str | None = None
    aggregation: str | None = None
    seed: int = 0
    fast: bool = False
    threads: int | None = None
    warm_up: bool = True
    allow: frozenset[str] = frozenset()
    include_truncated: bool = False
    resume: bool = False
    overwrite: bool = False
    json: bool = False
    quiet: bool = False
    verbose: bool = False

    def check(self) -> None:
        """Refuse combinations that contradict each other.

        Raises:
            UsageError: with what to leave out.
        """
        not_both(resume=self.resume, overwrite=self.overwrite)
        if not self.segmenters and not self.external:
            raise UsageError(
                "--segmenters", "names nobody.", "Name segmenters with commas between."
            )
        if self.segmenters and not self.uncertainties:
            raise UsageError("--uncertainties", "names none.", "Take deterministic, for example.")
        for option, names in (
            ("--uncertainties", self.uncertainties),
            ("--device", self.devices),
        ):
            if len(set(names)) < len(names):
                raise UsageError(option, "names one twice.", "Name each once.")
        if self.folds is None and (self.max_steps is not None or self.train_options):
            raise UsageError(
                "--max-steps" if self.max_steps is not None else "--train-option",
                "is for training, and without --folds nothing is trained.",
                "Give --folds K, or leave it out.",
            )

    def contestants(self) -> list[Contestant]:
        """Who competes, in the order of the call, external tools last.

        Raises:
            UsageError: a name twice, an option of nobody, or a command without ``{image}`` and
                ``{out}``.
        """
        named = [_name_and_rest(text) for text in self.segmenters]
        tools = [_tool(text) for text in self.external]
        names = [name for name, _ in (*named, *tools)]
        for name in names:
            if not _NAME.fullmatch(name):
                raise UsageError(
                    "--segmenters", f"{name!r} cannot be a name.", "Use letters, digits, - and _."
                )
            if names.count(name) > 1:
                raise UsageError(
                    "--segmenters",
                    f"{name!r} is named twice.",
                    f"Give each a name of its own: first={name},second={name}.",
                )
        options = _by_name("--option", self.options, names)
        training = _by_name("--train-option", self.train_options, names)
        return [
            *(
                Contestant(name, segmenter or name, options[name], training[name])
                for name, segmenter in named
            ),
            *(
                Contestant(name, PRECOMPUTED, options[name], training[name], words)
                for name, words in tools
            ),
        ]

    def cells(self) -> list[Cell]:
        """All pairs on all devices; an external tool has one cell, as it tells no doubt."""
        found = []
        for one in self.contestants():
            if one.command:
                found.append(Cell(one, "none", OUTSIDE))
                continue
            found += [Cell(one, u, device) for u in self.uncertainties for device in self.devices]
        return found


def without_folders(text: str) -> str:
    """Leave the folders of paths out: results are shown to others."""
    return _FOLDERS.sub("", text)


def plain(value: Any) -> Any:
    """An option as it may stand in a result."""
    return without_folders(value) if isinstance(value, str) else value


def _name_and_rest(text: str) -> tuple[str, str]:
    name, _, rest = text.partition("=")
    return name.strip(), rest.strip()


def _tool(text: str) -> tuple[str, tuple[str, ...]]:
    """Name and words of a command; without a name it is called as its program."""
    name, equals, rest = text.partition("=")
    named = bool(equals) and _NAME.fullmatch(name.strip()) is not None
    try:
        words = tuple(shlex.split(rest if named else text))
    except ValueError as error:
        raise UsageError("--external", f"{text!r}: {error}.", "Close the quotes.") from None
    joined = " ".join(words)
    if IMAGE not in joined or not (OUT in joined or OUT_FOLDER in joined):
        raise UsageError(
            "--external",
            f"{text!r} does not say where image and result go.",
            f"Write {IMAGE}, and {OUT} (a label map) or {OUT_FOLDER} (a folder of masks), as in "
            f'"TotalSegmentator -i {IMAGE} -o {OUT} --ml".',
        )
    return (name.strip() if named else Path(words[0]).stem), words


def _by_name(option: str, texts: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """``NAME.OPTION=VALUE`` by name."""
    found: dict[str, list[str]] = {name: [] for name in names}
    for text in texts:
        # Longest first: names may have dots in them.
        owners = [name for name in names if text.startswith(f"{name}.")]
        if not owners:
            name = text.partition("=")[0].partition(".")[0]
            raise UsageError(
                option,
                f"{text!r} is of none of the segmenters.",
                f"Write NAME.OPTION=VALUE. {suggestion(name, tuple(names))}",
            )
        owner = max(owners, key=len)
        found[owner].append(text[len(owner) + 1 :])
    return {name: parse_extra(pairs) for name, pairs in found.items()}

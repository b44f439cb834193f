"""Weights: where they are, whether they are intact, what they were made for.

A set of weights is ``NAME.safetensors`` with a model card ``NAME.json`` beside it: what segmenter
and variant it fits, its label set, the sha256 of the tensors' file, and how it was trained. Sets
come with the package or lie in ``$MSKT_HOME/weights`` (default ``~/.mskt/weights``).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mskt.core import atomic
from mskt.core.anatomy import (
    BUILT_IN_LABEL_SETS,
    LabelSet,
    Structure,
    label_set,
    suggestion,
    with_anatomy,
)
from mskt.core.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX: Final = ".safetensors"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class WeightsInfo:
    """One set of weights.

    Attributes:
        name: what ``--weights`` takes.
        path: of the ``.safetensors`` file.
        card: the model card; at least ``segmenter``, ``sha256``, ``label_set``.
    """

    name: str
    path: Path
    card: Mapping[str, Any]

    @property
    def sha256(self) -> str:
        """Checksum that the card states."""
        return str(self.card.get("sha256", ""))


def home() -> Path:
    """The user's folder for weights and settings."""
    return Path(os.environ.get("MSKT_HOME") or Path.home() / ".mskt")


def _folders() -> tuple[Path, ...]:
    return (Path(str(resources.files("mskt") / "weights")), home() / "weights")


def available() -> list[WeightsInfo]:
    """All sets with a readable card, by name; a user's set replaces a shipped one of that name."""
    found: dict[str, WeightsInfo] = {}
    for folder in _folders():
        for card in sorted(folder.glob("*.json")) if folder.is_dir() else []:
            found[card.stem] = _info(card)
    return [found[name] for name in sorted(found)]


def _info(card: Path) -> WeightsInfo:
    try:
        content = json.loads(card.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(
            card.name,
            f"is no readable model card ({error})",
            "Restore it from where the weights came from, or delete both files.",
        ) from error
    return WeightsInfo(card.stem, card.with_suffix(".safetensors"), content)


def find(name: str, segmenter: str) -> WeightsInfo:
    """The set of that name or path.

    Args:
        name: of an available set, or the path of a ``.safetensors`` file with its card beside it.
        segmenter: what it must have been made for.
    """
    if name.endswith(SUFFIX):
        info = at(Path(name))
    else:
        sets = {info.name: info for info in available()}
        if name not in sets:
            raise WeightsError(
                "",
                f"no weights named {name!r}.",
                suggestion(name, tuple(sets)) + "\nOr give the path of a .safetensors file.",
            )
        info = sets[name]
    made_for = info.card.get("segmenter")
    if made_for != segmenter:
        raise WeightsError(
            info.name,
            f"was made for segmenter {made_for!r}, not {segmenter!r}",
            f"Run with --segmenter {made_for}, or choose other weights.",
        )
    return info


def at(path: Path) -> WeightsInfo:
    """The set in a file with its card beside it.

    Raises:
        WeightsError: one of the two files is missing, or the card cannot be read.
    """
    card = path.with_suffix(".json")
    for file in (path, card):
        if not file.is_file():
            raise WeightsError(
                file.name,
                "does not exist",
                "Weights are a .safetensors file with a .json model card beside it.",
            )
    return _info(card)


def install(path: Path, name: str = "", *, overwrite: bool = False) -> WeightsInfo:
    """Copy a set into the user's folder, so that it has a name.

    Args:
        path: of the ``.safetensors`` file.
        name: to be known by; by default that of the file, or of its folder where the file is called
            ``weights``, as training calls it.
        overwrite: replace a set of that name.

    Raises:
        WeightsError: files missing or damaged, an impossible name, or one that is taken.
    """
    info = at(path)
    verify(info)
    named = name or (info.name if info.name != "weights" else path.absolute().parent.name)
    if not _NAME.fullmatch(named):
        raise WeightsError(
            named,
            "cannot be the name of weights",
            "Use letters, digits, '.', '_' and '-', beginning with a letter or digit.",
        )
    folder = home() / "weights"
    taken = {one.name: one for one in available()}.get(named)
    if taken is not None and (not overwrite or taken.path.parent != folder):
        remedy = "--overwrite replaces them, or choose another --name."
        if taken.path.parent != folder:
            remedy = "They come with mskt and stay: choose another --name."
        raise WeightsError(named, "is the name of other weights already", remedy)
    atomic.make_folder(folder)
    target = folder / f"{named}{SUFFIX}"
    # The card comes last: without it the set does not exist.
    for source, copy in ((path, target), (path.with_suffix(".json"), target.with_suffix(".json"))):
        atomic.write_bytes(copy, source.read_bytes())
    return at(target)


def verify(info: WeightsInfo) -> None:
    """Compare the file with the checksum of its card.

    Raises:
        WeightsError: missing or different.
    """
    if not info.path.is_file():
        raise WeightsError(info.path.name, "is missing beside its card", "Copy it there again.")
    digest = hashlib.sha256(info.path.read_bytes()).hexdigest()
    if digest != info.sha256:
        raise WeightsError(
            info.path.name,
            f"has sha256 {digest[:12]}…, its card says {info.sha256[:12]}…",
            "The file is damaged or was exchanged: copy it again from where it came from.",
        )


def load(info: WeightsInfo) -> dict[str, Tensor]:
    """The tensors, in float32, after the checksum was found right."""
    from safetensors.torch import load_file

    verify(info)
    return {name: tensor.float() for name, tensor in load_file(info.path).items()}


_COLUMNS = ("index", "name", "abbreviation", "group", "tissue", "side", "color", "snomed")


def label_facts(labels: LabelSet) -> dict[str, Any]:
    """What a card must say of a label set so that :func:`labels_of` finds it again."""
    if labels.name in BUILT_IN_LABEL_SETS:
        return {"label_set": labels.name}
    rows = [{key: getattr(one, key) for key in _COLUMNS} for one in labels.structures]
    return {"label_set": labels.name, "structures": rows}


def labels_of(info: WeightsInfo) -> LabelSet:
    """The classes that the weights were made for: a built-in set, or one of the card's own."""
    rows = info.card.get("structures")
    if rows is None:
        return label_set(str(info.card["label_set"]))
    structures = tuple(Structure(**row) for row in rows)
    return with_anatomy(LabelSet(str(info.card["label_set"]), structures))


def save(
    folder: Path, name: str, tensors: Mapping[str, Tensor], card: Mapping[str, Any]
) -> WeightsInfo:
    """Write tensors (half precision) and card; the card gets the checksum.

    Returns:
        What :func:`find` would give for it.
    """
    from safetensors.torch import save as serialise

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    half = {key: value.detach().half().contiguous() for key, value in tensors.items()}
    atomic.write_bytes(path, serialise(half))
    full = {**card, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    path.with_suffix(".json").write_text(
        json.dumps(full, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    return WeightsInfo(name, path, full)

"""Names: which files are images, which are label maps, and what a case is called."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mskt.core.errors import InputError

FILE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
"""Of volumes and label maps in one file."""
ARCHIVE_SUFFIXES = (".zip",)
LIST_SUFFIXES = (".tsv", ".csv", ".json")

_LABEL_ENDING = re.compile(
    r"(?:^|[._ -])(?:d?seg|seg\.?map|labels?|label-?map|masks?|segmentations?|gt|ground-?truth)$",
    re.IGNORECASE,
)
_RESULT_ENDING = re.compile(r"_uncertainty$", re.IGNORECASE)
_GENERIC = {"ct", "image", "img", "volume", "scan", "series", "dicom"}
_CHANNEL = re.compile(r"_0000$")
_UNSAFE = re.compile(r"[^\w.+-]+")


@dataclass(frozen=True, slots=True)
class Case:
    """One image to segment or to learn from.

    Attributes:
        case_id: unique among the cases found together; safe as the name of a folder.
        image: a file, or the folder of a DICOM series.
        reference: a label map, or a folder with one mask per structure.
        table: names of the label values: a ``.tsv``, or a JSON file (``dataset.json`` of nnU-Net).
    """

    case_id: str
    image: Path
    reference: Path | None = None
    table: Path | None = None


def stem(path: Path) -> str:
    """The name without its volume suffix: ``a.b.nii.gz`` gives ``a.b``."""
    lower = path.name.lower()
    for suffix in FILE_SUFFIXES + ARCHIVE_SUFFIXES:
        if lower.endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name if path.is_dir() else path.stem


def is_volume_file(path: Path) -> bool:
    """True for names of files that hold one volume or label map."""
    return path.name.lower().endswith(FILE_SUFFIXES) and not path.name.startswith(".")


def is_label_name(path: Path) -> bool:
    """True for names such as ``x_dseg.nii.gz``, ``labels.nrrd``, ``x-label.nii``."""
    return bool(_LABEL_ENDING.search(stem(path)))


def is_result_name(path: Path) -> bool:
    """True for maps that mskt writes beside a segmentation."""
    return bool(_RESULT_ENDING.search(stem(path)))


def without_label_ending(name: str) -> str:
    """``x_dseg`` gives ``x``; ``labels`` gives the empty string."""
    return _LABEL_ENDING.sub("", name)


def without_channel(name: str) -> str:
    """nnU-Net's images end in the number of the channel: ``x_0000`` gives ``x``."""
    return _CHANNEL.sub("", name)


def case_name(path: Path) -> str:
    """What a case is called by its image: the file's name, or its folder's if that says nothing."""
    name = without_channel(stem(path))
    if name.lower() in _GENERIC and path.absolute().parent.name:
        name = path.absolute().parent.name
    return safe(re.sub(r"_ct$", "", name) if name.startswith("sub-") else name)


def safe(name: str) -> str:
    """A name that every file system takes: letters, digits, ``_ . + -``, not hidden."""
    cleaned = _UNSAFE.sub("_", unicodedata.normalize("NFC", name)).strip("._-")
    return cleaned[:120] or "case"


def unique(cases: Iterable[Case]) -> list[Case]:
    """The cases with ids that differ also where upper and lower case are the same.

    The same image is kept once. Equal ids get their parent folder's name in front, and a number if
    that is not enough.
    """
    kept: dict[Path, Case] = {}
    for case in cases:
        kept.setdefault(case.image.absolute(), case)
    found = list(kept.values())
    count = Counter(case.case_id.casefold() for case in found)
    found = [
        replace(case, case_id=safe(f"{case.image.absolute().parent.name}_{case.case_id}"))
        if count[case.case_id.casefold()] > 1
        else case
        for case in found
    ]
    taken: set[str] = set()
    result = []
    for case in found:
        name, number = case.case_id, 2
        while name.casefold() in taken:
            name, number = f"{case.case_id}_{number}", number + 1
        taken.add(name.casefold())
        result.append(replace(case, case_id=name))
    return result


def refuse_missing(path: Path) -> None:
    """Raise an InputError with the nearest names if nothing is at ``path``."""
    if path.exists():
        return
    folder = path.parent
    if not folder.is_dir():
        raise InputError(path.name, "does not exist, nor does its folder", "Check the path.")
    names = [found.name for found in folder.iterdir()]
    near = difflib.get_close_matches(path.name, names, n=3)
    raise InputError(
        path.name,
        "does not exist",
        f"Did you mean {' or '.join(map(repr, near))}?" if near else "Check the path.",
    )


def contents(folder: Path) -> str:
    """What a folder holds, for a message: ``3 .png, 1 .txt, 2 folders``."""
    kinds: Counter[str] = Counter()
    for path in folder.iterdir():
        if not path.name.startswith("."):
            kinds["folders" if path.is_dir() else (path.suffix.lower() or "without suffix")] += 1
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "nothing"


def pairs(images: Sequence[Path], labels: Sequence[Path]) -> dict[Path, Path]:
    """Label map of each image: same name but for the label ending; or the only one of both."""
    by_name = {without_label_ending(stem(label)): label for label in labels}
    found = {
        image: by_name[name]
        for image in images
        for name in [without_channel(stem(image))]
        if name in by_name
    }
    if not found and len(images) == len(labels) == 1:
        found = {images[0]: labels[0]}
    return found

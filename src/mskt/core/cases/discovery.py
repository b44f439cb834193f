"""Find the cases in what a user names: a file, a folder in one of the known layouts, a list."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mskt.core.cases.names import (
    ARCHIVE_SUFFIXES,
    LIST_SUFFIXES,
    Case,
    case_name,
    contents,
    is_label_name,
    is_result_name,
    is_volume_file,
    pairs,
    refuse_missing,
    safe,
    stem,
    unique,
    without_channel,
    without_label_ending,
)
from mskt.core.cases.tables import lists_cases, read_list, table_beside
from mskt.core.errors import InputError

_LOOK_AT = 200
_IMAGES_AND_LABELS = {"imagesTr": "labelsTr", "imagesTs": "labelsTs", "images": "labels"}
_REMEDY = (
    "Give a volume (.nii.gz, .nii, .nrrd, .mha, .mhd), a folder or .zip of one DICOM series, "
    "a folder of cases, an nnU-Net or BIDS dataset, or a list (.tsv, .csv, .json)."
)


def find_cases(inputs: Sequence[Path]) -> list[Case]:
    """All cases in ``inputs``, in their order, each once, with unique ids.

    Raises:
        InputError: an input does not exist or holds nothing that looks like an image.
    """
    return unique(case for path in inputs for case in _cases(path))


def find_label_maps(inputs: Sequence[Path]) -> list[Case]:
    """Label maps as cases whose ``image`` *and* ``reference`` are the map, for comparing masks.

    Ids are those of the images they belong to (``x_dseg.nii.gz`` is ``x``), so that predictions and
    references of the same name meet.

    Raises:
        InputError: an input does not exist or holds no label map.
    """
    return unique(case for path in inputs for case in _label_maps(path))


def _cases(path: Path) -> list[Case]:
    refuse_missing(path)
    if path.is_dir():
        return _folder(path)
    if path.name == "dataset.json" and not lists_cases(path):
        return _folder(path.absolute().parent)
    if path.name.lower().endswith(LIST_SUFFIXES):
        return read_list(path)
    return [Case(case_name(path), path)]


def _folder(folder: Path) -> list[Case]:
    if _holds_dicom(folder.iterdir()):
        return [Case(safe(folder.absolute().name), folder)]
    layouts: tuple[Callable[[Path], list[Case]], ...] = (
        _images_and_labels,
        _bids,
        _masks_per_structure,
        _datalist,
        _folder_of_cases,
    )
    for layout in layouts:
        cases = layout(folder)
        if cases:
            return cases
    raise InputError(
        folder.name or "folder", f"holds no image that mskt reads: {contents(folder)}", _REMEDY
    )


def _images_and_labels(folder: Path) -> list[Case]:
    """nnU-Net and Medical Decathlon: ``imagesTr``, ``labelsTr``, ``dataset.json``."""
    if folder.name in _IMAGES_AND_LABELS and (folder.parent / "dataset.json").is_file():
        root, names = folder.parent, folder.name
    else:
        root = folder
        present = [
            images
            for images, labels in _IMAGES_AND_LABELS.items()
            if (root / images).is_dir() and (images != "images" or (root / labels).is_dir())
        ]
        names = present[0] if present else ""
    if not names:
        return []
    images = [path for path in sorted((root / names).iterdir()) if is_volume_file(path)]
    extra = [path for path in images if stem(path).endswith("_0001")]
    if extra:
        raise InputError(
            extra[0].name,
            "is a second channel: the dataset is not CT alone",
            "mskt reads one CT image a case.",
        )
    labels = {
        without_label_ending(stem(path)): path
        for path in sorted((root / _IMAGES_AND_LABELS[names]).glob("*"))
        if is_volume_file(path)
    }
    table = root / "dataset.json"
    return [
        Case(
            case_name(image),
            image,
            reference,
            table if table.is_file() else reference and table_beside(reference),
        )
        for image in images
        for reference in [labels.get(without_channel(stem(image)))]
    ]


def _bids(folder: Path) -> list[Case]:
    """``sub-*/[ses-*/]ct/*_ct.nii.gz``; label maps are ``*_dseg`` below ``derivatives``."""
    images = sorted(
        path
        for depth in ("sub-*/ct", "sub-*/ses-*/ct")
        for path in folder.glob(f"{depth}/*_ct.nii*")
    )
    masks = sorted((folder / "derivatives").rglob("*_dseg.nii*")) if images else []
    cases = []
    for image in images:
        name = stem(image).removesuffix("_ct")
        own = [
            mask
            for mask in masks
            if stem(mask) == f"{name}_dseg" or stem(mask).startswith(f"{name}_")
        ]
        if len(own) > 1:
            raise InputError(
                name,
                f"has {len(own)} label maps in derivatives "
                f"({', '.join(mask.name for mask in own[:3])})",
                "Name the one to use in a list (.tsv with case_id, image, reference).",
            )
        reference = own[0] if own else None
        cases.append(Case(safe(name), image, reference, reference and _bids_table(reference)))
    return cases


def _bids_table(mask: Path) -> Path | None:
    """The table beside a label map, or BIDS' common one at the root of its derivative."""
    beside = table_beside(mask)
    if beside:
        return beside
    for folder in mask.parents:
        if folder.name == "derivatives":
            return None
        if (folder / "dseg.tsv").is_file():
            return folder / "dseg.tsv"
    return None


def _masks_per_structure(folder: Path) -> list[Case]:
    """TotalSegmentator's data: ``s0001/ct.nii.gz`` and ``s0001/segmentations/NAME.nii.gz``."""
    folders = [folder, *(path for path in sorted(folder.iterdir()) if path.is_dir())]
    return [
        Case(safe(one.absolute().name), image, one / "segmentations")
        for one in folders
        if (one / "segmentations").is_dir()
        for image in [one / "ct.nii.gz", one / "ct.nii"]
        if image.is_file()
    ]


def _datalist(folder: Path) -> list[Case]:
    """A ``dataset.json`` that lists its files, wherever they are."""
    path = folder / "dataset.json"
    return read_list(path) if path.is_file() and lists_cases(path) else []


def _folder_of_cases(folder: Path) -> list[Case]:
    """Volumes in the folder, and its sub-folders: each a DICOM series or a few volumes."""
    cases = _volumes(folder)
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or path.name.startswith("."):
            continue
        if _holds_dicom(path.rglob("*")):
            cases.append(Case(safe(path.name), path))
        else:
            cases += _volumes(path)
    return cases


def _volumes(folder: Path) -> list[Case]:
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    volumes = [path for path in files if is_volume_file(path) and not is_result_name(path)]
    labels = [path for path in volumes if is_label_name(path)]
    images = [path for path in volumes if not is_label_name(path)]
    images += [path for path in files if path.name.lower().endswith(ARCHIVE_SUFFIXES)]
    reference = pairs(images, labels)
    return [
        Case(case_name(image), image, mask, mask and table_beside(mask))
        for image in images
        for mask in [reference.get(image)]
    ]


def _holds_dicom(paths: Iterable[Path]) -> bool:
    """True if one of the first files has DICOM's magic bytes."""
    seen = 0
    for path in paths:
        if path.is_file() and path.name != "DICOMDIR" and not path.name.startswith("."):
            try:
                with path.open("rb") as stream:
                    if stream.read(132)[128:] == b"DICM":
                        return True
            except OSError:
                continue
            seen += 1
            if seen >= _LOOK_AT:
                return False
    return False


def _label_maps(path: Path) -> list[Case]:
    refuse_missing(path)
    if path.is_file():
        return [_label_case(path)]
    if (path / "labelsTr").is_dir():
        path = path / "labelsTr"
    masks = [mask for mask in sorted(path.iterdir()) if _is_map(mask)]
    if not masks:  # what ``mskt run`` writes: one folder for each case
        masks = sorted(mask for mask in path.glob("*/*") if _is_map(mask) and is_label_name(mask))
    if not masks:
        raise InputError(
            path.name or "folder",
            f"holds no label map: {contents(path)}",
            "Give a label map (.nii.gz, .nrrd, .mha) or a folder of them.",
        )
    named = [mask for mask in masks if is_label_name(mask)]
    return [_label_case(mask) for mask in named or masks]


def _is_map(path: Path) -> bool:
    return path.is_file() and is_volume_file(path) and not is_result_name(path)


def _label_case(mask: Path) -> Case:
    name = without_label_ending(stem(mask)) or mask.absolute().parent.name
    table = table_beside(mask)
    common = mask.absolute().parent.parent / "dataset.json"
    if table is None and mask.absolute().parent.name.startswith("labels") and common.is_file():
        table = common
    return Case(safe(name), mask, mask, table)

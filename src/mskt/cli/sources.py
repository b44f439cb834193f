"""Where the cases of a run come from: files, or the built-in phantom when none is named."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mskt.core.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mskt.cli.options import RunOptions
    from mskt.core.anatomy import LabelSet
    from mskt.core.cases import Case
    from mskt.core.registry import Registry
    from mskt.core.volume import Labels, Volume

BUILT_IN_ID, BUILT_IN_SEED = "phantom", 1
SYNTHETIC_MARK = "synthetic phantom"
"""What the header of a phantom's file begins with, so that its results say so too."""
_DESCRIP = slice(148, 228)
"""Where a NIfTI-1 header has its free text."""


@dataclass(frozen=True)
class Reference:
    """Labels to compare with; ``sides`` where they are known exactly."""

    labels: Labels
    sides: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Source:
    """One case that can be loaded.

    Attributes:
        bytes: of the input; None for what is made, not read.
        load: reads the image.
        checksum: facts about the input for ``run.json``.
        reference: reads the reference labels, given the segmenter's label set; None if there are none.
        synthetic: true if it is no patient.
    """

    case_id: str
    bytes: int | None
    load: Callable[[], Volume]
    checksum: Callable[[], dict[str, Any]]
    reference: Callable[[LabelSet], Reference] | None
    synthetic: bool


def find(options: RunOptions, registry: Registry) -> list[Source]:
    """The cases of this call, ordered by name, and of them the part that this process takes."""
    if not options.inputs:
        sources = [_built_in()]
    else:
        sources = sorted(_from_files(options, registry), key=lambda source: source.case_id)
    if options.height_m is not None and len(sources) > 1:
        raise UsageError(
            "--height",
            f"is one person's, but there are {len(sources)} cases.",
            "Give heights in a table of cases, or run the cases one by one.",
        )
    return sources[options.part_id :: options.num_parts]


def _built_in() -> Source:
    """The phantom, made when it is first asked for."""
    from mskt.core import checksum
    from mskt.synthesis.phantom import in_label_set, make_phantom, sides_of

    phantom = cache(lambda: make_phantom(BUILT_IN_SEED))
    name = f"built-in, seed {BUILT_IN_SEED}"
    return Source(
        BUILT_IN_ID,
        None,
        lambda: phantom().image,
        lambda: checksum.of_bytes(phantom().image.data.tobytes(), name),
        lambda wanted: Reference(
            in_label_set(phantom().labels, wanted), sides_of(phantom().labels)
        ),
        synthetic=True,
    )


def _from_files(options: RunOptions, registry: Registry) -> list[Source]:
    from mskt.core.cases import find_cases

    return [_from_case(case, options, registry) for case in find_cases(options.inputs)]


def _from_case(case: Case, options: RunOptions, registry: Registry) -> Source:
    from mskt.core import checksum
    from mskt.core.cases import load_case, load_label_map
    from mskt.core.interfaces import LoadOptions

    load_options = LoadOptions(series=options.series, allow=options.allow)

    def reference(_: LabelSet) -> Reference:
        assert case.reference is not None
        names = case.table or _named_labels(options.label_set)
        return Reference(load_label_map(case.reference, LoadOptions(), registry, names))

    return Source(
        case.case_id,
        checksum.size(case.image),
        lambda: load_case(case.image, load_options, registry),
        lambda: checksum.of_input(case.image),
        reference if case.reference is not None else None,
        says_synthetic(case.image),
    )


def _named_labels(name: str | None) -> LabelSet | Path | None:
    """What ``--label-set`` says: a built-in set or a table of one's own."""
    from mskt.core.anatomy import label_set

    if name is None:
        return None
    return Path(name) if name.endswith((".tsv", ".json")) else label_set(name)


def says_synthetic(path: Path) -> bool:
    """True if the header of a NIfTI file or of a DICOM series calls it a synthetic phantom."""
    if path.is_dir():
        return _series_is_synthetic(path)
    if not path.name.endswith((".nii", ".nii.gz")) or not path.is_file():
        return False
    opened = gzip.open if path.name.endswith(".gz") else open
    try:
        with opened(path, "rb") as stream:
            head = stream.read(_DESCRIP.stop)
    except (OSError, EOFError):
        return False  # reading the image will say what is wrong with it
    return head[_DESCRIP].startswith(SYNTHETIC_MARK.encode())


def _series_is_synthetic(folder: Path) -> bool:
    """By the description of the series in the first file of the folder that is DICOM."""
    import pydicom

    for file in sorted(path for path in folder.rglob("*") if path.is_file())[:20]:
        try:
            header = pydicom.dcmread(
                file, specific_tags=["SeriesDescription"], stop_before_pixels=True
            )
        except (pydicom.errors.InvalidDicomError, OSError):
            continue
        return str(header.get("SeriesDescription", "")).startswith(SYNTHETIC_MARK)
    return False

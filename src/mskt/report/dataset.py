"""A folder of synthetic patients in the layout of nnU-Net, which most tools and mskt itself read.

``imagesTr/ID_0000.nii.gz``, ``labelsTr/ID.nii.gz``, ``dataset.json``, ``dseg.tsv`` (what the values
of the masks mean) and ``participants.tsv`` (who the synthetic person is).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mskt.core import atomic
from mskt.core.anatomy import LabelSet
from mskt.core.volume import Labels, Volume
from mskt.report import nifti
from mskt.report.outputs import label_table, write_json

DESCRIPTION = "synthetic phantom, no patient; made by mskt"
_PERSON = ("participant_id", "sex", "age", "height_m", "weight_kg", "affected_side", "seed")


def image_path(root: Path, name: str) -> Path:
    """Where the CT of a case is; ``_0000`` is nnU-Net's mark of the first channel."""
    return root / "imagesTr" / f"{name}_0000.nii.gz"


def label_path(root: Path, name: str) -> Path:
    """Where the mask of a case is."""
    return root / "labelsTr" / f"{name}.nii.gz"


def write_image(root: Path, name: str, image: Volume) -> None:
    """The CT as 16-bit whole HU, as scanners store it."""
    atomic.make_folder(root / "imagesTr")
    stored = np.clip(np.rint(image.data), -1024, 3071).astype(np.int16)
    nifti.write(
        image_path(root, name), stored, image.affine, nifti.Intent("none", "CT", DESCRIPTION, 0.0)
    )


def write_labels(root: Path, name: str, labels: Labels) -> None:
    """The exact mask."""
    atomic.make_folder(root / "labelsTr")
    top = max(structure.index for structure in labels.label_set.structures)
    nifti.write(
        label_path(root, name),
        labels.data,
        labels.affine,
        nifti.Intent("label", labels.label_set.name, DESCRIPTION, float(top)),
    )


def write_description(
    root: Path, label_set: LabelSet, persons: Sequence[Mapping[str, Any]]
) -> None:
    """``dataset.json``, ``dseg.tsv`` and ``participants.tsv``."""
    write_json(
        root / "dataset.json",
        {
            "name": "synthetic phantoms",
            "description": DESCRIPTION,
            "synthetic": True,
            "channel_names": {"0": "CT"},
            "file_ending": ".nii.gz",
            "numTraining": len(persons),
            "labels": {"background": 0, **{s.name: s.index for s in label_set.structures}},
            "label_set": label_set.name,
        },
    )
    atomic.write_text(root / "dseg.tsv", label_table(label_set))
    lines = ["\t".join(_PERSON)]
    lines += ["\t".join(str(person.get(column, "n/a")) for column in _PERSON) for person in persons]
    atomic.write_text(root / "participants.tsv", "\n".join(lines) + "\n")

"""Dice of a result on the Visible Human female's pelvis CT against its approximate reference.

    mskt run ../shared/ct/vhf_pelvis/ct.nii.gz --out results
    python scripts/score_real_ct.py results/vhf_pelvis/vhf_pelvis_dseg.nii.gz ../shared/ct/vhf_pelvis

The reference (muscles moved from the cryosection segmentation by registration, bones by threshold) is
off by a voxel or two; its bones are unreliable at the sacroiliac joints and L5/S1.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from mskt.core.anatomy import LabelSet, label_set

GROUPS: Mapping[str, tuple[str, ...]] = {
    "gluteus_maximus": ("gluteus_maximus",),
    "gluteus_medius": ("gluteus_medius",),
    "gluteus_minimus": ("gluteus_minimus",),
    "iliacus + psoas_major": ("iliacus", "psoas_major"),
    "pelvis": ("pelvis",),
    "femur": ("femur",),
    "sacrum": ("sacrum",),
}
"""The structures of the target for real CT."""
_RENAMED = {
    "pelvis_hip_bone": "hip_bone",
    "iliacus": "iliacus_proximal",
    "psoas_major": "psoas_major_proximal",
}


def reference(folder: Path, labels: LabelSet) -> NDArray[np.uint8]:
    """The reference in the classes of ``labels``."""
    names = json.loads((folder / "labels.json").read_text())
    table = np.zeros(256, np.uint8)
    for value, name in names.items():
        plain = name.removesuffix("_right").removesuffix("_left")
        atom = _RENAMED.get(plain, plain)
        for structure in labels.structures:
            if any(element[0] == atom for element in structure.elements):
                table[int(value)] = structure.index
    return table[np.asarray(nib.load(folder / "labels.nii.gz").dataobj)]


def dice(prediction: NDArray[np.uint8], truth: NDArray[np.uint8], indices: list[int]) -> float:
    """Dice of the union of some classes."""
    a, b = np.isin(prediction, indices), np.isin(truth, indices)
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def scores(mask: Path, folder: Path) -> dict[str, float]:
    """Dice by group."""
    labels = label_set("msk22")
    truth = reference(folder, labels)
    prediction = np.asarray(nib.load(mask).dataobj)
    return {
        name: dice(prediction, truth, [labels[part].index for part in parts])
        for name, parts in GROUPS.items()
    }


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mask", type=Path)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    found = scores(args.mask, args.folder)
    for name, value in found.items():
        print(f"{name:24s} {value:.3f}")
    print(f"{'mean':24s} {np.mean(list(found.values())):.3f}")


if __name__ == "__main__":
    main()

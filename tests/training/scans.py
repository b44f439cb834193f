"""Small scans with label maps, written as users have them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mskt.core.anatomy import LabelSet, label_set
from mskt.core.volume import Labels, Volume
from mskt.report import dataset, nifti
from mskt.report.outputs import label_table
from mskt.synthesis.phantom import atom_label_set

SHAPE, SPACING = (44, 36, 30), (4.0, 4.0, 5.0)
ATOMS = label_set("msk22")
# Boxes of one side: atom, x from the midline, y, z (voxels).
BOXES = {
    1: ((6, 14), (6, 12), (8, 26)),  # gluteus maximus
    2: ((12, 17), (14, 24), (16, 28)),  # gluteus medius
    4: ((5, 9), (16, 22), (18, 28)),  # iliacus, proximal
    5: ((5, 9), (16, 22), (10, 18)),  # iliacus, distal
    6: ((2, 5), (16, 22), (20, 28)),  # psoas, proximal
    7: ((2, 5), (16, 22), (10, 20)),  # psoas, distal
    34: ((9, 13), (14, 18), (0, 12)),  # femur
}


@dataclass(frozen=True)
class Scan:
    """An image and the sided atoms in it."""

    image: Volume
    atoms: Labels

    def labels(self, names: LabelSet) -> Labels:
        """The atoms as classes of a label set."""
        return Labels(names.from_atoms(self.atoms.data), self.atoms.affine, names)


def scan(seed: int = 0, *, without: tuple[int, ...] = ()) -> Scan:
    """A body of fat with muscles and femurs; +x is right."""
    x, y, _ = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    body = ((x - 21.5) / 20) ** 2 + ((y - 17) / 14) ** 2 < 1
    hu = np.where(body, -100.0, -1000.0)
    atoms = np.zeros(SHAPE, np.uint8)
    for atom, (across, front, up) in BOXES.items():
        for offset, place in ((0, slice(22 + across[0], 22 + across[1])),
                              (100, slice(22 - across[1], 22 - across[0]))):  # fmt: skip
            box = (place, slice(*front), slice(*up))
            hu[box] = 400.0 if atom == 34 else 55.0
            if atom not in without:
                atoms[box] = atom + offset
    hu += np.random.default_rng(seed).uniform(-8, 8, SHAPE)
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = (-86.0, -70.0, -60.0)
    return Scan(Volume(hu.astype(np.float32), affine), Labels(atoms, affine, atom_label_set()))


def write_image(path: Path, image: Volume, affine: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = np.rint(image.data).astype(np.int16)
    place = image.affine if affine is None else affine
    nifti.write(path, stored, place, nifti.Intent("none", "CT", "", 0.0))


def write_labels(path: Path, labels: Labels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nifti.write(path, labels.data, labels.affine, nifti.Intent("label", "", "", 1.0))


def write_table(path: Path, names: LabelSet) -> None:
    path.write_text(label_table(names))


def nnunet(root: Path, scans: dict[str, Scan], names: LabelSet = ATOMS) -> Path:
    """What ``mskt phantom`` writes."""
    for name, one in scans.items():
        dataset.write_image(root, name, one.image)
        dataset.write_labels(root, name, one.labels(names))
    dataset.write_description(root, names, [{"participant_id": name} for name in scans])
    return root


def bids(root: Path, names: tuple[str, ...]) -> Path:
    """One image and label map each; ``names`` such as ``sub-01_ses-1``."""
    for seed, name in enumerate(names):
        folder = "/".join(name.split("_"))
        one = scan(seed)
        write_image(root / folder / "ct" / f"{name}_ct.nii.gz", one.image)
        mask = root / "derivatives" / "manual" / folder / "ct" / f"{name}_dseg.nii.gz"
        write_labels(mask, one.labels(ATOMS))
    write_table(root / "derivatives" / "manual" / "dseg.tsv", ATOMS)
    return root


def totalsegmentator(root: Path, scans: dict[str, Scan], only: tuple[str, ...] = ()) -> Path:
    """A folder a case, a mask a structure."""
    names = label_set("totalseg")
    for name, one in scans.items():
        write_image(root / name / "ct.nii.gz", one.image)
        labels = one.labels(names)
        for structure in names.structures:
            if not only or structure.name in only:
                mask = (labels.data == structure.index).astype(np.uint8)
                path = root / name / "segmentations" / f"{structure.name}.nii.gz"
                write_labels(path, Labels(mask, labels.affine, names))
    return root


def decathlon(root: Path, scans: dict[str, Scan]) -> Path:
    """A data list with its label names."""
    for name, one in scans.items():
        write_image(root / "a" / f"{name}.nii.gz", one.image)
        write_labels(root / "b" / f"{name}.nii.gz", one.labels(ATOMS))
    rows = [{"image": f"a/{n}.nii.gz", "label": f"b/{n}.nii.gz"} for n in scans]
    names = {"0": "background", **{str(s.index): s.name for s in ATOMS.structures}}
    (root / "dataset.json").write_text(json.dumps({"labels": names, "training": rows}))
    return root


def beside(root: Path, scans: dict[str, Scan], names: LabelSet = ATOMS) -> Path:
    """A folder: ``x.nii.gz``, ``x_dseg.nii.gz``, ``dseg.tsv``."""
    for name, one in scans.items():
        write_image(root / f"{name}.nii.gz", one.image)
        write_labels(root / f"{name}_dseg.nii.gz", one.labels(names))
    write_table(root / "dseg.tsv", names)
    return root

"""Atlases: cases of people that somebody has labelled, from any source that training knows."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mskt.core.anatomy import LabelSet
from mskt.core.anatomy import label_set as built_in
from mskt.core.errors import InputError, UsageError
from mskt.core.foreground import foreground_box
from mskt.core.volume import FloatArray, Grid
from mskt.networks.body import body_mask
from mskt.training.cases import TrainingCase
from mskt.training.datasets import open_data
from mskt.training.losses import IGNORED
from mskt.training.prepared import named

LARGEST_MM = (560.0, 440.0, 1000.0)
"""Windows of synthesis are at most this large (x, y, z)."""
HOW = (
    "Give annotated cases: --option atlases=PATH (an nnU-Net, BIDS or TotalSegmentator data set, "
    "or images with x_dseg.nii.gz beside them), or --option 'atlases=phantom?n=5'."
)


@dataclass(frozen=True, eq=False)
class Atlas:
    """One labelled case, cropped to the body.

    Attributes:
        name: of its patient.
        image: HU, (x, y, z), axes right, anterior, superior; air outside the body.
        labels: uint8 indices of the label set, same shape; 255 where nobody can tell.
        body: True inside the skin.
    """

    name: str
    image: FloatArray
    labels: NDArray[np.uint8]
    body: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Collection:
    """All atlases, on one spacing and with one label set."""

    atlases: tuple[Atlas, ...]
    label_set: LabelSet


def load(
    spec: str,
    label_set: str,
    spacing_mm: tuple[float, float, float],
    cache: str = "",
    body: nn.Module | None = None,
) -> Collection:
    """Read the atlases of a data set.

    Args:
        spec: data as for ``mskt train --data`` (docs/training-data.md).
        label_set: name or table; empty takes the structures of ``msk22`` that all atlases tell.
        spacing_mm: of the atlases.
        cache: folder for prepared cases; empty prepares them anew.
        body: network that finds the body, the same as for the patient: a calibration phantom that
            one mask has and the other lacks moves the whole registration. None: the cases' own.

    Raises:
        UsageError: nothing is named, or an atlas does not tell all of the label set asked for.
        InputError: the data have no label maps, or cannot be read.
    """
    if not spec:
        raise UsageError("multi_atlas", "has no atlases.", HOW)
    target = named(label_set) if label_set else built_in("msk22")
    with tempfile.TemporaryDirectory(prefix="mskt-atlases-") as temporary:
        data = open_data(
            [spec],
            label_set=target,
            spacing_mm=spacing_mm,
            shape=_voxels(spacing_mm),
            seed=0,
            cache=Path(cache or temporary),
        )
        cases = [
            (one.known, _atlas(one, n, spacing_mm, body)) for n, one in enumerate(data.cases())
        ]
    found = [(known, atlas) for known, atlas in cases if atlas is not None]
    if not found:
        raise InputError(
            spec, f"has {len(cases)} cases and no labelled voxel of {target.name!r}", HOW
        )
    told = [set(known if known is not None else target.names) for known, _ in found]
    common = [name for name in target.names if all(name in one for one in told)]
    if label_set and len(common) < len(target.names):
        missing = [name for name in target.names if name not in common]
        raise UsageError(
            "--option label_set",
            f"not all of the {len(found)} atlases tell {', '.join(missing[:4])}"
            f"{', …' if len(missing) > 4 else ''}",
            "Leave label_set out to take what all atlases tell, or give atlases that tell it.",
        )
    if not common:
        raise InputError(
            spec,
            f"its {len(found)} atlases have no structure of {target.name!r} in common",
            "Give atlases with one set of labels.",
        )
    return _restricted([atlas for _, atlas in found], target, common)


def _voxels(spacing_mm: tuple[float, float, float]) -> tuple[int, int, int]:
    x, y, z = (round(mm / step) for mm, step in zip(LARGEST_MM, spacing_mm, strict=True))
    return (x, y, z)


def _atlas(
    case: TrainingCase,
    number: int,
    spacing_mm: tuple[float, float, float],
    network: nn.Module | None,
) -> Atlas | None:
    """The case without what lies around the body; None if nothing is labelled."""
    labels = np.asarray(case.target)
    labelled = (labels > 0) & (labels != IGNORED)
    inside = np.asarray(case.body)
    if network is not None:
        image, grid = case.image.astype(np.float32), Grid(labels.shape, np.diag([*spacing_mm, 1.0]))
        inside = body_mask(image, grid, network, torch.device("cpu"), torch.float32)
    inside = inside | labelled
    box = foreground_box(inside)
    if box is None or not labelled.any():
        return None
    hu = np.where(inside[box], case.image[box], -1000).astype(np.float32)
    return Atlas(case.patient or f"atlas {number}", hu, labels[box].copy(), inside[box])


def _restricted(atlases: Sequence[Atlas], target: LabelSet, names: Sequence[str]) -> Collection:
    """Labels numbered 1 … n over the structures that all atlases tell; others are background."""
    if len(names) == len(target.names):
        return Collection(tuple(atlases), target)
    kept = tuple(replace(target[name], index=n) for n, name in enumerate(names, start=1))
    table = np.zeros(256, np.uint8)
    table[IGNORED] = IGNORED
    for structure in kept:
        table[target[structure.name].index] = structure.index
    small = LabelSet(target.name, kept)
    return Collection(tuple(replace(a, labels=table[a.labels]) for a in atlases), small)

"""Left and right told apart.

Left and right share a class in most label sets and are separated afterwards, as in Soufi 2024:
connected components, and a watershed where the two sides hang together (the pelvis at the
symphysis). A side is always the patient's own: it follows from the affine, so feet-first scans and
any order of the array axes need no special case.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mskt.core.anatomy import LabelSet
from mskt.core.components import Components
from mskt.core.foreground import slabs
from mskt.core.midplane import Midplane, midplane_of, pairs_of
from mskt.core.volume import Grid, to_canonical

UNSIDED, RIGHT, LEFT = 0, 1, 2
SIDE_CODES = {"right": RIGHT, "left": LEFT}
SIDE_NAMES = ("both", "right", "left")
"""Name of each side code in the results table."""

_JOINED_PART, _JOINED_MM = 0.05, 8.0  # a component beyond the plane by so much spans both sides
_NECK_MM = 20.0  # how far from the plane the narrowest cross-section is looked for
_BAND_MM = 5.0  # around the neck, where the watershed decides


def separate_sides(
    labels: NDArray[np.uint8], grid: Grid, label_set: LabelSet, *, plane: Midplane | None = None
) -> NDArray[np.uint8]:
    """Give every labelled voxel its side.

    Structures with the side ``left`` or ``right`` in the label set have it by definition, those
    with ``midline`` none. Of the others, each connected component is given to the side of the
    mid-sagittal plane where its centroid lies; one that reaches well across the plane is cut at its
    narrowest place.

    Args:
        labels: label map, not changed.
        grid: of ``labels``.
        label_set: says which structures come in pairs.
        plane: the mid-sagittal plane where it is known; by default it is estimated
            (:func:`mskt.core.midplane.estimate_midplane`).

    Returns:
        uint8, shape and memory order of ``labels``: 0 unsided, 1 right, 2 left. Where nothing
        tells left from right (a single structure of one leg), paired structures stay unsided.
    """
    return sides_and_plane(labels, grid, label_set, plane=plane)[0]


def sides_and_plane(
    labels: NDArray[np.uint8], grid: Grid, label_set: LabelSet, *, plane: Midplane | None = None
) -> tuple[NDArray[np.uint8], Midplane | None]:
    """:func:`separate_sides`, and the mid-sagittal plane where one was given or was needed and found."""
    sides = _zeros_like(labels)
    fixed = np.zeros(256, np.uint8)
    for structure in label_set.structures:
        fixed[structure.index] = SIDE_CODES.get(structure.side, UNSIDED)
    if fixed.any():
        for part in slabs(labels):
            sides[part] = fixed[labels[part]]
    if not any(structure.side == "both" for structure in label_set.structures):
        return sides, plane
    components = Components.find(labels, grid)
    if components is None:
        return sides, plane
    pairs = pairs_of(components, label_set)
    plane = plane or midplane_of(components, label_set, pairs)
    if plane is not None:
        view = to_canonical(sides, grid)[components.crop]
        _write_sides(components, label_set, pairs, plane, view)
    return sides, plane


def _zeros_like(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Zeros of the same shape and memory order; what is not written to takes no memory."""
    order = np.argsort([-abs(stride) for stride in labels.strides], kind="stable")
    zeros = np.zeros([labels.shape[axis] for axis in order], np.uint8)
    return zeros.transpose(np.argsort(order))


def _write_sides(
    components: Components,
    label_set: LabelSet,
    pairs: dict[int, tuple[int, int]],
    plane: Midplane,
    sides: NDArray[np.uint8],
) -> None:
    """Fill the canonical, cropped view ``sides`` for all paired structures."""
    table = np.where(plane.signed_mm(components.centre_mm) > 0, RIGHT, LEFT).astype(np.uint8)
    both = [s.index for s in label_set.structures if s.side == "both"]
    table[~np.isin(components.index, both)] = UNSIDED
    table[0] = UNSIDED
    for right, left in pairs.values():
        # Beside each other is stronger evidence than the plane: legs may lie obliquely.
        table[right], table[left] = RIGHT, LEFT
    runs = components.runs
    given = np.repeat(table[runs.value], runs.length)
    given = given.reshape([components.image.shape[axis] for axis in runs.order])
    # Sided structures of the same set have been written already, in other voxels.
    view = sides.transpose(runs.order)
    np.bitwise_or(view, given, out=view)
    settled = {component for pair in pairs.values() for component in pair}
    for component in np.flatnonzero(table).tolist():
        if component not in settled and _may_span(components, component, plane):
            _split(components, component, plane, sides)


def _may_span(components: Components, component: int, plane: Midplane) -> bool:
    """Tell whether the box of a component reaches well to both sides of the plane."""
    signed = plane.signed_mm(components.corners_mm(component))
    return bool(signed.min() < -_JOINED_MM and signed.max() > _JOINED_MM)


def _split(
    components: Components, component: int, plane: Midplane, sides: NDArray[np.uint8]
) -> None:
    """Cut a component where it is narrowest, if it spans both sides."""
    ranges = components.box[component]
    box = (
        slice(ranges[0, 0], ranges[0, 1] + 1),
        slice(ranges[1, 0], ranges[1, 1] + 1),
        slice(ranges[2, 0], ranges[2, 1] + 1),
    )
    mask = components.image[box] == component
    signed = _signed_mm(mask, components.affine, ranges[:, 0], plane)
    values = signed[mask]
    spacing = np.linalg.norm(components.affine[:3, :3], axis=0)
    smaller = min(np.count_nonzero(values > 0), np.count_nonzero(values < 0))
    if smaller < _JOINED_PART * values.size or min(values.max(), -values.min()) < _JOINED_MM:
        return
    signed -= _neck_mm(values, float(spacing[0]))
    sides[box][mask] = np.where(signed[mask] > 0, RIGHT, LEFT)
    _follow_neck(mask, signed, spacing, sides[box])


def _signed_mm(
    mask: NDArray[np.bool_],
    affine: NDArray[np.float64],
    start: NDArray[np.int64],
    plane: Midplane,
) -> NDArray[np.float32]:
    """Signed distance from the plane of every voxel of a box: a sum of three vectors.

    In the memory order of ``mask``: picking one array by another of other order takes long.
    """
    unit = np.eye(3)
    zero = plane.signed_mm(affine[:3, 3] + affine[:3, :3] @ start)
    along = [
        plane.signed_mm(affine[:3, :3] @ unit[a]) - plane.signed_mm(np.zeros(3)) for a in range(3)
    ]
    i, j, k = (np.arange(n) * float(along[a]) for a, n in enumerate(mask.shape))
    signed = np.empty_like(mask, np.float32)
    np.add((i + zero)[:, None, None] + j[:, None], k, out=signed, casting="same_kind")
    return signed


def _neck_mm(signed_mm: NDArray[np.float32], step_mm: float) -> float:
    """Where near the plane a component's cross-section is smallest.

    Smoothed over three sections, and weighted so that of similar sections the one nearest to the
    plane is taken.
    """
    reach = min(_NECK_MM, float(min(signed_mm.max(), -signed_mm.min())) / 2)
    half = max(1, int(reach / step_mm))
    bins = np.rint(signed_mm / step_mm).astype(np.int64)
    near = bins[np.abs(bins) <= half + 1] + half + 1
    area = np.convolve(np.bincount(near, minlength=2 * half + 3), np.ones(3) / 3, "valid")
    offsets = np.arange(-half, half + 1)
    cost = (area + 1.0) * (1.0 + np.abs(offsets) / (4.0 * half))
    return float(offsets[int(np.argmin(cost))] * step_mm)


def _follow_neck(
    mask: NDArray[np.bool_],
    signed: NDArray[np.float32],
    spacing: NDArray[np.float64],
    sides: NDArray[np.uint8],
) -> None:
    """Watershed on the distance transform, seeded from both sides, within a band around the neck.

    The band is narrow so that the seeds hold the deep part of either side: a flood that starts in a
    thin branch (the superior ramus) would otherwise run through the neck before the other side's.
    """
    # Both take long to load, and most maps need neither.
    import edt
    from skimage.segmentation import watershed

    width = max(_BAND_MM, 2.0 * float(spacing[0]))
    hit = np.flatnonzero((mask & (np.abs(signed) <= 2 * width)).any(axis=(1, 2)))
    if not hit.size:
        return
    part = slice(int(hit[0]), int(hit[-1]) + 1)
    mask, signed, sides = np.ascontiguousarray(mask[part]), signed[part], sides[part]
    seeds = np.where(signed > width, RIGHT, np.where(signed < -width, LEFT, UNSIDED))
    seeds = np.where(mask, seeds, UNSIDED).astype(np.int32)
    depth = edt.edt(mask, anisotropy=tuple(spacing.tolist()), black_border=False, parallel=1)
    found = watershed(  # type: ignore[no-untyped-call]
        -depth, seeds, connectivity=np.ones((3, 3, 3)), mask=mask
    )
    np.copyto(sides, found.astype(np.uint8), where=found > 0)

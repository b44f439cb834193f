"""Move images between grids: separable where the axes are parallel, general where they are not.

Values are interpolated linearly in float32. Going to a coarser grid the triangle kernel is widened
to the coarser spacing, so that noise and thin structures are averaged instead of picked or missed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mskt.core.volume import FloatArray, Grid, to_canonical

AIR_HU = -1024.0
PARALLEL_DEG = 5.0
"""Up to this angle an image is worked on along its own axes: networks know such rotations."""


def working_grid(
    image: Grid,
    spacing_mm: tuple[float, float, float],
    *,
    keep_axes_up_to_deg: float = PARALLEL_DEG,
) -> Grid:
    """A grid of another spacing that covers the field of view of ``image``.

    Args:
        image: the grid to cover.
        spacing_mm: along right, anterior, superior.
        keep_axes_up_to_deg: an image that is more oblique than this gets a grid along the world axes.

    Returns:
        A grid whose axes point right, anterior and superior; first voxel faces coincide where the
        axes are kept.
    """
    if image.obliquity_deg <= keep_axes_up_to_deg:
        source = image.canonical()
        extent = np.asarray(source.shape) * np.asarray(source.spacing_mm)
        shape = np.maximum(1, np.ceil(extent / spacing_mm - 1e-3)).astype(int)
        scale = np.asarray(spacing_mm) / np.asarray(source.spacing_mm)
        affine = source.affine.copy()
        affine[:3, :3] = source.affine[:3, :3] * scale
        # Both grids begin at the same face: centre of voxel 0 moves by half the change in spacing.
        affine[:3, 3] = source.affine[:3, :3] @ ((scale - 1) / 2) + source.affine[:3, 3]
        return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)
    corners = np.array(
        [
            [i, j, k, 1]
            for i in (-0.5, image.shape[0] - 0.5)
            for j in (-0.5, image.shape[1] - 0.5)
            for k in (-0.5, image.shape[2] - 0.5)
        ]
    )
    world = (corners @ image.affine.T)[:, :3]
    low, high = world.min(axis=0), world.max(axis=0)
    shape = np.maximum(1, np.ceil((high - low) / spacing_mm)).astype(int)
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = low + np.asarray(spacing_mm) / 2
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def parallel(first: Grid, second: Grid) -> bool:
    """True if the axes of both grids, made canonical, point the same way."""
    a, b = first.canonical(), second.canonical()
    directions_a = a.affine[:3, :3] / np.asarray(a.spacing_mm)
    directions_b = b.affine[:3, :3] / np.asarray(b.spacing_mm)
    return bool(np.abs(directions_a - directions_b).max() < 1e-3)


def axis_coordinates(of: Grid, within: Grid) -> tuple[NDArray[np.float64], ...]:
    """For parallel canonical grids: where the voxels of one lie along each axis of the other.

    Returns:
        Three arrays of fractional voxel indices of ``within``, one value a voxel of ``of``.
    """
    to_index = np.linalg.inv(within.affine) @ of.affine
    return tuple(to_index[a, a] * np.arange(of.shape[a]) + to_index[a, 3] for a in range(3))


def interpolation_matrix(
    coordinates: NDArray[np.float64], length: int, *, widen: bool = True
) -> FloatArray:
    """Weights of linear interpolation along one axis, as a dense matrix.

    Args:
        coordinates: fractional indices into the source axis, evenly spaced.
        length: number of source voxels.
        widen: widen the triangle to the step of ``coordinates`` where that is coarser than 1.

    Returns:
        float32 ``(len(coordinates), length)``; rows sum to 1, or are zero where the place lies more
        than half a voxel (of the coarser grid) outside the source.
    """
    step = float(np.mean(np.diff(coordinates))) if len(coordinates) > 1 else 1.0
    width = max(1.0, abs(step)) if widen else 1.0
    inside = (coordinates > -0.5 * width - 1e-6) & (coordinates < length - 1 + 0.5 * width + 1e-6)
    place = np.clip(coordinates, 0, length - 1)
    weights = 1 - np.abs(place[:, None] - np.arange(length)[None, :]) / width
    weights = np.clip(weights, 0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.asarray(weights * inside[:, None], np.float32)


def resample_image(
    data: FloatArray, source: Grid, target: Grid, fill: float = AIR_HU
) -> FloatArray:
    """The image on another grid.

    Args:
        data: float32, shape of ``source``.
        source: grid of ``data``.
        target: canonical grid (axes right, anterior, superior), or any grid if not parallel.
        fill: value outside the field of view.

    Returns:
        float32 array of the target's shape; memory is laid out slice by slice.
    """
    if parallel(source, target):
        return _separable(to_canonical(data, source), source.canonical(), target, fill)
    return _general(data, source, target, fill)


def _separable(data: FloatArray, source: Grid, target: Grid, fill: float) -> FloatArray:
    along = axis_coordinates(target, source)
    w_i, w_j, w_k = (interpolation_matrix(along[a], source.shape[a]) for a in range(3))
    in_plane = _InPlane(w_i, w_j)
    out = np.zeros((target.shape[2], target.shape[0], target.shape[1]), np.float32)
    # Slices are weighted first where that leaves fewer of them to be resampled.
    fewer = int(w_k.any(axis=1).sum()) < int(w_k.any(axis=0).sum())
    sums: dict[int, FloatArray] = {}
    for k in np.flatnonzero(w_k.any(axis=0)).tolist():
        plane: FloatArray = np.ascontiguousarray(data[:, :, k].T)  # as files have it
        if not fewer:
            plane = in_plane(plane)
        for row in np.flatnonzero(w_k[:, k]).tolist():
            part = w_k[row, k] * plane
            sums[row] = np.add(sums[row], part, out=part) if row in sums else part
            if not w_k[row, k + 1 :].any():
                whole = sums.pop(row)
                out[row] = in_plane(whole).T if fewer else whole.T
    seen = [weights.sum(axis=1) > 0 for weights in (w_k, w_i, w_j)]
    outside = ~(seen[0][:, None, None] & seen[1][None, :, None] & seen[2][None, None, :])
    np.copyto(out, np.float32(fill), where=outside)
    return out.transpose(1, 2, 0)


class _InPlane:
    """Interpolation within slices, ``(columns, rows)``: a few source voxels for each one of the target.

    Sparse products: a tenth of the time of dense ones, and no threads that add in another order.
    """

    def __init__(self, w_i: FloatArray, w_j: FloatArray) -> None:
        from scipy import sparse

        self._rows, self._columns = sparse.csr_array(w_i), sparse.csr_array(w_j)

    def __call__(self, plane: FloatArray) -> FloatArray:
        half = np.ascontiguousarray((self._columns @ plane).T)
        found: FloatArray = (self._rows @ half).T
        return found


def _general(data: FloatArray, source: Grid, target: Grid, fill: float) -> FloatArray:
    """Trilinear sampling for rotated grids, a few slices at a time; smoothed first where it is coarser.

    Places up to half a voxel outside the field of view take the value at its border.
    """
    import torch
    from scipy import ndimage
    from torch.nn import functional

    ratio = (
        np.asarray(target.spacing_mm)
        @ np.abs(
            np.linalg.inv(target.affine[:3, :3] / target.spacing_mm)
            @ (source.affine[:3, :3] / source.spacing_mm)
        )
        / np.asarray(source.spacing_mm)
    )
    sigma = [0.4 * np.sqrt(max(0.0, float(r) ** 2 - 1)) for r in ratio]
    smooth = ndimage.gaussian_filter(data, sigma, truncate=3) if max(sigma) > 0.2 else data
    volume = torch.from_numpy(np.ascontiguousarray(smooth, np.float32))[None, None]
    matrix = torch.from_numpy(np.linalg.inv(source.affine) @ target.affine)
    size = torch.tensor(source.shape, dtype=torch.float64)
    i, j = (torch.arange(n, dtype=torch.float64) for n in target.shape[:2])
    plane = matrix[:3, 0] * i[:, None, None] + matrix[:3, 1] * j[None, :, None] + matrix[:3, 3]
    out = np.empty((target.shape[2], target.shape[0], target.shape[1]), np.float32)
    for k in range(target.shape[2]):
        index = plane + matrix[:3, 2] * k
        inside = ((index >= -0.5) & (index <= size - 0.5)).all(dim=-1)
        # grid_sample counts from -1 to 1 between the outer faces, last axis first
        places = ((2 * index + 1) / size - 1).flip(-1).float()[None, None]
        sampled = functional.grid_sample(
            volume, places, mode="bilinear", padding_mode="border", align_corners=False
        )
        out[k] = torch.where(inside, sampled[0, 0, 0], fill).numpy()
    return out.transpose(1, 2, 0)


def resample_labels(data: NDArray[np.uint8], source: Grid, target: Grid) -> NDArray[np.uint8]:
    """A label map on another grid: the label of the nearest voxel, 0 outside the field of view."""
    from scipy import ndimage

    matrix = np.linalg.inv(source.affine) @ target.affine
    moved: NDArray[np.uint8] = ndimage.affine_transform(
        data,
        matrix[:3, :3],
        matrix[:3, 3],
        target.shape,
        order=0,
        mode="grid-constant",
        prefilter=False,
    )
    return moved

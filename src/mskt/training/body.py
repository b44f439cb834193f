"""Where the body is, when nobody says so: a threshold and its largest parts.

For data of one's own, where a patient lies on a table and little touches the skin. What does touch
it (a calibration phantom) stays attached; a learned mask is the segmenter's business.
"""

from __future__ import annotations

import cc3d
import edt
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

BODY_HU = -300.0
OPENING_MM = 9.0
"""Radius of the opening in each slice: table tops and blankets are thinner than twice this."""
SMALLEST_PART = 0.12
"""A second part (the other leg) has this share of the largest one's voxels; a hand has less."""


def body_mask(
    image: NDArray[np.float32], spacing_mm: tuple[float, float, float]
) -> NDArray[np.bool_]:
    """True inside the skin, bowel gas included; an image without a body is True everywhere.

    Args:
        image: HU, (x, y, z), axial slices along the last axis.
        spacing_mm: of its voxels.
    """
    mask = np.zeros((image.shape[2], *image.shape[:2]), bool)
    for k, plane in enumerate(mask):
        _open(np.asarray(image[:, :, k] > BODY_HU), spacing_mm[:2], plane)
    parts = cc3d.connected_components(mask, connectivity=6)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    if len(sizes) < 2:
        return np.ones(image.shape, bool)
    keep = (sizes >= SMALLEST_PART * sizes.max())[parts]
    return np.asarray(keep.transpose(1, 2, 0))


def _open(plane: NDArray[np.bool_], pixel_mm: tuple[float, ...], out: NDArray[np.bool_]) -> None:
    """Fill the holes of a slice and remove what is thin, into ``out``."""
    filled = ndimage.binary_fill_holes(plane)
    core = edt.edt(filled, anisotropy=pixel_mm, black_border=False, parallel=1) > OPENING_MM
    if core.any():
        outside = edt.edt(~core, anisotropy=pixel_mm, black_border=False, parallel=1)
        # Voxel centres: the core begins one pixel beyond the radius.
        out[:] = filled & (outside <= OPENING_MM + max(pixel_mm))

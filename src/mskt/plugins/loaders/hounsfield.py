"""Are these values Hounsfield units? Padding outside the scanned circle, and refusals.

The test asks for what every CT of hip or thigh has, however it is cropped: fat below −30 HU and
bone above 150 HU. Air is not asked for (a crop inside the body has none).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mskt.core.errors import HounsfieldError, InputError
from mskt.core.interfaces import LoadOptions
from mskt.plugins.loaders.allowances import unless_allowed

AIR_HU = -1024.0
PADDING_BELOW_HU = -1124.0
"""Unclipped noise in air reaches some HU below −1024; padding is far below (−1500 … −32768)."""
FAT_BELOW_HU, BONE_ABOVE_HU = -30.0, 150.0
SOFT_TISSUE_HU = (-250.0, 350.0)
SAMPLE_SIZE = 2_000_000

_RESCALE = (
    "Apply the scanner's scaling (stored value × RescaleSlope + RescaleIntercept, usually "
    "−1024), or convert it again from the original DICOM series."
)
_ORIGINAL = "Give the CT as it came from the scanner, before any normalisation or windowing."


def settle_values(data: NDArray[np.float32], thing: str, options: LoadOptions) -> list[str]:
    """Check that ``data`` holds Hounsfield units; set padding to air **in place**.

    Returns:
        Notes about what was changed or looks unusual.

    Raises:
        InputError: NaN or infinite values, or one value everywhere.
        HounsfieldError: the values are something else than HU.
    """
    notes = _settle_not_finite(data, thing, options)
    low, high = float(data.min()), float(data.max())
    if low == high:
        raise InputError(
            thing,
            f"every voxel has the value {low:g}: there is no image in it",
            "Convert it again from the original.",
        )
    if "not-hu" in options.allow:
        return [*notes, f"The values ({low:g} … {high:g}) were taken as they are (--allow not-hu)."]
    if low < PADDING_BELOW_HU:
        notes.append(_clear_padding(data, low))
    sample = _sample(data)
    fault = _fault(sample, max(low, AIR_HU), high)
    if fault:
        raise HounsfieldError(
            thing,
            f"its values are not Hounsfield units: {fault[0]}",
            f"{fault[1]}\n{unless_allowed('not-hu')}",
        )
    return notes + _window_note(sample, max(low, AIR_HU), high)


def _settle_not_finite(data: NDArray[np.float32], thing: str, options: LoadOptions) -> list[str]:
    # NaN propagates through min, and an infinity is an extreme: one pass and no temporary array
    if np.isfinite(data.min()) and np.isfinite(data.max()):
        return []
    wrong = ~np.isfinite(data)
    count = int(wrong.sum())
    share = 100 * count / data.size
    if "not-finite" not in options.allow:
        raise InputError(
            thing,
            f"{count} voxels ({share:.2g} %) are NaN or infinite",
            f"Find out what wrote them.\n{unless_allowed('not-finite')}",
        )
    data[wrong] = AIR_HU
    return [f"{count} voxels ({share:.2g} %) were NaN or infinite and were set to −1024 HU."]


def _clear_padding(data: NDArray[np.float32], low: float) -> str:
    share = 100 * np.count_nonzero(data < AIR_HU) / data.size
    np.maximum(data, np.float32(AIR_HU), out=data)
    return (
        f"{share:.2g} % of the voxels were below −1024 HU (lowest {low:g}: padding outside the "
        "scanned circle) and were set to −1024 HU."
    )


def _sample(data: NDArray[np.float32]) -> NDArray[np.float32]:
    """About two million voxels on a regular sub-grid."""
    step = max(1, round((data.size / SAMPLE_SIZE) ** (1 / 3)))
    # a thin axis is kept whole: one slice in three of a short stack could miss the bone
    steps = [step if size > 8 * step else 1 for size in data.shape]
    return np.ascontiguousarray(data[:: steps[0], :: steps[1], :: steps[2]]).ravel()


def _fault(sample: NDArray[np.float32], low: float, high: float) -> tuple[str, str] | None:
    """What the values look like instead, and the remedy; None if they look like HU."""
    span = f"they lie in {low:g} … {high:g}"
    if high - low <= 20:
        return f"{span}, which looks normalised", _ORIGINAL
    if low >= 0 and high <= 255:
        return f"{span}, which looks like an 8-bit picture", _ORIGINAL
    if low >= 0:
        return f"{span}, which looks like stored values without the offset of −1024", _RESCALE
    if np.mean((sample > AIR_HU + 4) & (sample < FAT_BELOW_HU)) < 1e-4:
        return (
            f"{span}, and apart from padding hardly any is below {FAT_BELOW_HU:g}, where fat is"
        ), _RESCALE
    if high < BONE_ABOVE_HU:
        return f"{span}, and none is above {BONE_ABOVE_HU:g}, where bone is", _ORIGINAL
    soft = float(np.mean((sample > SOFT_TISSUE_HU[0]) & (sample < SOFT_TISSUE_HU[1])))
    if soft < 0.005:
        return (
            f"{span}, but only {100 * soft:.2g} % between −250 and 350, where fat and muscle are"
        ), _RESCALE
    if float(np.mean(sample > 4000)) > 0.05:
        return f"{span}, and more than 5 % are above 4000", _RESCALE
    return None


def _window_note(sample: NDArray[np.float32], low: float, high: float) -> list[str]:
    """Clipped values are still HU, but densities computed from them are not those of the tissue."""
    if low <= -500 or np.mean(sample == low) < 0.01:
        return []
    return [
        f"The values look windowed: {100 * np.mean(sample == low):.0f} % of the voxels have "
        f"exactly the lowest value, {low:g} HU (highest {high:g} HU). Mean densities of fat "
        "and bone computed from them are not trustworthy."
    ]

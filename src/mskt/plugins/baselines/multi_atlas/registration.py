"""Non-rigid registration by SimpleITK: demons for what lies within the skin, and resampling.

Every filter runs in one thread and takes a fixed number of steps: the result depends on the two
images alone. Several atlases run side by side, each in its own thread.
Arrays are (x, y, z); SimpleITK's images begin at 0 mm with unit directions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from mskt.core.volume import FloatArray

TISSUE_HU = (-150.0, 350.0)
"""Fat, muscle and bone; what is denser than 350 HU counts the same."""
NOT_SEEN = -9999.0


def as_image(array: NDArray[Any], spacing_mm: tuple[float, float, float]) -> sitk.Image:
    """An array (x, y, z) as SimpleITK has it."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    image.SetSpacing(spacing_mm)
    return image


def as_array(image: sitk.Image) -> NDArray[Any]:
    """The voxels as (x, y, z)."""
    return np.asarray(sitk.GetArrayFromImage(image)).transpose(2, 1, 0)


def demons(
    fixed: FloatArray,
    moving: FloatArray,
    spacing_mm: tuple[float, float, float],
    *,
    shrink: int,
    iterations: int,
    smooth_mm: float,
    field: sitk.Image | None = None,
) -> sitk.Image:
    """The displacement field (mm, on the fixed grid) that symmetric-forces demons find.

    Args:
        fixed: HU of the patient.
        moving: HU of the atlas on the same grid.
        spacing_mm: of the grid.
        shrink: works on voxels that are so many times coarser along every axis.
        iterations: steps.
        smooth_mm: standard deviation of the Gaussian that keeps the field smooth.
        field: to begin with.
    """
    one, other = (_coarser(as_image(a, spacing_mm), shrink) for a in (fixed, moving))
    method = sitk.FastSymmetricForcesDemonsRegistrationFilter()
    method.SetNumberOfThreads(1)
    method.SetNumberOfIterations(iterations)
    method.SetMaximumRMSError(0.0)
    method.SetSmoothDisplacementField(True)
    method.SetStandardDeviations([smooth_mm / step for step in one.GetSpacing()])
    begin = None if field is None else _on(field, one)
    try:
        found = method.Execute(one, other) if begin is None else method.Execute(one, other, begin)
    except RuntimeError:  # fewer voxels along an axis than the filter needs: nothing to deform
        found = sitk.Image(one.GetSize(), sitk.sitkVectorFloat64, 3)
        found.CopyInformation(one)
    return _on(found, as_image(fixed, spacing_mm))


def warped(
    array: NDArray[Any],
    spacing_mm: tuple[float, float, float],
    shape: tuple[int, int, int],
    transform: sitk.Transform,
    *,
    labels: bool,
    outside: float,
) -> NDArray[Any]:
    """An atlas's array on the fixed grid.

    Args:
        array: (x, y, z) on the atlas's grid.
        spacing_mm: of both grids.
        shape: of the fixed grid.
        transform: from there to the atlas.
        labels: each voxel gets the label with the greatest linear weight; else linear.
        outside: the value beyond the atlas's field of view.
    """
    method = sitk.ResampleImageFilter()
    method.SetNumberOfThreads(1)
    method.SetSize(shape)
    method.SetOutputSpacing(spacing_mm)
    method.SetTransform(transform)
    method.SetInterpolator(sitk.sitkLabelLinear if labels else sitk.sitkLinear)
    method.SetDefaultPixelValue(outside)
    return as_array(method.Execute(as_image(array, spacing_mm)))


def chain(first: sitk.Transform, field: sitk.Image) -> sitk.Transform:
    """Displacement on the fixed grid, then the affine to the atlas."""
    displacement = sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))
    return sitk.CompositeTransform([first, displacement])


def _coarser(image: sitk.Image, shrink: int) -> sitk.Image:
    """Smoothed and sampled; an axis with too few voxels keeps them."""
    factors = [shrink if size >= 8 * shrink else 1 for size in image.GetSize()]
    if max(factors) == 1 or min(image.GetSize()) < 4:
        return image
    smooth = sitk.SmoothingRecursiveGaussianImageFilter()
    smooth.SetNumberOfThreads(1)
    smooth.SetSigma([0.4 * f * s for f, s in zip(factors, image.GetSpacing(), strict=True)])
    small: sitk.Image = sitk.Shrink(smooth.Execute(image), factors)
    return small


def _on(field: sitk.Image, grid: sitk.Image) -> sitk.Image:
    """A displacement field on another grid, its border values continued."""
    method = sitk.ResampleImageFilter()
    method.SetNumberOfThreads(1)
    method.SetReferenceImage(grid)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetUseNearestNeighborExtrapolator(True)
    method.SetOutputPixelType(sitk.sitkVectorFloat64)
    moved: sitk.Image = method.Execute(field)
    return moved

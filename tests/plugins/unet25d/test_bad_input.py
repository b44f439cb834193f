"""What scans can be like: every trainable system gives a result or names what is missing."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from legs_scan import grid, scan

from mskt.core.pipeline import CaseResult, segment_case
from mskt.core.registry import registry
from mskt.core.volume import Volume
from mskt.plugins.uncertainty.estimators import DeterministicEstimator

SEGMENTERS = ("unet25d", "unetr", "unet3d", "unet2d", "fcn8s")
SMALL = grid(np.array([9.0, 9.0, 14.0]), (38, 22, 15))


def of_thickness(step_mm: float, slices: int) -> Volume:
    """A stack of thin or thick slices in the middle of the thighs."""
    return scan(on=grid(np.array([8.0, 8.0, step_mm]), (42, 24, slices)))


def amputated() -> Volume:
    """The left leg ends in the upper quarter."""
    image = scan(on=SMALL)
    data = image.data.copy()
    assert image.mask is not None
    data[:19, :, :11] = -1000.0
    return replace(image, data=data, mask=image.mask & (data > -500))


INPUTS = {
    "no leg": lambda: Volume(np.full((24, 20, 9), -1000, np.float32), np.diag([9.0, 9, 12, 1])),
    "one leg": lambda: scan(legs=(1,), on=SMALL),
    "amputated": amputated,
    "implant": lambda: scan(stem=True, on=SMALL),
    "no femur": lambda: scan(bone=60.0, on=SMALL),
    "smaller than a patch": lambda: scan(on=grid(np.array([60.0, 40.0, 9.0]), (6, 5, 3))),
    "single slice": lambda: of_thickness(5.0, 1),
    "0.4 mm": lambda: of_thickness(0.4, 24),
    "6 mm": lambda: of_thickness(6.0, 12),
}


def segmented(name: str, image: Volume) -> CaseResult:
    factory = registry().find("segmenter", name).spec.load()
    made = factory(weights="random", variant="tiny", device="cpu", precision="float32")
    return segment_case(image, made, DeterministicEstimator())


@cache
def of_kind(kind: str) -> CaseResult:
    """What unet25d makes of an input; several tests look at it."""
    return segmented("unet25d", INPUTS[kind]())


@pytest.mark.parametrize("segmenter", SEGMENTERS)
@pytest.mark.parametrize("kind", INPUTS)
def test_every_scan_has_a_result_on_its_own_grid(segmenter: str, kind: str) -> None:
    image = INPUTS[kind]()
    result = of_kind(kind) if segmenter == "unet25d" else segmented(segmenter, image)
    assert result.labels.data.shape == result.uncertainty.shape == image.data.shape
    np.testing.assert_array_equal(result.labels.affine, image.affine)
    assert np.isfinite(result.uncertainty).all()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("no leg", "no femur found"),
        ("no femur", "no femur found"),
        ("one leg", "only the right femur was found"),
    ],
)
def test_what_unet25d_does_not_segment_it_names(kind: str, said: str) -> None:
    assert any(said in note for note in of_kind(kind).notes)


@pytest.mark.parametrize("kind", ["implant", "single slice", "0.4 mm", "6 mm"])
def test_both_legs_are_segmented_where_both_are_there(kind: str) -> None:
    image = INPUTS[kind]()
    result = of_kind(kind)
    assert not any("femur" in note for note in result.notes)
    x = image.affine[0, 3] + image.affine[0, 0] * np.arange(image.data.shape[0])
    for half in (x < -40, x > 40):  # untrained: labels may be background, doubt is not
        assert result.uncertainty[half].max() > 0


def test_feet_first_is_the_same_patient() -> None:
    """Stored from the feet up with left and right exchanged, as a turned table gives it."""
    image = scan(lean=0.15, stem=True, on=SMALL)
    assert image.mask is not None
    turned = image.affine.copy()
    last = [image.data.shape[0] - 1, 0, image.data.shape[2] - 1, 1]
    turned[:3, 3] = (image.affine @ last)[:3]
    turned[:3, [0, 2]] *= -1
    feet_first = replace(
        image,
        data=image.data[::-1, :, ::-1].copy(),
        affine=turned,
        mask=image.mask[::-1, :, ::-1].copy(),
    )
    first, second = (segmented("unet25d", one) for one in (image, feet_first))
    assert first.notes == second.notes
    assert first.uncertainty.max() > 0
    back = second.uncertainty[::-1, :, ::-1]
    np.testing.assert_allclose(back, first.uncertainty, atol=1e-3)

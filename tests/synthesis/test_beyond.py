"""Levels of synthetic slices, and shoulders, head and feet."""

from __future__ import annotations

import numpy as np
import pytest

from mskt.core.regions import standard_mm
from mskt.synthesis.beyond import SOLE_MM, VERTEX_MM, Stack, extend
from mskt.synthesis.config import SynthesisConfig
from mskt.synthesis.engine import Fov, synthesise

SPACING = (8.0, 8.0, 10.0)


@pytest.fixture(scope="module")
def stack(prepared) -> Stack:
    case = synthesise(
        prepared,
        seed=3,
        spacing_mm=SPACING,
        fov=Fov((-264.0, -200.0, -1020.0), (67, 51, 200)),
        config=SynthesisConfig.phantom(),
    )
    level = np.array([np.nan if v is None else v for v in case.meta["levels"]])
    axes = [case.affine[k, 3] + SPACING[k] * np.arange(case.image.shape[k]) for k in range(2)]
    return Stack(case.image, case.body, axes[0], axes[1], standard_mm(level))


def test_levels_rise_and_meet_the_landmarks(stack):
    z = -1020 + 10.0 * np.arange(200)
    h = stack.height_mm
    assert (np.diff(h[np.isfinite(h)]) > 0).all()
    assert np.interp(0, z, h) == pytest.approx(0, abs=15)
    assert np.interp(145, z, h) == pytest.approx(145, abs=25)
    assert np.interp(-430, z, h) == pytest.approx(-440, abs=35)


def test_the_body_ends_at_vertex_and_soles(stack):
    whole = extend(stack, seed=5)
    there = whole.body[np.abs(stack.x_mm) < 60].any(axis=(0, 1))  # arms may be up
    h = stack.height_mm
    assert not there[h > VERTEX_MM + 70].any()
    assert not there[h < -440 - SOLE_MM - 150].any()
    width = whole.body[np.abs(stack.x_mm) < 100].any(axis=1).sum(axis=0) * SPACING[0]
    head, chest = width[np.nanargmin(np.abs(h - 730))], width[np.nanargmin(np.abs(h - 450))]
    assert 100 < head < 185 < chest


def test_between_ankle_and_lungs_nothing_changes_and_the_seed_decides(stack):
    whole = extend(stack, seed=5)
    keep = (stack.height_mm > -760) & (stack.height_mm < 290)
    np.testing.assert_array_equal(whole.image[:, :, keep], stack.image[:, :, keep])
    again, other = extend(stack, seed=5), extend(stack, seed=6)
    np.testing.assert_array_equal(whole.image, again.image)
    assert not np.array_equal(whole.image, other.image)

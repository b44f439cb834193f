"""What several packages' tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from mskt.synthesis.labelmap import LabelMap

STEP = 4.0
SHAPE = (110, 70, 170)
ORIGIN = np.array([-218.0, -140.0, -480.0])


def _ball(
    p: list[np.ndarray], centre: tuple[float, float, float], semi: tuple[float, float, float]
):
    return sum(((v - c) / s) ** 2 for v, c, s in zip(p, centre, semi, strict=True)) < 1


def _person() -> LabelMap:
    """A crude person of ellipsoids: enough for the engine, known to the last voxel."""
    from mskt.synthesis.labelmap import LabelMap

    axes = [ORIGIN[k] + STEP * np.arange(SHAPE[k]) for k in range(3)]
    p = list(np.meshgrid(*axes, indexing="ij"))
    labels = np.zeros(SHAPE, np.uint8)
    for side, offset in ((1, 0), (-1, 100)):
        x = side
        labels[_ball(p, (x * 105, -75, 20), (75, 32, 110))] = 1 + offset
        labels[_ball(p, (x * 125, -10, 75), (30, 40, 75))] = 2 + offset
        labels[_ball(p, (x * 92, 20, -230), (50, 38, 190))] = 22 + offset
        labels[_ball(p, (x * 85, -45, -230), (42, 36, 180))] = 17 + offset
        labels[_ball(p, (x * 40, 5, 110), (24, 24, 120))] = 6 + offset
        labels[_ball(p, (x * 90, -5, 60), (26, 48, 85))] = 33 + offset
        labels[_ball(p, (x * 50, 20, -35), (48, 26, 30))] = 33 + offset
        labels[_ball(p, (x * 90, 0, 0), (27, 27, 27))] = 34 + offset
        shaft = np.hypot(p[0] - x * 95, p[1]) < 16
        labels[shaft & (p[2] < -10) & (p[2] > -420)] = 34 + offset
        labels[_ball(p, (x * 95, 0, -410), (40, 32, 30))] = 34 + offset
    labels[_ball(p, (0, -70, 75), (55, 30, 55))] = 36
    affine = np.diag([STEP, STEP, STEP, 1.0])
    affine[:3, 3] = ORIGIN
    marks = {
        "hip_right": (90, 0, 0), "hip_left": (-90, 0, 0),
        "knee_right": (95, 0, -440), "knee_left": (-95, 0, -440),
        "crest_right": (90, 0, 145), "crest_left": (-90, 0, 145),
    }  # fmt: skip
    return LabelMap(labels, affine, {k: np.array(v, float) for k, v in marks.items()})


@pytest.fixture(scope="session")
def ellipsoid_person() -> LabelMap:
    return _person()

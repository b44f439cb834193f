"""Two thighs of cylinders on a coarse grid: skin, muscle, a tilted femur, exactly known."""

from __future__ import annotations

import numpy as np

from mskt.core.volume import Grid, Volume

STEP = np.array([3.0, 3.0, 5.0])
SHAPE = (112, 64, 80)
AIR, FAT, MUSCLE, BONE, METAL = -1000.0, -100.0, 55.0, 900.0, 9000.0


def grid(step=STEP, shape=SHAPE) -> Grid:
    affine = np.diag([*step, 1.0])
    affine[:3, 3] = -(np.array(shape) - 1) / 2 * step
    return Grid(shape, affine)


def scan(
    *,
    apart: float = 90.0,
    radius: float = 70.0,
    lean: float = 0.08,
    legs: tuple[int, ...] = (1, -1),
    on: Grid | None = None,
    stem: bool = False,
    bone: float = BONE,
) -> Volume:
    """HU and body mask.

    ``lean``: how far the femurs go outwards, per mm upwards; ``legs``: 1 right, -1 left; ``stem``:
    metal in the upper half of the right femur.
    """
    on = on or grid()
    index = np.indices(on.shape).reshape(3, -1)
    world = (on.affine[:3, :3] @ index).T + on.affine[:3, 3]
    x, y, z = (world[:, a].reshape(on.shape) for a in range(3))
    data = np.full(on.shape, AIR, np.float32)
    for sign in legs:
        axis = sign * (apart + lean * z)
        skin = np.hypot(x - axis + sign * 8, y) < radius
        data[skin] = np.maximum(data[skin], FAT)
        data[np.hypot(x - axis + sign * 8, y) < radius - 14] = MUSCLE
    body = data > -500
    for sign in legs:
        shaft = np.hypot(x - sign * (apart + lean * z), y - 6)
        data[shaft < 15] = bone
        data[shaft < 7] = -60
        if stem and sign == 1:
            data[(shaft < 9) & (z > 20)] = METAL
    return Volume(data, on.affine, mask=body)

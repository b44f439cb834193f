"""The streamed way back equals interpolating whole probability volumes."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from mskt.core.backproject import Output, projector
from mskt.core.interfaces import Estimate
from mskt.core.resample import working_grid
from mskt.core.sweeps import axial_slabs
from mskt.core.volume import Grid

CLASSES = 5


def smooth_probabilities(shape, seed=0):
    rng = np.random.default_rng(seed)
    logits = np.stack(
        [ndimage.gaussian_filter(rng.normal(size=shape), 1.5) for _ in range(CLASSES)]
    )
    return torch.from_numpy(logits * 30).float().softmax(0)


def run(grid: Grid, working: Grid, probabilities, uncertainty, depth) -> Output:
    output = Output(grid)
    target = projector(output, working, CLASSES)
    for region in axial_slabs(working.shape, depth):
        box = (slice(None), *region.slices)
        target.add(region, Estimate(probabilities[box], uncertainty[region.slices]))
    target.finish()
    return output


def sampled(grid: Grid, working: Grid, volumes):
    """Trilinear interpolation of whole volumes, the slow and plain way."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), 0)
    matrix = np.linalg.inv(working.affine) @ grid.affine
    at = np.tensordot(matrix[:3, :3], index, 1) + matrix[:3, 3, None, None, None]
    return np.stack(
        [
            ndimage.map_coordinates(v.numpy().astype(float), at, order=1, mode="nearest")
            for v in volumes
        ]
    )


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1), (-1, -1, 1)])
@pytest.mark.parametrize("spacing", [(0.9, 1.1, 1.3), (2.0, 2.0, 3.0), (3.1, 2.7, 5.0)])
@pytest.mark.parametrize("depth", [1, 3, 50])
def test_streaming_equals_whole_volume_interpolation(flips, spacing, depth):
    affine = np.diag([*(s * f for s, f in zip(spacing, flips, strict=True)), 1.0])
    grid = Grid((21, 17, 13), affine)
    working = working_grid(grid, (2.0, 2.0, 3.0))
    probabilities = smooth_probabilities(working.shape)
    uncertainty = probabilities[1] * probabilities[2]
    output = run(grid, working, probabilities, uncertainty, depth)
    want = sampled(grid, working, [*probabilities, uncertainty])
    ranked = np.sort(want[:CLASSES], axis=0)
    clear = ranked[-1] - ranked[-2] > 1e-4
    assert clear.mean() > 0.9
    assert (output.labels == want[:CLASSES].argmax(0))[clear].all()
    np.testing.assert_allclose(output.uncertainty, want[CLASSES], atol=1e-5)


def test_rotated_grids_are_sampled_trilinearly():
    angle = np.deg2rad(20)
    rotation = np.eye(4)
    rotation[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    grid = Grid((15, 14, 13), rotation @ np.diag([1.5, 1.5, 2.0, 1.0]))
    working = working_grid(grid, (2.0, 2.0, 3.0))
    probabilities = smooth_probabilities(working.shape)
    output = run(grid, working, probabilities, probabilities[1], 4)
    want = sampled(grid, working, probabilities)
    ranked = np.sort(want, axis=0)
    clear = ranked[-1] - ranked[-2] > 5e-3  # kept as float16
    assert (output.labels == want.argmax(0))[clear].all()


def test_a_class_that_wins_nowhere_is_not_invented():
    grid = Grid((8, 8, 8), np.diag([1.0, 1, 1, 1]))
    working = working_grid(grid, (2.0, 2.0, 2.0))
    probabilities = torch.zeros((CLASSES, *working.shape))
    probabilities[0] = 1
    output = run(grid, working, probabilities, torch.zeros(working.shape), 2)
    assert output.labels.max() == 0
    assert output.uncertainty.max() == 0

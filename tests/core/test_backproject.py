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


def sharpened(volumes):
    """Each axis' second difference taken away as between rotated grids, by scipy."""
    kernel = [-0.125, 1.25, -0.125]
    found = []
    for volume in volumes.numpy():
        for axis in range(3):
            volume = ndimage.correlate1d(volume, kernel, axis=axis, mode="nearest")
        found.append(torch.from_numpy(volume))
    return torch.stack(found)


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


def test_rotated_grids_are_sharpened_and_sampled_trilinearly():
    angle = np.deg2rad(20)
    rotation = np.eye(4)
    rotation[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    grid = Grid((15, 14, 13), rotation @ np.diag([1.5, 1.5, 2.0, 1.0]))
    working = working_grid(grid, (2.0, 2.0, 3.0))
    probabilities = smooth_probabilities(working.shape)
    output = run(grid, working, probabilities, probabilities[1], 4)
    want = sampled(grid, working, sharpened(probabilities))
    ranked = np.sort(want, axis=0)
    clear = ranked[-1] - ranked[-2] > 5e-3  # kept as float16
    assert clear.mean() > 0.9
    assert (output.labels == want.argmax(0))[clear].all()


def test_a_class_that_wins_nowhere_is_not_invented():
    grid = Grid((8, 8, 8), np.diag([1.0, 1, 1, 1]))
    working = working_grid(grid, (2.0, 2.0, 2.0))
    probabilities = torch.zeros((CLASSES, *working.shape))
    probabilities[0] = 1
    output = run(grid, working, probabilities, torch.zeros(working.shape), 2)
    assert output.labels.max() == 0
    assert output.uncertainty.max() == 0


def turned(degrees: float, spacing, shape, centre, mirrored=False) -> Grid:
    """A working grid about a centre, turned about x, with a mirrored first axis if asked for."""
    angle = np.deg2rad(degrees)
    axes = np.eye(3)
    axes[1:, 1:] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    if mirrored:
        axes[:, 0] *= -1
    matrix = np.eye(4)
    matrix[:3, :3] = axes * spacing
    matrix[:3, 3] = centre - matrix[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, matrix)


@pytest.mark.parametrize("chunk", [1.0, 64e6])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_smaller_turned_grid_is_sampled_as_a_whole_one(monkeypatch, chunk, mirrored):
    """Also where it reaches out of the image, and a slice at a time."""
    monkeypatch.setattr("mskt.core.backproject.CHUNK_BYTES", chunk)
    grid = Grid((30, 26, 22), np.diag([1.5, -1.5, 2.0, 1.0]))
    working = turned(17, (2.0, 2.5, 3.0), (11, 9, 12), (8.0, -16.0, 14.0), mirrored)
    probabilities = smooth_probabilities(working.shape)
    output = run(grid, working, probabilities, probabilities[1], 4)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), 0)
    matrix = np.linalg.inv(working.affine) @ grid.affine
    at = np.tensordot(matrix[:3, :3], index, 1) + matrix[:3, 3, None, None, None]
    size = np.array(working.shape)[:, None, None, None]
    inside = ((at > -0.5) & (at < size - 0.5)).all(axis=0)
    assert 0.02 < inside.mean() < 0.5
    want = sampled(grid, working, sharpened(probabilities))
    plain = sampled(grid, working, probabilities[1:2])[0]
    ranked = np.sort(want, axis=0)
    clear = inside & (ranked[-1] - ranked[-2] > 5e-3)
    assert (output.labels == want.argmax(0))[clear].all()
    np.testing.assert_allclose(output.uncertainty[inside], plain[inside], atol=1e-4)
    assert output.labels[~inside].max() == 0
    assert output.uncertainty[~inside].max() == 0


def test_two_overlapping_grids_leave_each_other_alone(monkeypatch):
    monkeypatch.setattr("mskt.core.backproject._SHARPEN", 0.0)
    grid = Grid((40, 20, 20), np.diag([1.0, 1.0, 1.0, 1.0]))
    first = turned(8, (1.0, 1.0, 1.0), (28, 20, 20), (13.0, 9.5, 9.5))
    second = turned(-8, (1.0, 1.0, 1.0), (28, 20, 20), (26.0, 9.5, 9.5), mirrored=True)

    def leg(working: Grid, x: float, label: int):
        world = np.indices(working.shape).reshape(3, -1).T @ working.affine[:3, :3].T
        at = (world + working.affine[:3, 3]).reshape(*working.shape, 3)
        inside = np.hypot(at[..., 0] - x, at[..., 1] - 9.5) < 5
        out = torch.zeros((CLASSES, *working.shape))
        out[label] = torch.from_numpy(inside.astype(np.float32))
        out[0] = 1 - out[label]
        return out

    output = Output(grid)
    for working, x, label in ((first, 14.0, 1), (second, 25.0, 2)):
        target, probabilities = projector(output, working, CLASSES), leg(working, x, label)
        uncertainty = 0.25 * label * probabilities[label]
        for region in axial_slabs(working.shape, 50):
            target.add(region, Estimate(probabilities, uncertainty))
        target.finish()
    middle = output.labels[:, 9, 10]
    np.testing.assert_array_equal(np.flatnonzero(middle == 1), np.arange(10, 19))
    np.testing.assert_array_equal(np.flatnonzero(middle == 2), np.arange(21, 30))
    assert output.uncertainty[14, 9, 10] == pytest.approx(0.25, abs=1e-3)
    assert output.uncertainty[25, 9, 10] == pytest.approx(0.5, abs=1e-3)

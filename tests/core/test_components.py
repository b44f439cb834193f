"""Runs tell of an image what a look at every voxel would."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mskt.core.components import Runs

images = hnp.arrays(
    np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.integers(0, 3)
)


@given(images, st.permutations(range(3)))
def test_values_counts_and_lookup(image: np.ndarray, order: list[int]) -> None:
    image = image.transpose(order)
    runs = Runs.of(image)
    assert runs.length.sum() == image.size
    np.testing.assert_array_equal(
        np.repeat(runs.value, runs.length), image.transpose(runs.order).ravel()
    )
    np.testing.assert_array_equal(runs.voxels(), np.bincount(image.ravel()))
    np.testing.assert_array_equal(runs.looked_up(image.astype(int) * 7), runs.value * 7)


@given(images, st.integers(0, 3), st.booleans())
def test_chosen_runs_are_cleared_and_nothing_else(image: np.ndarray, value: int, cut: bool) -> None:
    """Also in a view of a larger array, which does not lie together in memory."""
    runs = Runs.of(image)
    larger = np.ones([n + 2 for n in image.shape], np.uint8)
    other = larger[1:-1, 1:-1, 1:-1] if cut else np.ones_like(image)
    runs.clear(runs.value == value, other)
    np.testing.assert_array_equal(other == 0, image == value)
    assert larger.sum() == larger.size - (cut and int((image == value).sum()))

"""What is sent to a device arrives."""

import numpy as np
import pytest
import torch

from mskt.core.device import sent

ARRAYS = [
    np.arange(12, dtype=np.float32).reshape(3, 4),
    np.arange(60).reshape(3, 4, 5)[:, ::2, 1],
    np.asfortranarray(np.eye(3)) > 0,
    np.zeros((0, 2), np.uint8),
]


@pytest.mark.parametrize("array", ARRAYS)
def test_what_is_sent_keeps_its_values_and_type(array):
    got = sent(array, torch.device("cpu"))
    assert got.is_contiguous()
    np.testing.assert_array_equal(got.numpy(), array)
    assert got.numpy().dtype == array.dtype


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_nothing_is_overwritten_on_the_way_to_a_gpu():
    """Page-locked memory is used again only when its copy has ended."""
    gpu, size = torch.device("cuda"), 1 << 20
    busy = torch.randn(4096, 4096, device=gpu)
    arrived = []
    for number in range(50):
        busy = busy @ busy * 1e-3
        arrived.append(sent(np.full(size, number, np.int64), gpu))
    for number, one in enumerate(arrived):
        assert bool((one == number).all())
    for array in ARRAYS:
        np.testing.assert_array_equal(sent(array, gpu).cpu().numpy(), array)

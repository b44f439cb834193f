"""Pieces are all there is, once; what is computed of them is what torch computes of the whole."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mskt.core import pieces as module
from mskt.core.pieces import pieces, two_largest

shapes = st.tuples(st.integers(1, 6), *[st.integers(1, 7)] * 3)
orders = st.permutations([0, 1, 2, 3])


def drawn(shape, order, seed):
    """Numbers with many ties, in some order of memory."""
    values = torch.randint(0, 4, shape, generator=torch.Generator().manual_seed(seed)).float()
    back = [order.index(axis) for axis in range(4)]
    return values.permute(order).contiguous().permute(back)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(module, "PIECE", 20)


@given(shapes, orders)
def test_every_number_is_in_one_piece(shape, order):
    values = drawn(shape, order, 0)
    count = torch.zeros(shape[1:])
    seen = torch.zeros(shape)
    for part, here in pieces(values, count):
        assert part.shape == (shape[0], *here.shape)
        assert part.numel() <= max(20, shape[0])
        here += 1
    for part, here in pieces(seen, count):
        part += here
    assert (count == 1).all() and (seen == 1).all()


@given(st.tuples(st.integers(2, 6), *[st.integers(1, 7)] * 3), orders, st.integers(0, 3))
def test_two_largest_are_those_of_sorting(shape, order, seed):
    values = drawn(shape, order, seed)
    best, second = two_largest(values)
    ranked = values.sort(0).values
    assert torch.equal(best, ranked[-1]) and torch.equal(second, ranked[-2])

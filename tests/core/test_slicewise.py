"""How many draws are computed at a time changes nothing but time and memory."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mskt.core.dropout import McDropout, number_sites
from mskt.core.slicewise import SliceInput, SliceSweep
from mskt.core.volume import Volume

CLASSES = 3


class Net(nn.Module):
    """A network of one dropout that has memory for few draws; features in parts, as FCN-8s has."""

    multiple = 4

    def __init__(self, room: int = 100) -> None:
        super().__init__()
        self.room, self.batches = room, []
        self.dropout = McDropout()
        self.head = nn.Conv2d(2, CLASSES, 3, padding=1)

    def stem(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x.square()

    def after_stem(self, x: tuple[Tensor, Tensor]) -> Tensor:
        self.batches.append(len(x[0]))
        if len(x[0]) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.head(self.dropout(torch.cat(x, dim=1)))


def sweep(batch: int | None = None, room: int = 100) -> SliceSweep:
    torch.manual_seed(0)
    network = Net(room).eval()
    number_sites(network)
    return SliceSweep(
        network, CLASSES, SliceInput((-100, 200)), torch.device("cpu"), torch.float32, batch
    )


def scan() -> Volume:
    rng = np.random.default_rng(0)
    mask = np.zeros((14, 11, 5), bool)
    mask[2:9, 3:8, 1:] = True
    return Volume(rng.normal(0, 80, mask.shape).astype(np.float32), np.eye(4), mask)


def draws(of: SliceSweep, count: int = 7) -> list[Tensor]:
    image = scan()
    (region,) = of.regions(image)
    return list(of.draws(image, region, range(count), 5))


@pytest.mark.parametrize("batch", [2, 3, 7, 10])
def test_several_at_a_time_are_those_of_one_at_a_time(batch):
    alone, together = draws(sweep()), draws(sweep(batch))
    assert len(alone) == len(together) == 7
    for a, b in zip(alone, together, strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    assert not torch.allclose(alone[0], alone[1], atol=1e-2)


@pytest.mark.parametrize("room", [1, 2, 3, 6])
def test_when_memory_runs_out_the_batch_is_halved_and_the_draws_stay(room):
    enough, short = sweep(), sweep(batch=7, room=room)
    for a, b in zip(draws(enough), draws(short), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    events = short.events()
    assert events and all("memory ran out" in event for event in events)
    assert short.batch <= room and not short.events()
    draws(short)
    assert not short.events()  # it has learned


def test_memory_too_small_for_one_draw_is_not_hidden():
    with pytest.raises(torch.OutOfMemoryError):
        draws(sweep(batch=4, room=0))


def test_outside_the_body_all_is_background():
    """Beside the box of the body, inside it but outside the body, and in a slice without body."""
    image = scan()
    outside = ~torch.from_numpy(image.mask)
    for draw in draws(sweep(batch=2), 3):
        assert (draw[0][outside] == 1).all() and (draw[1:, outside] == 0).all()
        assert torch.allclose(draw.sum(0), torch.ones(()))
        assert (draw[0][~outside] < 1).all()

"""Several processes that share a batch, as ``torchrun`` starts them (DistributedDataParallel)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class World:
    """One process among the others; alone by default.

    Attributes:
        rank, size: number of this process, number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """True for the one process that writes and talks."""
        return self.rank == 0

    def total(self, sums: Tensor) -> Tensor:
        """The sum over all processes, through which gradients flow."""
        if self.size == 1:
            return sums
        from torch.distributed.nn.functional import all_reduce

        # Backward adds the gradients up again, and DistributedDataParallel takes the mean over the
        # processes: together, the gradient of the loss of the whole batch.
        out: Tensor = all_reduce(sums)
        return out

    def gather(self, mine: list[Any]) -> list[Any]:
        """The lists of all processes, one after the other."""
        if self.size == 1:
            return mine
        held: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(held, mine)
        return [item for items in held for item in items]

    def wait(self) -> None:
        """Until all have come here."""
        if self.size > 1:
            torch.distributed.barrier()

    def shared(self, network: nn.Module) -> nn.Module:
        """The network whose gradients are those of all processes."""
        if self.size == 1:
            return network
        return nn.parallel.DistributedDataParallel(network)


def local_device(device: torch.device) -> torch.device:
    """``cuda`` without a number becomes this process' own GPU."""
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device


@contextmanager
def world(device: torch.device) -> Iterator[World]:
    """The processes that ``torchrun`` has started; this one alone without it."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(torch.distributed.get_rank(), size)
    finally:
        torch.distributed.destroy_process_group()

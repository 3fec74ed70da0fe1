"""Several processes that train one network together, one graphics card each.

All draw the same random numbers; each computes its share of every batch, and the gradients are
averaged before the one step that all take. So the weights stay equal, and equal (up to rounding) to
those of a single process on the whole batch. `Workers` is the single process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import InputError


class Workers:
    """One process that does everything."""

    rank = 0
    count = 1

    @property
    def leads(self) -> bool:
        """Say whether this process writes the files and shows the progress."""
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:  # [B,...] -> [B/count,...]
        """Return this process's rows of a batch."""
        if len(batch) % self.count:
            raise InputError(
                f"a batch of {len(batch)} cannot be shared by {self.count} processes; make it a "
                "multiple"
            )
        size = len(batch) // self.count
        return batch[self.rank * size : (self.rank + 1) * size]

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor by its mean over the processes."""

    def copy_first(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor by that of the leading process."""


SOLO = Workers()


class ProcessGroup(Workers):
    """The processes of a torch.distributed group that has been opened."""

    def __init__(self) -> None:
        self.rank, self.count = dist.get_rank(), dist.get_world_size()

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor by its mean over the processes, in one exchange."""
        flat = torch.cat([t.flatten() for t in tensors])
        dist.all_reduce(flat)
        flat /= self.count
        for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def copy_first(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor by that of the leading process."""
        for tensor in tensors:
            dist.broadcast(tensor, 0)


@contextmanager
def open_workers(
    device: torch.device, environment: Mapping[str, str] = os.environ
) -> Iterator[tuple[Workers, torch.device]]:
    """Yield the processes that `torchrun` started (or one) and this one's own device."""
    if int(environment.get("WORLD_SIZE", "1")) == 1:
        yield SOLO, device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(environment.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield ProcessGroup(), device
    finally:
        dist.destroy_process_group()

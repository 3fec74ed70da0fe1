"""Random numbers of a training run, drawn on the CPU some steps ahead.

A CPU generator gives the same numbers for every device. Drawing them one step at a time would make
a card wait for each; a chunk of steps travels at once, from pinned memory, while the card works.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

AHEAD_MB = 64  # of numbers on the card; a CPU needs none ahead


class Draw(NamedTuple):
    """One tensor of every step: how it is drawn, its shape, and the bound of whole numbers."""

    kind: Callable[[Tensor, torch.Generator], object]  # fills a tensor
    shape: Sequence[int]
    dtype: torch.dtype = torch.float32


def uniform(shape: Sequence[int]) -> Draw:
    """Numbers in [0,1)."""
    return Draw(lambda out, g: torch.rand(out.shape, generator=g, out=out), shape)


def normal(shape: Sequence[int]) -> Draw:
    """Numbers of mean 0 and deviation 1."""
    return Draw(lambda out, g: torch.randn(out.shape, generator=g, out=out), shape)


def whole(below: int, shape: Sequence[int]) -> Draw:
    """Whole numbers from 0 to below `below`."""
    return Draw(
        lambda out, g: torch.randint(below, out.shape, generator=g, out=out), shape, torch.int64
    )


class Ahead:
    """The numbers of step after step, the same as if each were drawn when it is needed."""

    def __init__(
        self, draws: Sequence[Draw], generator: torch.Generator, device: torch.device
    ) -> None:
        self.draws, self.generator, self.device = draws, generator, device
        step_bytes = sum(torch.Size(d.shape).numel() * d.dtype.itemsize for d in draws)
        on_card = device.type == "cuda"
        self.steps = max(1, AHEAD_MB * 2**20 // max(1, step_bytes)) if on_card else 1
        self._buffers = [
            torch.empty(self.steps, *d.shape, dtype=d.dtype, pin_memory=on_card) for d in draws
        ]
        self._there: list[Tensor] = []
        self._states: list[Tensor] = []  # of the generator, after each step of the chunk
        self._next = self.steps

    def next(self) -> list[Tensor]:
        """Return the next step's tensors, on the device."""
        if self._next >= self.steps:
            self._fill()
        step, self._next = self._next, self._next + 1
        return [tensor[step] for tensor in self._there]

    def state(self) -> Tensor:
        """Return the generator's state as it was after the numbers that were handed out."""
        if self._next == 0 or not self._states:
            return self.generator.get_state()
        return self._states[self._next - 1]

    def forget(self) -> None:
        """Draw anew from the generator as it is now, which somebody has set."""
        self._states, self._next = [], self.steps

    def _fill(self) -> None:
        if self.device.type == "cuda" and self._there:
            torch.cuda.current_stream(self.device).synchronize()  # the buffers are still being read
        self._states = []
        for step in range(self.steps):
            for draw, buffer in zip(self.draws, self._buffers, strict=True):
                draw.kind(buffer[step], self.generator)
            self._states.append(self.generator.get_state())
        self._there = [buffer.to(self.device, non_blocking=True) for buffer in self._buffers]
        self._next = 0

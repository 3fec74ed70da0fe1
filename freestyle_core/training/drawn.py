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
        self.steps = steps_ahead(draws, device)
        pinned = device.type == "cuda" and torch.cuda.is_available()
        self._buffers = [
            torch.empty(self.steps, *d.shape, dtype=d.dtype, pin_memory=pinned) for d in draws
        ]
        self._sent = torch.cuda.Event() if pinned else None
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
        if self._sent is not None:
            self._sent.synchronize()  # the buffers may still be read; long done as a rule
        self._states = []
        for step in range(self.steps):
            for draw, buffer in zip(self.draws, self._buffers, strict=True):
                draw.kind(buffer[step], self.generator)
            self._states.append(self.generator.get_state())
        self._there = [buffer.to(self.device, non_blocking=True) for buffer in self._buffers]
        if self._sent is not None:
            self._sent.record(torch.cuda.current_stream(self.device))
        self._next = 0


def steps_ahead(draws: Sequence[Draw], device: torch.device) -> int:
    """Return how many steps are drawn at once."""
    if device.type != "cuda":
        return 1
    step = sum(torch.Size(d.shape).numel() * d.dtype.itemsize for d in draws)
    return max(1, int(AHEAD_MB * 2**20 // max(1, step)))

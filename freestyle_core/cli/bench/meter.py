"""Time and memory of a piece of work. Read `Meter.measure`.

On a CPU: wall and processor seconds, and how far the resident memory of the process rose above what
it was (Linux can start its peak anew; elsewhere None). On a graphics card: seconds between events
on its stream, and the most that PyTorch held there above what it held before.
"""

from __future__ import annotations

import gc
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ...heap import trim

T = TypeVar("T")
Work = Callable[[Callable[[], None]], T]  # takes what it calls when its preparations are over
MATRIX = {"cpu": 1024, "cuda": 8192}  # rows of the matrices that the rate is measured with
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Sample:
    """One run of a piece of work."""

    seconds: float  # without the preparations
    preparation: float  # seconds
    processor: float  # seconds of all threads, without the preparations
    preparation_processor: float  # seconds
    memory_mb: float | None  # at most, above what was held before


class Clock(Protocol):
    """Moments and the seconds between them."""

    def now(self) -> Any:
        """Return this moment, without waiting for anything."""

    def between(self, first: Any, last: Any) -> float:
        """Return seconds; may wait for the device."""


class WallClock:
    """The computer's own clock."""

    def __init__(self, wait: Callable[[], object] = int) -> None:
        self.wait = wait  # for the device, where it works on its own

    def now(self) -> float:
        self.wait()
        return time.perf_counter()

    def between(self, first: float, last: float) -> float:
        return last - first


class EventClock:
    """Events on the card's stream: when the card gets there, not when the program asks."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def now(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def between(self, first: torch.cuda.Event, last: torch.cuda.Event) -> float:
        last.synchronize()
        return first.elapsed_time(last) / 1000


class Meter:
    """Measures work on one device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.on_card = device.type == "cuda"
        wait = torch.mps.synchronize if device.type == "mps" else int
        self.clock: Clock = EventClock(device) if self.on_card else WallClock(wait)

    def measure(self, work: Work[T]) -> tuple[Sample, T]:
        """Run the work and return its time and memory, and what it returned."""
        gc.collect(1)  # a full one takes longer than many a stage
        before = self._forget_peak()
        moments = [self._moment()]
        result = work(lambda: moments.append(self._moment()))
        moments.append(self._moment())
        start, ready, end = moments[0], moments[-2], moments[-1]  # nothing said: ready at the start
        seconds = self.clock.between(ready[0], end[0])
        preparation = self.clock.between(start[0], ready[0])
        self._wait()
        peak = self._peak_mb()
        memory = None if peak is None or before is None else max(0.0, peak - before)
        processor = end[1] - ready[1], ready[1] - start[1]
        return Sample(seconds, preparation, *processor, memory), result

    def matrix_rate(self, dtype: torch.dtype) -> float:
        """Return how many operations a second a large product of matrices reaches.

        In float32 a card may round its factors to TF32, as it does for convolutions anyway.
        """
        size = MATRIX["cuda" if self.on_card else "cpu"]
        a = torch.ones(size, size, dtype=dtype, device=self.device)
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")
        try:
            times = [self._product_seconds(a) for _ in range(6)]
        finally:
            torch.set_float32_matmul_precision(before)
        return 2 * size**3 / max(statistics.median(times[1:]), 1e-9)  # the first warms up

    def _product_seconds(self, a: Tensor) -> float:
        first = self.clock.now()
        a @ a
        return self.clock.between(first, self.clock.now())

    def _moment(self) -> tuple[Any, float]:
        return self.clock.now(), time.process_time()

    def _wait(self) -> None:
        if self.on_card:
            torch.cuda.synchronize(self.device)

    def _forget_peak(self) -> float | None:
        """Let the peak start anew and return what is held now, in MiB."""
        if self.on_card:
            torch.cuda.reset_peak_memory_stats(self.device)
            return torch.cuda.memory_allocated(self.device) / 2**20
        trim()  # or the next work would hide in what the C library keeps
        try:
            _CLEAR.write_text("5")
        except OSError:
            return None
        return _status_mb("VmRSS")

    def _peak_mb(self) -> float | None:
        if self.on_card:
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        return _status_mb("VmHWM")


def operations(work: Callable[[], object]) -> int:
    """Return the operations (two per multiply-add) of products, convolutions and attention."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def _status_mb(name: str) -> float | None:
    try:
        found = re.search(rf"^{name}:\s*(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) / 1024 if found else None

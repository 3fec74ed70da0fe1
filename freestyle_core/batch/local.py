"""Workers as processes of this machine: one for each card, or some that share the processor.

Each has a pipe of its own, so that one that is killed takes nothing of the others with it. A
process whose main process is gone ends by itself at its next report. Read `LocalEngine`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
from torch import Tensor

from .. import interrupts
from ..errors import Cancelled
from .engine import LOST, OUTCOME, READY, REFUSED, SHARE, Event
from .jobs import Task
from .previews import as_png
from .worker import Plan, Worker, one_line

CARDS = "CUDA_VISIBLE_DEVICES"
REPORT_SECONDS = 0.5  # at least, between two reports of one job
PICTURE_SECONDS = 20.0  # at least, between two pictures of one job
END_SECONDS = 20.0  # that a process gets to end by itself


@dataclass(frozen=True)
class Seat:
    """What one process may use."""

    threads: int
    card: str | None = None  # None: the processor, or whatever the device says


def seats(
    workers: int | None,  # None: one for each card, else one
    cards: Sequence[str],  # names for CUDA_VISIBLE_DEVICES; none to use the processor
    threads: int,  # of this machine, to be shared out
) -> list[Seat]:
    """Return the seats of a run: the cards in turn, the threads in equal parts, at least one."""
    count = workers or max(len(cards), 1)
    share = max(1, threads // count)
    return [Seat(share, cards[n % len(cards)] if cards else None) for n in range(count)]


def visible_cards(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the names of the cards that this process may use."""
    named = environment.get(CARDS)
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    return [str(number) for number in range(torch.cuda.device_count())]


class LocalEngine:
    """Processes on seats; a lost one is replaced."""

    def __init__(self, plan: Plan, seats: Sequence[Seat]) -> None:
        self._plan, self._seats, self.workers = plan, list(seats), len(seats)
        self._context = multiprocessing.get_context("spawn")
        self._pipes: dict[int, Connection] = {}
        self._processes: dict[int, Any] = {}

    def __enter__(self) -> LocalEngine:
        for worker in range(self.workers):
            self._start(worker)
        return self

    def __exit__(self, *error: object) -> None:
        for pipe in self._pipes.values():
            with suppress(OSError):
                pipe.send(None)
        if error[0] is not None:
            for process in self._processes.values():
                process.terminate()
        end = time.monotonic() + END_SECONDS
        for process in self._processes.values():
            process.join(max(0.1, end - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        for pipe in self._pipes.values():
            pipe.close()

    def pid(self, worker: int) -> int:
        """Return the process of a worker."""
        return self._processes[worker].pid

    def give(self, worker: int, task: Task) -> None:
        """Give a job to a worker; one that is just ending is reported as lost."""
        with suppress(OSError):
            self._pipes[worker].send(task)

    def events(self, seconds: float) -> list[Event]:
        """Return what has been reported, after waiting at most so long for a first report."""
        of_pipe = {pipe: worker for worker, pipe in self._pipes.items()}
        found = []
        for pipe in wait(list(of_pipe), timeout=seconds):
            worker = of_pipe[pipe]  # type: ignore[index]
            try:
                kind, value = self._pipes[worker].recv()
            except (EOFError, OSError):
                found.append(self._lost(worker))
            else:
                found.append(Event(worker, kind, value))
        return found

    def _start(self, worker: int) -> None:
        seat, (ours, theirs) = self._seats[worker], self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(theirs, self._plan, seat.threads), daemon=True
        )
        with _environment(seat):
            process.start()
        theirs.close()  # or nobody would notice that the process has ended
        self._pipes[worker], self._processes[worker] = ours, process

    def _lost(self, worker: int) -> Event:
        self._pipes.pop(worker).close()
        process = self._processes.pop(worker)
        process.join()
        code = process.exitcode
        why = f"by signal {-code}" if code is not None and code < 0 else f"with code {code}"
        self._start(worker)
        return Event(worker, LOST, f"its process ended {why}")


@contextmanager
def _environment(seat: Seat) -> Iterator[None]:
    """Set what a process has to find when it starts: its card, and its threads."""
    wanted = {"OMP_NUM_THREADS": str(seat.threads)}
    if seat.card is not None:
        wanted[CARDS] = seat.card
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(pipe: Connection, plan: Plan, threads: int) -> None:
    """Be a worker until the main process says None, or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process hears Ctrl-C, and tells us
    torch.set_num_threads(threads)
    with interrupts.listen(), suppress(Cancelled, KeyboardInterrupt, EOFError, OSError):
        try:
            worker = Worker(plan)
        except Exception as error:
            if interrupts.received() is None:
                pipe.send((REFUSED, one_line(error)))
            return
        pipe.send((READY, None))
        while True:
            task = pipe.recv()
            if task is None:
                return
            pipe.send((OUTCOME, worker.work(task, _Reports(pipe))))


class _Reports:
    """A `Progress` that tells the main process; raises Cancelled when that is gone."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe, self.told = pipe, -REPORT_SECONDS
        self.pictured = time.monotonic() - PICTURE_SECONDS / 2

    def __call__(self, done: float, total: int, preview: Tensor | None = None) -> None:
        interrupts.check()
        now, picture = time.monotonic(), None
        if preview is not None and now - self.pictured >= PICTURE_SECONDS:
            self.pictured, picture = now, as_png(preview)
        elif now - self.told < REPORT_SECONDS:
            return
        self.told = now
        try:
            self.pipe.send((SHARE, (done / total, picture)))
        except OSError:
            raise Cancelled("the main process is gone") from None

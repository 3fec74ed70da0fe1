"""Several processes of one matrix, each of one thread, and one progress for all.

Pairs of a style and a head are claimed on disk (`CellStore.claimed`), so processes need no word of
each other. Read `run_in_processes`.
"""

from __future__ import annotations

import multiprocessing
import queue
from collections.abc import Callable
from typing import Any

import torch

from .. import interrupts
from ..errors import FreeStyleError
from .ablate import Failure, Matrix, Report, run_pairs

LOOK_SECONDS = 1.0  # between two looks at what processes report


def run_in_processes(
    make_matrix: Callable[..., Matrix],  # a function of a module, called in every process
    arguments: tuple[Any, ...],
    workers: int,
    report: Report,
) -> list[Failure]:
    """Run a matrix in `workers` new processes and return the cells that failed."""
    context = multiprocessing.get_context("spawn")
    reports: Any = context.Queue()
    processes = [
        context.Process(target=_work, args=(reports, number, make_matrix, arguments), daemon=True)
        for number in range(workers)
    ]
    failed: list[Failure] = []
    problems: list[str] = []
    try:
        for process in processes:
            process.start()
        open_ones = set(range(workers))
        while open_ones:
            try:
                number, kind, value = reports.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                interrupts.check()
                lost = [n for n in open_ones if not processes[n].is_alive()]
                problems += [f"process {n + 1} ended by itself" for n in lost]
                open_ones -= set(lost)
                continue
            if kind == "cell":
                report(*value)
            else:
                open_ones.discard(number)
                failed += value if kind == "failed" else []
                problems += [value] if kind == "error" else []
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
        for process in processes:
            if process.pid is not None:
                process.join()
    if problems:
        raise FreeStyleError(
            f"{'; '.join(problems)}; what was finished is kept, the same command goes on"
        )
    return failed


def _work(
    reports: Any, number: int, make_matrix: Callable[..., Matrix], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)

    def told(cell: int, share: float) -> None:
        reports.put((number, "cell", (cell, share)))

    try:
        reports.put((number, "failed", run_pairs(make_matrix(*arguments), told)))
    except Exception as error:
        reports.put((number, "error", f"{type(error).__name__}: {error}"))

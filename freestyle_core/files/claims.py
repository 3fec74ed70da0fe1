"""Claims on a piece of work that several processes, of one run or of several, could do.

A claim is a lock on a file. The system lets go of it when its process ends, however it ends, so
what a killed process had claimed is free again at once. Read `claimed`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOOK_SECONDS = 0.2  # between two looks at a claim of another process


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Yield whether this process has the claim at `path`; only one has it at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(path))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def awaited(path: Path, ask: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the claim at `path`, after waiting for whoever has it; `ask` may raise to give up."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(path))
    while True:
        ask()
        try:
            lock.acquire(timeout=LOOK_SECONDS, poll_interval=LOOK_SECONDS / 4)
            break
        except Timeout:
            continue
    try:
        yield
    finally:
        lock.release()

"""Hidden places for files that are not finished yet, and the end of those that a kill left behind.

A place `.freestyle-1a2b3c4d.tmp` belongs to the process that holds the lock file beside it. The
system lets go of a lock when its process ends, however it ends, so a place whose lock is free is
nobody's any more. The lock is taken before the place exists: no place is ever without its owner.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

_NAME = re.compile(r"\.freestyle-[0-9a-f]{8}\.(tmp|lock)")
_LOCK_SECONDS = 1.0  # a lock file this old without a place is not one that is just being taken
_NO_LOCK = OSError, RuntimeError  # held by another process, or a file system without locks


@contextmanager
def unfinished(folder: Path) -> Iterator[Path]:
    """Yield a name in `folder` for a file or folder to make; what is still there is removed."""
    place = folder / f".freestyle-{secrets.token_hex(4)}.tmp"
    lock = _lock_of(place)
    with suppress(*_NO_LOCK):
        lock.acquire()
        if not os.path.exists(lock.lock_file):  # taken for a leftover as it was just being made
            lock.release()
            lock.acquire()
    try:
        yield place
    finally:
        _remove(place, lock)


def clear_leftovers(folder: Path) -> None:
    """Remove what killed processes left unfinished in `folder`; a living one keeps its own."""
    try:
        names = {entry.name for entry in os.scandir(folder) if _NAME.fullmatch(entry.name)}
    except OSError:
        return
    for place in {folder / name.replace(".lock", ".tmp") for name in names}:
        lock = _lock_of(place)
        if place.name not in names and not _is_old(Path(lock.lock_file)):
            continue
        with suppress(*_NO_LOCK):
            lock.acquire()
            _remove(place, lock)


def _lock_of(place: Path) -> FileLock:
    return FileLock(place.with_suffix(".lock"), timeout=0)


def _remove(place: Path, lock: FileLock) -> None:
    if place.is_dir():
        shutil.rmtree(place, ignore_errors=True)
    else:
        with suppress(OSError):
            place.unlink()
    lock.release()
    with suppress(OSError):
        os.unlink(lock.lock_file)


def _is_old(path: Path) -> bool:
    with suppress(OSError):
        return time.time() - path.stat().st_mtime > _LOCK_SECONDS
    return False

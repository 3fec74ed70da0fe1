"""The folder of a run: checked before the work, filled only when everything is there.

`staged` is the only function. The files are written into a hidden folder beside their final place
and moved at the end, so a stopped or failed run leaves the target as it was.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .. import interrupts
from ..errors import InputError, WriteError
from .leftovers import clear_leftovers, unfinished

PROBE_BYTES = 4096


@contextmanager
def staged(
    target: Path | str, *, needed_mb: float = 1.0, record: str | None = None
) -> Iterator[Path]:
    """Yield a temporary folder inside `target`; its files move into `target` on success.

    `record` names the file that describes the others. An older one goes before the first file
    moves and the new one comes last, so a kill in between never leaves a record of other files.
    Raises InputError at once when `target` cannot be written or its disk has too little space.
    """
    target = Path(target)
    created = _missing_parents(target)
    try:
        with _writable(target):
            target.mkdir(parents=True, exist_ok=True)
        clear_leftovers(target)
        with unfinished(target) as work:
            _prepare(target, work, needed_mb)
            yield work
            interrupts.check()
            with interrupts.held():
                _move_all(work, target, record)
    except BaseException:
        for folder in created:
            with suppress(OSError):
                folder.rmdir()  # only when empty
        raise


def _prepare(target: Path, work: Path, needed_mb: float) -> None:
    with _writable(target):
        work.mkdir()
        probe = work / "probe"
        probe.write_bytes(bytes(PROBE_BYTES))
        probe.unlink()
        free_mb = shutil.disk_usage(work).free / 2**20
    if free_mb < needed_mb:
        raise InputError(
            f"the disk of {target} has {free_mb:.0f} MB free, the run needs about "
            f"{needed_mb:.0f} MB; free some space or choose another folder with --out"
        )


@contextmanager
def _writable(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write into {target}: {error.strerror or error}; choose another --out"
        ) from error


def _move_all(work: Path, target: Path, record: str | None) -> None:
    files = sorted(work.iterdir(), key=lambda file: (file.name == record, file.name))
    try:
        if record is not None:
            (target / record).unlink(missing_ok=True)
        for file in files:
            os.replace(file, target / file.name)
    except OSError as error:
        raise WriteError(
            f"cannot move the files into {target}: {error.strerror or error}; choose another --out"
        ) from error


def _missing_parents(target: Path) -> list[Path]:
    """Return the folders that do not exist yet, innermost first."""
    return [folder for folder in (target, *target.parents) if not folder.exists()]

"""The folder of a run: checked before the work, filled only when everything is there.

`staged` is the only function. The files are written into a hidden folder beside their final place
and moved at the end, so a stopped or failed run leaves the target as it was.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import InputError, WriteError

PROBE_BYTES = 4096


@contextmanager
def staged(target: Path | str, *, needed_mb: float = 1.0) -> Iterator[Path]:
    """Yield a temporary folder inside `target`; its files move into `target` on success.

    Raises InputError at once when `target` cannot be written or its disk has too little space.
    """
    target = Path(target)
    created = _missing_parents(target)
    work = target / f".freestyle-{secrets.token_hex(4)}.tmp"
    try:
        _prepare(target, work, needed_mb)
        yield work
        _move_all(work, target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        for folder in created:
            with suppress(OSError):
                folder.rmdir()  # only when empty
        raise
    shutil.rmtree(work, ignore_errors=True)


def _prepare(target: Path, work: Path, needed_mb: float) -> None:
    try:
        work.mkdir(parents=True)
        probe = work / "probe"
        probe.write_bytes(bytes(PROBE_BYTES))
        probe.unlink()
        free_mb = shutil.disk_usage(work).free / 2**20
    except OSError as error:
        raise InputError(
            f"cannot write into {target}: {error.strerror or error}; choose another --out"
        ) from error
    if free_mb < needed_mb:
        raise InputError(
            f"the disk of {target} has {free_mb:.0f} MB free, the run needs about "
            f"{needed_mb:.0f} MB; free some space or choose another folder with --out"
        )


def _move_all(work: Path, target: Path) -> None:
    try:
        for file in sorted(work.iterdir()):
            os.replace(file, target / file.name)
    except OSError as error:
        raise WriteError(
            f"cannot move the files into {target}: {error.strerror or error}; choose another --out"
        ) from error


def _missing_parents(target: Path) -> list[Path]:
    """Return the folders that do not exist yet, innermost first."""
    return [folder for folder in (target, *target.parents) if not folder.exists()]

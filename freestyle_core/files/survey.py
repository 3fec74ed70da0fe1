"""What lies under a folder: every file at any depth, links followed, loops and dead ends left out.

A list for a person to choose from must never fail because of one entry. So what leads nowhere,
cannot be read or leads back to where the search came from is passed over. Read `files_below`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from ..errors import FreeStyleError
from .bundle import load_header

MOST_VISITS = 8  # of one folder under different names; links could otherwise multiply endlessly


def files_below(root: Path | str) -> Iterator[tuple[str, Path]]:
    """Yield every file under `root`: its name relative to it, and its path."""
    for folder, name in _folders_below(Path(root)):
        for entry in _entries(folder):
            if _is(entry, os.DirEntry.is_file):
                yield os.path.join(name, entry.name), Path(entry.path)


def folders_below(root: Path | str, wanted: Callable[[Path], bool]) -> Iterator[tuple[str, Path]]:
    """Yield every folder under `root` that is `wanted`, with its name; those inside it are not."""
    for folder, name in _folders_below(Path(root), lambda path: not wanted(path)):
        if name and wanted(folder):
            yield name, folder


def kind_of(path: Path | str) -> str | None:
    """Return the kind of a bundle file ("eg3d", "portrait", ...); None for anything else."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return _kind(str(path), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4096)
def _kind(path: str, changed: int, size: int) -> str | None:
    """Return what the header says; asked again only when the file is another."""
    try:
        return load_header(path).kind
    except FreeStyleError:
        return None


def _folders_below(
    root: Path, enter: Callable[[Path], bool] = lambda path: True
) -> Iterator[tuple[Path, str]]:
    """Yield `root` and the folders under it, each with its name relative to `root`.

    The folders inside one are searched only if `enter` says so.
    """
    visits: Counter[str] = Counter()
    waiting = [(root, "", frozenset[str]())]
    while waiting:
        folder, name, above = waiting.pop()
        place = os.path.normcase(os.path.realpath(folder))
        visits[place] += 1
        if place in above or visits[place] > MOST_VISITS:
            continue
        yield folder, name
        if name and not enter(folder):
            continue
        inside = [entry for entry in _entries(folder) if _is(entry, os.DirEntry.is_dir)]
        for entry in reversed(inside):  # the last one is taken first
            path = Path(entry.path)
            waiting.append((path, os.path.join(name, entry.name), above | {place}))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what a folder shows, by name; nothing when it is none or may not be read."""
    try:
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if not entry.name.startswith(".")]
    except (OSError, ValueError):
        return []
    return sorted(shown, key=lambda entry: entry.name)


def _is(entry: os.DirEntry[str], question: Callable[[os.DirEntry[str]], bool]) -> bool:
    try:
        return question(entry) and os.access(entry.path, os.R_OK)
    except OSError:  # a link in a circle
        return False

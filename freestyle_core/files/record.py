"""The record of a folder of results: which files one run wrote, and the sha256 of each.

A kill while finished files are moved, or a later run into the same folder, can leave files of two
runs side by side. `differences` tells. Read it first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import FileFormatError, InputError
from .bundle import write_atomically

RUN_RECORD, MIX_RECORD = "run.json", "mix.json"  # of the portrait command and of mix


def write_record(path: Path, described: dict[str, Any], files: Iterable[str]) -> None:
    """Write `described` as JSON, with the sha256 of each of the `files` beside `path`."""
    hashes = {name: sha256(path.parent / name) for name in sorted(files) if name != path.name}
    with write_atomically(path) as temporary:
        text = json.dumps({**described, "sha256": hashes}, indent=2)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_record(path: Path) -> dict[str, Any]:
    """Return the record at `path`; its "sha256" maps names of files to hexadecimal digits."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        hashes = record["sha256"]
        if not all(isinstance(x, str) and "\0" not in x for x in [*hashes, *hashes.values()]):
            raise ValueError("the hashes must be text")
        if any(name in ("", "..") or Path(name).name != name for name in hashes):
            raise ValueError("it names files outside its folder")
    except OSError as error:
        raise FileFormatError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FileFormatError(
            f"{path} is not a record of a run with the hash of each file ({error}); run the "
            "command again to get one"
        ) from None
    return record


def differences(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the records in `folder`, and a line for each file that is not as its record says.

    Raises InputError when the folder has no record.
    """
    records = [folder / name for name in (RUN_RECORD, MIX_RECORD) if (folder / name).is_file()]
    if not records:
        raise InputError(
            f"{folder} has no {RUN_RECORD}, which a run writes last: no run has finished there"
        )
    wrong = []
    for path in records:
        for name, expected in read_record(path)["sha256"].items():
            file = folder / name
            if not file.is_file():
                wrong.append(f"{name} of {path.name} is missing")
            elif sha256(file) != expected:
                wrong.append(f"{name} is not the one of {path.name}: of another run, or changed")
    return records, wrong


def sha256(path: Path) -> str:
    """Return the hexadecimal sha256 of a file's bytes."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    except OSError as error:
        raise FileFormatError(f"cannot read {path}: {error.strerror or error}") from error
    return digest.hexdigest()

"""Job files: TOML with `[[jobs]]` tables, or CSV with a line for each job.

Every entry stands for all combinations of its prompts, seeds and presets. Nothing here knows what
a run needs; `jobs.py` makes jobs of entries. Read `read_entries`.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FileFormatError, InputError
from ..files.names import ending, shortened

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULTS, JOBS = "defaults", "jobs"  # the tables of a TOML file
BETWEEN = "|"  # between several prompts in a field of CSV
MOST_JOBS = 1_000_000  # of one entry: a slip of the finger in a range, not a plan
_RANGE = re.compile(r"(\d+)\s*-\s*(\d+)")
_HEADER = re.compile(r"\s*\[\[\s*jobs\s*\]\]")


@dataclass(frozen=True)
class Entry:
    """One entry of a job file: what it sets, as plain values, and where it stands."""

    where: str  # "jobs.toml, entry 2 (line 14)"
    values: Mapping[str, Any]


def read_entries(path: Path | str) -> list[Entry]:
    """Return the entries of a .toml or .csv file, the defaults filled in.

    Raises FileFormatError, in one line, for a file that cannot be read as such.
    """
    path = Path(path)
    readers = {".toml": _read_toml, ".csv": _read_csv}
    if ending(path) not in readers:
        raise InputError(f"a job file ends in .toml or .csv, got {path.name!r}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise FileFormatError(f"{path} is not there; check the name and the folder") from None
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"cannot read {path}: {error}; save it as UTF-8 text") from None
    entries = readers[ending(path)](path.name, text)
    if not entries:
        raise FileFormatError(f"{path} has no jobs; add a [[jobs]] table, or a line to the CSV")
    return entries


def seeds_of(value: Any, where: str) -> list[int]:
    """Return seeds written as 3, [3, 5], "3-9", "3 5 7-9" or a list of these."""
    if isinstance(value, list):
        return [seed for part in value for seed in seeds_of(part, where)]
    if isinstance(value, int) and not isinstance(value, bool):
        return [value]
    if not isinstance(value, str):
        raise InputError(f"{where}: a seed is a whole number or a range as 1-25, got {value!r}")
    found: list[int] = []
    for word in re.sub(r"\s*-\s*", "-", value).replace(",", " ").split():
        span = _RANGE.fullmatch(word)
        if word.isdecimal():
            found.append(int(word))
        elif span is not None and 0 <= int(span[2]) - int(span[1]) < MOST_JOBS:
            found += range(int(span[1]), int(span[2]) + 1)
        else:
            raise InputError(
                f"{where}: a seed is a whole number or a range as 1-25, got {shortened(word)}"
            )
    return found


def texts_of(value: Any, what: str, where: str) -> list[str]:
    """Return a text, or a list of texts, as a list."""
    values = value if isinstance(value, list) else [value]
    for text in values:
        if not isinstance(text, str):
            raise InputError(f"{where}: {what} must be text in quotes, got {shortened(text)}")
    return list(values)


def _read_toml(name: str, text: str) -> list[Entry]:
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FileFormatError(f"{name} is no TOML: {error}") from None
    unknown = sorted(set(found) - {DEFAULTS, JOBS})
    if unknown:
        raise FileFormatError(
            f"{name} has {shortened(unknown[0])} at its top, where only [{DEFAULTS}] and "
            f"[[{JOBS}]] belong; put it below one of them"
        )
    defaults, jobs = found.get(DEFAULTS, {}), found.get(JOBS, [])
    tables = isinstance(jobs, list) and all(isinstance(job, dict) for job in jobs)
    if not tables or not isinstance(defaults, dict):
        raise FileFormatError(f"{name}: write jobs as [[{JOBS}]] and defaults as [{DEFAULTS}]")
    lines = [n for n, line in enumerate(text.splitlines(), 1) if _HEADER.match(line)]
    places = [f" (line {n})" for n in lines] if len(lines) == len(jobs) else [""] * len(jobs)
    return [
        Entry(f"{name}, entry {number}{place}", _filled(defaults, job))
        for number, (job, place) in enumerate(zip(jobs, places, strict=True), 1)
    ]


def _filled(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return defaults and an entry's own values; seeds go before a default seed, and so on."""
    taken = {name.removesuffix("s") for name in own}
    return {**{k: v for k, v in defaults.items() if k.removesuffix("s") not in taken}, **own}


def _read_csv(name: str, text: str) -> list[Entry]:
    reader = csv.reader(text.splitlines(), strict=True, skipinitialspace=True)
    entries: list[Entry] = []
    header: list[str] | None = None
    try:
        for row in reader:
            where = f"{name}, line {reader.line_num}"
            if not any(field.strip() for field in row):
                continue
            if header is None:
                header = [field.strip() for field in row]
                if len(set(header)) < len(header) or "" in header:
                    raise FileFormatError(f"{where}: every column needs a name of its own")
            elif len(row) != len(header):
                raise FileFormatError(
                    f"{where}: {len(row)} fields, but {len(header)} columns; put a text with a "
                    'comma into "double quotes"'
                )
            else:
                pairs = zip(header, row, strict=True)
                values = {key: _field(key, field.strip()) for key, field in pairs}
                entries.append(Entry(where, {k: v for k, v in values.items() if v is not None}))
    except csv.Error as error:
        raise FileFormatError(f"{name}, line {reader.line_num}: {error}") from None
    return entries


def _field(column: str, text: str) -> Any:
    """Return the value of a field of CSV, which knows text only; None where it is empty."""
    if not text:
        return None
    if column.removesuffix("s") in ("prompt", "preset", "pack"):
        parts = [part.strip() for part in text.split(BETWEEN)]
        return parts if len(parts) > 1 else text
    if column in ("seed", "seeds"):
        return text
    if text.lower() in ("true", "false", "yes", "no"):
        return text.lower() in ("true", "yes")
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text

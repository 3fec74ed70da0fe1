"""Names of files: their endings, whatever their case, and what may become a name.

The rules are those of every system at once, so that a name made here can be copied anywhere.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import InputError

LONGEST_NAME = 100  # characters; what stands beside a file adds to its name, and 255 bytes is all
LONGEST_PREFIX = 1000  # characters, of folders and name together
_FORBIDDEN = frozenset('/\\:*?"<>|')
_DEVICES = frozenset({"con", "prn", "aux", "nul"})  # and com1 to lpt9, which Windows keeps too
_PORT = re.compile(r"(com|lpt)[1-9]")
_DRIVE = re.compile(r"[A-Za-z]:")


def ending(path: Path | str) -> str:
    """Return the ending of a file's name in lower case, as in ".pkl"; "" when it has none."""
    return Path(path).suffix.lower()


def in_order(path: Path | str) -> tuple[tuple[int, int, str], ...]:
    """Return a key by which names sort as a person counts: view 2 comes before view 10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", Path(path).name)
    return tuple((0, int(x), x) if x[0] in "0123456789" else (1, 0, x) for x in parts)


def file_name(text: str) -> str:
    """Return `text` without blanks around it, if that can be a file's name everywhere."""
    name, reason = text.strip(), None
    if not name or name.startswith("."):
        reason = "use letters, digits, spaces, - and _"
    elif _FORBIDDEN & set(name) or not _writable(name):
        reason = "use letters, digits, spaces, - and _, without a folder"
    elif name.endswith(".") or _is_device(name):
        reason = "Windows keeps such names for itself; add a letter"
    elif not _short(name):
        reason = f"use at most {LONGEST_NAME} characters"
    if reason is not None:
        raise InputError(f"{shortened(text)} cannot be a file name: {reason}")
    return name


def output_prefix(text: str) -> str:
    """Return `text`, folders and the start of a name, if it stays inside the output folder."""
    parts = text.replace("\\", "/").split("/")
    reason = None
    if not text.strip() or parts[-1].strip() in ("", ".", ".."):
        reason = "it has no name; write one, as in portraits/portrait"
    elif not _writable(text):
        reason = "it has characters that no file can have in its name"
    elif text.startswith(("/", "\\")) or _DRIVE.match(text):
        reason = "it must start inside the output folder, without a drive or a leading slash"
    elif ".." in (part.strip() for part in parts):
        reason = "it must stay inside the output folder, without .."
    elif len(text) > LONGEST_PREFIX or not all(_short(part) for part in parts):
        reason = f"use at most {LONGEST_NAME} characters for the name and for each folder"
    if reason is not None:
        raise InputError(f"the prefix {shortened(text)} does not work: {reason}")
    return text


def shortened(value: object, most: int = 60) -> str:
    """Return how a value is written, cut to a length that fits into a sentence."""
    text = ascii(value) if not isinstance(value, str) else repr(value[: 2 * most])
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _writable(text: str) -> bool:
    """Return whether a text can be written at all, and holds no control character."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half a character
        return False
    return not any(ord(character) < 32 or ord(character) == 127 for character in text)


def _is_device(name: str) -> bool:
    first = name.split(".")[0].strip().lower()
    return first in _DEVICES or _PORT.fullmatch(first) is not None


def _short(name: str) -> bool:
    return len(name) <= LONGEST_NAME and len(name.encode("utf-8")) <= 2 * LONGEST_NAME

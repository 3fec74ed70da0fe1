"""Files of today's `torch.save`: a zip with one pickle and a plain entry for every storage.

The pickle is read as data by the same machine and vocabulary as a network pickle; its storages are
stretches of the file, never unpacked. Read `read_archive`.
"""

from __future__ import annotations

import struct
import zipfile
from dataclasses import replace
from typing import Any, BinaryIO

from ...errors import FileFormatError
from .byte_reader import CHUNK, Budget, Source
from .names import NAMES
from .pickles import read_pickle, unfit
from .storages import STORAGE_NAMES, Storage, described

START = b"PK\x03\x04"
LOCAL_HEADER = struct.Struct("<4s22xHH")  # magic, then the lengths of name and extra field
MAX_ENTRIES = 20_000
PICKLE = "data.pkl"


def read_archive(file: BinaryIO, name: str, budget: Budget) -> Any:
    """Return what the pickle in a torch archive describes, as records."""
    entries = _entries(file, name)
    pickles = [entry for entry in entries if entry.split("/")[-1] == PICKLE]
    if len(pickles) != 1:
        raise FileFormatError(
            f"{name} is a zip with {len(pickles)} files called {PICKLE}, not one file of "
            "torch.save; unpack it if the model is inside, or choose another file"
        )
    folder = pickles[0].removesuffix(PICKLE)
    order = entries.get(f"{folder}byteorder")
    if order is not None and order.take(min(order.left, 6)) != b"little":
        raise FileFormatError(f"{name} was written by a big-endian machine; save it on another one")

    def storage(value: Any) -> Storage:
        said = described(value)
        source = entries.get(f"{folder}data/{said.key}")
        if source is None or source.left < said.count * said.dtype.itemsize:
            raise unfit(f"has no {said.count} elements of a storage {ascii(said.key)[:20]}")
        return Storage(said.dtype, said.count, source, source.position)

    vocabulary = replace(NAMES, constants=NAMES.constants | STORAGE_NAMES, persistent=storage)
    return read_pickle(entries[pickles[0]], vocabulary, budget)


def _entries(file: BinaryIO, name: str) -> dict[str, Source]:
    """Return the stretch of every entry of a zip; none may be compressed."""
    try:
        with zipfile.ZipFile(file) as archive:
            listed = archive.infolist()
        size = file.seek(0, 2)
        if len(listed) > MAX_ENTRIES:
            raise ValueError(f"{len(listed)} entries")
        return {entry.filename: _stretch(file, name, entry, size) for entry in listed}
    except FileFormatError:
        raise
    except Exception as error:  # of whatever a damaged directory makes zipfile raise
        reason = (str(error) or type(error).__name__).splitlines()[0][:80]
        raise FileFormatError(
            f"{name} is not a complete file of torch.save ({ascii(reason)[1:-1]}); nothing in it "
            "was run; copy or download it again"
        ) from error


def _stretch(file: BinaryIO, name: str, entry: zipfile.ZipInfo, size: int) -> Source:
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        raise FileFormatError(
            f"{name} was not written by torch.save: an entry in it is compressed; load it with "
            "torch and save it again"
        )
    file.seek(entry.header_offset)
    magic, *lengths = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
    start = entry.header_offset + LOCAL_HEADER.size + sum(lengths)
    if magic != START or start + entry.file_size > size:
        raise ValueError("an entry reaches past the end")
    return Source(file, name, start, start + entry.file_size, chunk=CHUNK)

"""A stretch of a file read forwards, for formats that announce lengths and may lie about them.

No length is believed before it is compared with what the file still has, so a file that announces
gigabytes costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from ...errors import FileFormatError

CHUNK = 16384  # bytes read ahead in a file
INNER_CHUNK = 1024  # and inside a byte string, of which a file has hundreds
MAX_OPCODES = 400_000  # a full-size network has about 50 000
DAMAGED = "it may be damaged: copy or download it again"
MAX_TEXT = 16 * 2**20  # bytes of names and embedded source text in one file


@dataclass
class Budget:
    """What reading one file may still cost, whatever is nested in it."""

    opcodes: int = MAX_OPCODES
    text: int = MAX_TEXT


class Source:
    """A stretch of a file, read forwards; never past its end and never more than asked."""

    def __init__(
        self, file: BinaryIO, name: str, start: int, end: int, *, chunk: int = CHUNK
    ) -> None:
        self.file, self.name, self.end, self.chunk = file, name, end, chunk
        self._buffer = b""
        self._origin = start  # of the buffer, in the file
        self._at = 0  # in the buffer

    @property
    def position(self) -> int:
        """Byte of the file that comes next."""
        return self._origin + self._at

    @property
    def left(self) -> int:
        """Bytes up to the end."""
        return self.end - self.position

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        stop = self._at + size
        if stop > len(self._buffer):
            self._refill(size)
            stop = size
        taken = self._buffer[self._at : stop]
        self._at = stop
        return taken

    def skip(self, size: int) -> int:
        """Pass over `size` bytes and return where they began."""
        start = self.position
        self._check(size)
        if self._at + size <= len(self._buffer):
            self._at += size
        else:
            self._buffer, self._origin, self._at = b"", start + size, 0
        return start

    def line(self, limit: int = 200) -> bytes:
        """Return the bytes up to a newline, which is passed over."""
        taken = bytearray()
        while (byte := self.take(1)) != b"\n":
            taken += byte
            if len(taken) > limit:
                raise self.refuse("has a name without an end")
        return bytes(taken)

    def refuse(self, reason: str, advice: str = DAMAGED) -> FileFormatError:
        """Return the error that says what is wrong here and what may help."""
        return FileFormatError(
            f"{self.name} {reason} (near byte {self.position}); nothing in it was run; {advice}"
        )

    def _check(self, size: int) -> None:
        if not 0 <= size <= self.left:
            raise self.refuse(f"ends too early: {size} bytes were announced, {self.left} are left")

    def _refill(self, size: int) -> None:
        self._check(size)
        self._origin, self._at = self.position, 0
        self.file.seek(self._origin)
        self._buffer = self.file.read(min(max(size, self.chunk), self.end - self._origin))
        if len(self._buffer) < size:
            raise self.refuse("became shorter while it was read")


@dataclass(frozen=True, eq=False)
class Blob:
    """A byte string left in the file."""

    source: Source
    start: int
    length: int

    def read(self, limit: int) -> bytes:
        """Return the bytes, at most `limit` of them."""
        if self.length > limit:
            raise self.source.refuse(f"has {self.length} bytes where at most {limit} belong")
        return self.inside().take(self.length)

    def inside(self) -> Source:
        """Return the bytes as a source of their own."""
        end = self.start + self.length
        return Source(self.source.file, self.source.name, self.start, end, chunk=INNER_CHUNK)

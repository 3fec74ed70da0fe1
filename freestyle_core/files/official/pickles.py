"""Pickles read as data: nothing that a file names is ever imported, called or even looked up.

A pickle is a program for a small stack machine. `read_pickle` runs that machine itself, with only
the opcodes that plain data and networks need. Names of classes and functions stay names; the
caller's `Vocabulary` says which are allowed and which of our own functions stands in for each.
Opcodes, text and nesting draw on one `Budget`; byte strings are not read but noted as `Blob`s.
Opcode meanings: Python's `pickletools` documentation.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .byte_reader import MAX_OPCODES, MAX_TEXT, Blob, Budget, Source

Name = tuple[str, str]  # module and qualified name, as the file spells them

MAX_INT_BYTES = 16
ALONE = "save the generator alone, as {'G_ema': G}, where it was made"
UNFIT = f"copy it again, or {ALONE}"
TEXT_SHOWN = 60  # characters of a foreign name quoted in an error


@dataclass(frozen=True)
class Symbol:
    """The name of a class or function; just text."""

    name: Name


@dataclass(eq=False, repr=False)
class Record:
    """What stands in for an object of the file: the name of its kind and its state, as data."""

    kind: str
    state: Any = None


@dataclass(frozen=True)
class Vocabulary:
    """The names a pickle may use: all others are refused."""

    calls: Mapping[Name, Callable[[tuple, Budget], Any]] = field(default_factory=dict)
    objects: Mapping[Name, Callable[[], Any]] = field(default_factory=dict)  # made without data
    constants: frozenset[Name] = frozenset()  # only ever mentioned
    persistent: Callable[[Any], Any] | None = None  # what a persistent id becomes

    def allows(self, name: Name) -> bool:
        """Return whether a pickle may mention `name`."""
        return name in self.calls or name in self.objects or name in self.constants


def read_pickle(source: Source, vocabulary: Vocabulary, budget: Budget) -> Any:
    """Return the one value that the pickle at `source` describes; `source` then stands behind it.

    Raises FileFormatError for anything that is not plain data or in the vocabulary.
    """
    return _Machine(source, vocabulary, budget).run()


class _Machine:
    """The stack machine. Every handler checks what it pops, for the file may be hostile."""

    def __init__(self, source: Source, vocabulary: Vocabulary, budget: Budget) -> None:
        self.source, self.vocabulary, self.budget = source, vocabulary, budget
        self.stack: list[Any] = []
        self.marks: list[int] = []  # stack heights
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        if self.source.take(1) != b"\x80":
            raise self.source.refuse("is not a pickle")
        self.protocol()
        while True:
            code = self.source.take(1)
            self.budget.opcodes -= 1
            if self.budget.opcodes < 0:
                raise self.source.refuse(f"has over {MAX_OPCODES} instructions, far too many")
            if code == b".":
                return self.stop()
            handler = _HANDLERS.get(code)
            if handler is None:
                raise self.source.refuse(f"uses the instruction {code!r}, which networks never do")
            handler(self)

    # The stack ------------------------------------------------------------------------------

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise self.source.refuse("takes a value where there is none")
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        value = self.pop()
        if type(value) is not kind:
            raise self.source.refuse(
                f"has a {type(value).__name__} where a {kind.__name__} belongs"
            )
        self.stack.append(value)
        return value

    def since_mark(self) -> list[Any]:
        if not self.marks:
            raise self.source.refuse("ends a group that never began")
        height = self.marks.pop()
        values = self.stack[height:]
        del self.stack[height:]
        return values

    def number(self, code: str) -> Any:
        return struct.unpack(code, self.source.take(struct.calcsize(code)))[0]

    # Structure ------------------------------------------------------------------------------

    def protocol(self) -> None:
        version = self.number("<B")
        if not 2 <= version <= 5:
            raise self.source.refuse(f"is a pickle of protocol {version}, expected 2 to 5")

    def frame(self) -> None:
        size = self.number("<Q")
        if size > self.source.left:
            raise self.source.refuse(f"ends too early: a frame of {size} bytes was announced")

    def stop(self) -> Any:
        value = self.pop()
        if self.stack or self.marks:
            raise self.source.refuse("ends in the middle of a value")
        return value

    def mark(self) -> None:
        self.marks.append(len(self.stack))

    def remember(self, index: int) -> None:
        value = self.pop()
        self.stack.append(value)
        self.memo[index] = value

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise self.source.refuse(f"recalls value {index}, which it never stored")
        self.stack.append(self.memo[index])

    # Values ---------------------------------------------------------------------------------

    def integer(self) -> None:
        size = self.number("<B")
        if size > MAX_INT_BYTES:
            raise self.source.refuse(f"has a whole number of {size} bytes")
        self.push(int.from_bytes(self.source.take(size), "little", signed=True))

    def text(self, size: int) -> None:
        self.budget.text -= size
        if self.budget.text < 0:
            raise self.source.refuse(f"holds over {MAX_TEXT // 2**20} MB of text", UNFIT)
        self.push(self.decoded(self.source.take(size)))

    def decoded(self, data: bytes) -> str:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            raise self.source.refuse("has a text that is not UTF-8") from None

    def blob(self, size: int) -> None:
        self.push(Blob(self.source, self.source.skip(size), size))

    def tuple_of(self, size: int) -> None:
        values = [self.pop() for _ in range(size)]
        self.push(tuple(reversed(values)))

    # Containers -----------------------------------------------------------------------------

    def fill_list(self, values: list[Any]) -> None:
        self.top(list).extend(values)

    def fill_set(self, values: list[Any]) -> None:
        self.top(set).update(self.key(value) for value in values)

    def fill_dict(self, values: list[Any]) -> None:
        if len(values) % 2:
            raise self.source.refuse("has a key without a value")
        target = self.top(dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[self.key(key)] = value

    def key(self, value: Any) -> Any:
        # hashing a deeply nested tuple would exhaust the C stack
        if type(value) not in (str, int):
            raise self.source.refuse(f"has a {type(value).__name__} as a key")
        return value

    # Names, and what stands in for their objects --------------------------------------------

    def symbol(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise self.source.refuse("has a name that is not text")
        if not self.vocabulary.allows((module, name)):
            shown = ascii(f"{module} {name}")[1:-1][:TEXT_SHOWN]
            raise self.source.refuse(f"asks for {shown}, which no network of EG3D needs", ALONE)
        self.push(Symbol((module, name)))

    def symbol_from_stack(self) -> None:
        name, module = self.pop(), self.pop()
        self.symbol(module, name)

    def symbol_in_lines(self) -> None:
        module, name = self.source.line(), self.source.line()
        self.budget.opcodes -= len(module) + len(name)  # read byte by byte
        self.symbol(self.decoded(module), self.decoded(name))

    def callee(self, known: Mapping[Name, Callable]) -> tuple[Callable, tuple]:
        arguments, symbol = self.pop(), self.pop()
        if type(symbol) is not Symbol or symbol.name not in known:
            raise self.source.refuse("calls something that cannot be called")
        if type(arguments) is not tuple:
            raise self.source.refuse("calls a function without a tuple of arguments")
        return known[symbol.name], arguments

    def reduce(self) -> None:
        function, arguments = self.callee(self.vocabulary.calls)
        try:
            self.push(function(arguments, self.budget))
        except _Unfit as error:
            raise self.source.refuse(str(error), UNFIT) from None

    def new_object(self) -> None:
        make, arguments = self.callee(self.vocabulary.objects)
        if arguments:
            raise self.source.refuse("makes an object with arguments")
        self.push(make())

    def build(self) -> None:
        state = self.pop()
        if self.stack and type(self.stack[-1]) is dict and type(state) is dict:
            return  # attributes of a dict, as torch gives state dicts: not its content
        record = self.top(Record)
        if record.state is not None:
            raise self.source.refuse("sets the state of an object twice")
        record.state = state

    def persistent(self) -> None:
        value = self.pop()
        if self.vocabulary.persistent is None:
            raise self.source.refuse("has a persistent id, which networks never have")
        try:
            self.push(self.vocabulary.persistent(value))
        except _Unfit as error:
            raise self.source.refuse(str(error), UNFIT) from None


class _Unfit(Exception):
    """A stand-in was given data it cannot accept; becomes a FileFormatError with the position."""


def unfit(reason: str) -> Exception:
    """Return what a stand-in raises for unfit data; `reason` completes "<file> ..."."""
    return _Unfit(reason)


def _pushing(make: Callable[[], Any]) -> Callable[[_Machine], None]:
    return lambda m: m.push(make())


_HANDLERS: dict[bytes, Callable[[_Machine], None]] = {
    b"\x80": _Machine.protocol,
    b"\x95": _Machine.frame,
    b"(": _Machine.mark,
    b"N": _pushing(lambda: None),
    b"\x88": _pushing(lambda: True),
    b"\x89": _pushing(lambda: False),
    b"}": _pushing(dict),
    b"]": _pushing(list),
    b")": _pushing(tuple),
    b"\x8f": _pushing(set),
    b"J": lambda m: m.push(m.number("<i")),
    b"K": lambda m: m.push(m.number("<B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"G": lambda m: m.push(m.number(">d")),
    b"\x8a": _Machine.integer,
    b"\x8c": lambda m: m.text(m.number("<B")),
    b"X": lambda m: m.text(m.number("<I")),
    b"\x8d": lambda m: m.text(m.number("<Q")),
    b"C": lambda m: m.blob(m.number("<B")),
    b"B": lambda m: m.blob(m.number("<I")),
    b"\x8e": lambda m: m.blob(m.number("<Q")),
    b"\x96": lambda m: m.blob(m.number("<Q")),
    b"\x85": lambda m: m.tuple_of(1),
    b"\x86": lambda m: m.tuple_of(2),
    b"\x87": lambda m: m.tuple_of(3),
    b"t": lambda m: m.push(tuple(m.since_mark())),
    b"a": lambda m: m.fill_list([m.pop()]),
    b"e": lambda m: m.fill_list(m.since_mark()),
    b"\x90": lambda m: m.fill_set(m.since_mark()),
    b"s": lambda m: m.fill_dict([m.pop(), m.pop()][::-1]),
    b"u": lambda m: m.fill_dict(m.since_mark()),
    b"\x94": lambda m: m.remember(len(m.memo)),
    b"q": lambda m: m.remember(m.number("<B")),
    b"r": lambda m: m.remember(m.number("<I")),
    b"h": lambda m: m.recall(m.number("<B")),
    b"j": lambda m: m.recall(m.number("<I")),
    b"c": _Machine.symbol_in_lines,
    b"\x93": _Machine.symbol_from_stack,
    b"R": _Machine.reduce,
    b"\x81": _Machine.new_object,
    b"b": _Machine.build,
    b"Q": _Machine.persistent,
}

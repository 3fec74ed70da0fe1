"""What hostile and broken network pickles are made of: whole networks with one thing wrong."""

import io
import pickletools
import struct
import tempfile
from functools import cache
from pathlib import Path

from tests.official_pickle import write_official
from tests.pickle_tools import CANARY_NAME, pickled
from tests.pickle_writer import (
    ORDERED,
    PERSISTENT,
    STORAGE,
    TENSOR,
    Call,
    Global,
    New,
    storage_bytes,
)
from tests.tiny import tiny_eg3d

CANARY = Path(tempfile.gettempdir()) / CANARY_NAME
TOUCH = f"touch {CANARY}"
PYTHON = f"open({str(CANARY)!r}, 'w')"
SYSTEM = Call(Global("os", "system"), (TOUCH,))
DECODER = Global("training.triplane", "OSGDecoder")
FLOATS = Global("torch", "FloatStorage")
PROTO, END = b"\x80\x04", b"."


@cache
def honest():
    """Return a whole small network pickle."""
    return network()


def network(*, seed=0, **options):
    """Return a network pickle written with these options."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_official(Path(folder) / "n.pkl", tiny_eg3d(seed), copies=("G_ema",), **options)
        return path.read_bytes()


def beside(value):
    """Return an honest network with something hostile beside it."""
    return network(snapshot={"augment_pipe": value})


def call(module, name, *arguments, protocol=4):
    return pickled(Call(Global(module, name), arguments), protocol)


def raw(*codes):
    return PROTO + b"".join(codes)


def text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def stored(blob):
    return beside(Call(STORAGE, (blob,)))


def tensor(shape=(4,), stride=(1,), offset=0, *, storage=None, rest=None):
    rest = (False, Call(ORDERED, ())) if rest is None else rest
    storage = storage or Call(STORAGE, (storage_bytes(bytes(16), count=4),))
    return beside(Call(TENSOR, (storage, offset, shape, stride, *rest)))


def persistent(state, *, kind="TriPlaneGenerator", version=6, source="", **more):
    said = {
        "type": "class",
        "version": version,
        "module_src": source,
        "class_name": kind,
        "state": state,
        **more,
    }
    return Call(PERSISTENT, (said,))


def module_state(modules=None, parameters=None, **more):
    modules = {} if modules is None else modules
    return {"_parameters": parameters or {}, "_buffers": {}, "_modules": modules, **more}


def generator(state):
    return pickled({"G_ema": persistent(state)})


def module_that_contains_itself():
    modules = {}
    modules["again"] = New(DECODER, module_state(modules))
    return generator(module_state(modules))


def modules_that_double(levels):
    modules = {"leaf": New(DECODER, module_state())}
    for _ in range(levels):
        modules = {name: New(DECODER, module_state(modules)) for name in "ab"}
    return generator(module_state(modules))


def doubling(levels):
    """Yield tuples of which each holds the one before twice."""
    yield b"q\0"
    for i in range(levels):
        yield b"h%ch%c\x86q%c" % (i, i, i + 1)


def doubling_dicts(levels):
    """Return dicts of which each holds the one before twice: to print it would take forever."""
    value = {}
    for _ in range(levels):
        value = {"a": value, "b": value}
    return value


def nested(opcode, depth):
    return b")" + opcode * depth


def parts_of_storage(count=4):
    """Return the five pickles of a storage stream and the bytes after them."""
    data, parts = io.BytesIO(storage_bytes(bytes(16), count=count)), []
    for _ in range(5):
        start = data.tell()
        for _ in pickletools.genops(data):
            pass
        parts.append(data.getvalue()[start : data.tell()])
    return [*parts, data.read()]


def storage_with(index, part):
    parts = parts_of_storage()
    parts[index] = part
    return stored(b"".join(parts))


def storage_described(*identity):
    return storage_with(3, pickled(identity, 2)[:-1] + b"Q.")

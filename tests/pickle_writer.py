"""Writes pickles opcode by opcode, naming classes that need not exist.

`Writer` emits a name where `pickle` would look an object up. Its own few types say what to emit:
`Global`, `Call` (REDUCE), `New` (NEWOBJ and BUILD) and `Raw` (bytes as they are, for hostile
files). `storage_bytes` gives the stream in which torch stored tensors.
"""

import io
import struct
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor

FRAME = 64 * 1024  # bytes, as in Python's pickler
KINDS = {torch.float32: "FloatStorage", torch.float16: "HalfStorage"}


@dataclass(frozen=True)
class Global:
    module: str
    name: str


@dataclass(eq=False)
class Call:
    function: Global
    arguments: tuple
    state: object = None


@dataclass(eq=False)
class New:
    kind: Global
    state: dict | None = None
    items: dict | None = None  # for subclasses of dict


@dataclass(eq=False)
class Raw:
    data: bytes


@dataclass(eq=False)
class Parameter:
    data: Tensor


TENSOR = Global("torch._utils", "_rebuild_tensor_v2")
PARAMETER = Global("torch._utils", "_rebuild_parameter")
STORAGE = Global("torch.storage", "_load_from_bytes")
ORDERED = Global("collections", "OrderedDict")
EASY_DICT = Global("dnnlib.util", "EasyDict")
PERSISTENT = Global("torch_utils.persistence", "_reconstruct_persistent_obj")


class Writer:
    """A pickler for plain data, tensors, and objects given by name."""

    def __init__(self, file, *, protocol=4, old=False):
        self.file, self.protocol, self.old = file, protocol, old
        self.small, self.memo, self.count = bytearray(), {}, 0
        self.kept = []  # ids in the memo must stay alive
        self.float64 = None
        file.write(bytes([0x80, protocol]))

    def dump(self, value):
        self.save(value)
        self.emit(b".")
        self.flush()

    def emit(self, data):
        self.small += data
        if len(self.small) > FRAME:
            self.flush()

    def flush(self):
        if self.protocol >= 4 and self.small:
            self.file.write(b"\x95" + struct.pack("<Q", len(self.small)))
        self.file.write(self.small)
        self.small = bytearray()

    def memoize(self, key, keep=None):
        if self.protocol >= 4:
            self.emit(b"\x94")
        elif self.count < 256:
            self.emit(b"q" + bytes([self.count]))
        else:
            self.emit(b"r" + struct.pack("<I", self.count))
        if key is not None:
            self.memo[key] = self.count
            self.kept.append(keep)
        self.count += 1

    def recall(self, key):
        if key not in self.memo:
            return False
        index = self.memo[key]
        self.emit(b"h" + bytes([index]) if index < 256 else b"j" + struct.pack("<I", index))
        return True

    def save(self, value):
        kind = type(value)
        if kind is Raw:
            self.emit(value.data)
        elif kind is Parameter:
            self.save(Call(PARAMETER, (value.data, False, OrderedDict())))
        elif isinstance(value, Tensor):
            self.save(
                Call(
                    TENSOR,
                    (
                        Storage(value),
                        value.storage_offset(),
                        tuple(value.shape),
                        value.stride(),
                        False,
                        OrderedDict(),
                    ),
                )
            )
        else:
            getattr(self, f"save_{kind.__name__.lower()}")(value)

    def save_nonetype(self, value):
        self.emit(b"N")

    def save_bool(self, value):
        self.emit(b"\x88" if value else b"\x89")

    def save_int(self, value):
        if 0 <= value < 256:
            self.emit(b"K" + bytes([value]))
        elif 0 <= value < 65536:
            self.emit(b"M" + struct.pack("<H", value))
        elif -(2**31) <= value < 2**31:
            self.emit(b"J" + struct.pack("<i", value))
        else:
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            self.emit(b"\x8a" + bytes([len(data)]) + data)

    def save_float(self, value):
        self.emit(b"G" + struct.pack(">d", value))

    def save_str(self, value):
        if self.recall(("str", value)):
            return
        data = value.encode()
        if self.protocol >= 4 and len(data) < 256:
            self.emit(b"\x8c" + bytes([len(data)]) + data)
        else:
            self.emit(b"X" + struct.pack("<I", len(data)) + data)
        self.memoize(("str", value))

    def save_bytes(self, value):
        if len(value) < 256:
            self.emit(b"C" + bytes([len(value)]) + value)
        else:
            self.flush()
            self.file.write(b"B" + struct.pack("<I", len(value)))
            self.file.write(value)
        self.memoize(None)

    def save_tuple(self, value):
        if not value:
            return self.emit(b")")
        if len(value) > 3:
            self.emit(b"(")
        for item in value:
            self.save(item)
        self.emit({1: b"\x85", 2: b"\x86", 3: b"\x87"}.get(len(value), b"t"))
        self.memoize(None)

    def save_list(self, value):
        self.emit(b"]")
        self.memoize(None)
        if value:
            self.emit(b"(")
            for item in value:
                self.save(item)
            self.emit(b"e")

    def save_dict(self, value):
        if self.recall(id(value)):
            return
        self.emit(b"}")
        self.memoize(id(value), value)
        self.save_items(value)

    def save_items(self, value):
        if len(value) == 1:
            ((key, item),) = value.items()
            self.save(key)
            self.save(item)
            self.emit(b"s")
        elif value:
            self.emit(b"(")
            for key, item in value.items():
                self.save(key)
                self.save(item)
            self.emit(b"u")

    def save_ordereddict(self, value):
        self.save(Call(ORDERED, ()))
        self.save_items(value)

    def save_set(self, value):
        if self.protocol < 4:
            return self.save(Call(Global("builtins", "set"), (sorted(value),)))
        self.emit(b"\x8f")
        self.memoize(None)
        if value:
            self.emit(b"(")
            for item in sorted(value):
                self.save(item)
            self.emit(b"\x90")

    def save_float64(self, value):  # numpy's
        core = "numpy.core.multiarray" if self.old else "numpy._core.multiarray"
        if self.float64 is None:
            self.float64 = Call(
                Global("numpy", "dtype"), ("f8", False, True), (3, "<", None, None, None, -1, -1, 0)
            )
        self.save(Call(Global(core, "scalar"), (self.float64, value.tobytes())))

    def save_global(self, value):
        if self.recall(value):
            return
        if self.protocol >= 4:
            self.save(value.module)
            self.save(value.name)
            self.emit(b"\x93")
        else:
            self.emit(f"c{value.module}\n{value.name}\n".encode())
        self.memoize(value)

    def save_call(self, value):
        if self.recall(id(value)):
            return
        self.save(value.function)
        self.save(value.arguments)
        self.emit(b"R")
        self.memoize(None if value.state is None else id(value), value)
        if value.state is not None:
            self.save(value.state)
            self.emit(b"b")

    def save_new(self, value):
        self.save(value.kind)
        self.emit(b")\x81")
        self.memoize(None)
        self.save_items(value.items or {})
        if value.state is not None:
            self.save(value.state)
            self.emit(b"b")

    def save_storage(self, value):
        self.save(Call(STORAGE, (value.data,)))


class Storage:
    """A tensor's storage as the byte string that torch makes of it."""

    def __init__(self, tensor):
        whole = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
        self.data = storage_bytes(
            whole.numpy().tobytes(), KINDS[tensor.dtype], whole.numel(), id(tensor)
        )


def storage_bytes(
    data, kind="FloatStorage", count=0, key=1, *, real_count=None, device="cpu", module="torch"
):
    """Return a stream of torch's older format that says it holds `count` elements in `data`."""
    key = str(key)
    sizes = {"short": 2, "int": 4, "long": 4}
    machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": sizes}
    identity = ("storage", Global(module, kind), key, device, count, None)
    stream = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, machine, (identity,), [key]):
        part = io.BytesIO()
        writer = Writer(part, protocol=2)
        if value == (identity,):
            writer.save(identity)
            writer.emit(b"Q.")
            writer.flush()
        else:
            writer.dump(value)
        stream.write(part.getvalue())
    stream.write(struct.pack("<q", count if real_count is None else real_count))
    stream.write(data)
    return stream.getvalue()

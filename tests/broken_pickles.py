"""Files that lie about sizes, nonsense, and other kinds of files, by name."""

import gzip
import io
import struct
import zipfile
from types import SimpleNamespace

import torch
from safetensors.torch import save

from tests.pickle_parts import (
    DECODER,
    END,
    FLOATS,
    SYSTEM,
    beside,
    doubling,
    doubling_dicts,
    generator,
    honest,
    module_state,
    module_that_contains_itself,
    modules_that_double,
    nested,
    network,
    persistent,
    raw,
    storage_described,
    storage_with,
    stored,
    tensor,
    text,
)
from tests.pickle_tools import pickled
from tests.pickle_writer import ORDERED, STORAGE, Call, Global, New, Raw, storage_bytes

ZIPPED = io.BytesIO()
with zipfile.ZipFile(ZIPPED, "w") as _zip:
    _zip.writestr("archive/data.pkl", pickled(SYSTEM))
TORCH_FILE = io.BytesIO()
torch.save({"G_ema": torch.zeros(2)}, TORCH_FILE)

BROKEN = {  # lies about sizes, nonsense, other kinds of files
    "empty": lambda: b"",
    "one byte": lambda: b"\x80",
    "web page": lambda: b"<!DOCTYPE html><html><body>Not found</body></html>",
    "zip": lambda: ZIPPED.getvalue(),
    "file of torch.save": lambda: TORCH_FILE.getvalue(),
    "gzip": lambda: gzip.compress(honest()),
    "git-lfs pointer": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
    "safetensors": lambda: save({"x": torch.zeros(2)}),
    "zeros": lambda: bytes(4096),
    "protocol 9": lambda: b"\x80\x09N.",
    "a number": lambda: pickled(3),
    "a list": lambda: pickled([{"G_ema": 1}]),
    "no G_ema": lambda: pickled({"G": persistent(module_state())}),
    "no generator": lambda: pickled({"G_ema": persistent(module_state(), kind="Generator")}),
    "generator without tensors": lambda: generator(
        module_state(_init_kwargs={}, neural_rendering_resolution=64, rendering_kwargs={})
    ),
    "generator without state": lambda: pickled({"G_ema": persistent(None)}),
    "unknown persistence version": lambda: pickled({"G_ema": persistent({}, version=7)}),
    "other persistent type": lambda: pickled({"G_ema": persistent({}, type="function")}),
    "tensor missing": lambda: network(
        change=lambda layout: delattr(layout.eg3d.backbone.mapping.fc0, "bias")
    ),
    "goes on after its end": lambda: honest() + b"N.",
    "last byte missing": lambda: honest()[:-1],
    "half of it": lambda: honest()[: len(honest()) // 2],
    "frame of an exabyte": lambda: raw(b"\x95" + struct.pack("<Q", 2**60), b"N", END),
    "terabyte of bytes": lambda: raw(b"\x8e" + struct.pack("<Q", 2**40)),
    "terabyte of text": lambda: raw(b"\x8d" + struct.pack("<Q", 2**40)),
    "4 gigabytes of text": lambda: raw(b"X" + struct.pack("<I", 2**32 - 1)),
    "2 gigabyte number": lambda: raw(b"\x8b" + struct.pack("<i", 2**31 - 1)),
    "long number": lambda: raw(b"\x8a\xff" + bytes(255), END),
    "terabyte of buffer": lambda: raw(b"\x96" + struct.pack("<Q", 2**40)),
    "text that is not text": lambda: raw(b"\x8c\x02\xff\xfe", END),
    "too much text": lambda: raw((text("x" * 2**20) + b"\x85") * 20, END),
    "too many instructions": lambda: raw(b"N" * 3_000_000, END),
    "too many names": lambda: raw(b"ccollections\nOrderedDict\n" * 200_000, END),
    "tuples 300 000 deep": lambda: raw(nested(b"\x85", 300_000), END),
    "deep tuple as a key": lambda: raw(b"}", nested(b"\x85", 100_000), b"Ns", END),
    "deep tuple as an argument": lambda: network(
        rendering={"superresolution_module": Raw(nested(b"\x85", 100_000))}
    ),
    "memo never stored": lambda: raw(b"h\x07", END),
    "memo of four billion": lambda: raw(b"Nr\xff\xff\xff\xff", END),
    "lists that double": lambda: raw(
        b"(]\x94", *(b"]\x94(h%ch%ce" % (i, i) for i in range(200)), b"t", END
    ),
    "tuples that double": lambda: raw(b"(N", *doubling(200), b"t", END),
    "name that doubles": lambda: network(rendering={"superresolution_module": doubling_dicts(200)}),
    "number that doubles": lambda: network(rendering={"ray_start": doubling_dicts(200)}),
    "resolution that doubles": lambda: network(
        change=lambda layout: setattr(
            layout,
            "config",
            SimpleNamespace(
                **vars(layout.config)
                | {"neural_resolution": doubling_dicts(200), "block_resolutions": (4, 8)}
            ),
        )
    ),
    "sets from one long list": lambda: raw(
        b"](", text("x") * 20_000, b"e\x94cbuiltins\nset\n\x94", b"h\x01h\x00\x85R" * 20_000, END
    ),
    "module that contains itself": module_that_contains_itself,
    "modules that double": lambda: modules_that_double(60),
    "module with a dotted name": lambda: generator(module_state({"a.b": New(DECODER, {})})),
    "module that is a number": lambda: generator(module_state({"a": 3})),
    "module without parts": lambda: generator({"_parameters": {}}),
    "parameter that is a number": lambda: generator(module_state(parameters={"w": 3})),
    "plane resolution of 99999": lambda: honest().replace(b"\x8c\x02b8", b"\x8c\x06b99999"),
    "stack empty": lambda: raw(b"R", END),
    "nothing to end": lambda: raw(END),
    "group never begun": lambda: raw(b"t", END),
    "group never ended": lambda: raw(b"(N", END),
    "value below the mark": lambda: raw(b"N(\x85", END),
    "two values": lambda: raw(b"NN", END),
    "key without a value": lambda: raw(b"}(Nu", END),
    "list as a key": lambda: raw(b"}]Ns", END),
    "item of a number": lambda: raw(b"K\x01NNs", END),
    "append to a dict": lambda: raw(b"}Na", END),
    "unknown instruction": lambda: raw(b"\xff", END),
    "numpy number of two bytes": lambda: beside(
        Call(
            Global("numpy.core.multiarray", "scalar"),
            (Call(Global("numpy", "dtype"), ("f8", False, True)), b"xx"),
        )
    ),
    "numpy number, big-endian": lambda: beside(
        Call(
            Global("numpy.core.multiarray", "scalar"),
            (Call(Global("numpy", "dtype"), ("f8", False, True), (3, ">")), bytes(8)),
        )
    ),
    "ordered dict of something": lambda: beside(Call(ORDERED, ([("a", 1)],))),
    "storage that is text": lambda: beside(Call(STORAGE, ("text",))),
    "storage without data": lambda: stored(b""),
    "storage that says gigabytes": lambda: stored(storage_bytes(bytes(16), count=2**40)),
    "storage that says nothing": lambda: stored(storage_bytes(bytes(16), count=0)),
    "storage of minus one": lambda: stored(storage_bytes(b"", count=-1)),
    "storage with two counts": lambda: stored(storage_bytes(bytes(16), count=4, real_count=2**40)),
    "storage of half the dtype": lambda: stored(storage_bytes(bytes(16), "HalfStorage", count=4)),
    "storage of twice the dtype": lambda: stored(storage_bytes(bytes(16), "LongStorage", count=4)),
    "storage of unknown dtype": lambda: stored(storage_bytes(bytes(16), "QInt8Storage", count=16)),
    "storage with wrong magic": lambda: storage_with(0, pickled(7, 2)),
    "storage of another version": lambda: storage_with(1, pickled(1000, 2)),
    "storage, big-endian": lambda: storage_with(2, pickled({"little_endian": False}, 2)),
    "storage under another key": lambda: storage_with(4, pickled(["2"], 2)),
    "storage with two keys": lambda: storage_with(4, pickled(["1", "2"], 2)),
    "storage that is a view": lambda: storage_described(
        "storage", FLOATS, "1", "cpu", 4, ("0", 0, 4)
    ),
    "storage with too little said": lambda: storage_described("storage", FLOATS),
    "storage that is a module": lambda: storage_described("module", FLOATS, "1", "cpu", 4, None),
    "tensor past its storage": lambda: tensor(shape=(5,)),
    "tensor of a huge shape": lambda: tensor(shape=(2**40, 2**40), stride=(0, 0)),
    "tensor repeated by stride 0": lambda: tensor(shape=(2**30,), stride=(0,)),
    "tensor with huge empty shape": lambda: tensor(shape=(0, 2**40, 2**40), stride=(1, 1, 1)),
    "stride past the storage": lambda: tensor(shape=(2,), stride=(4,)),
    "stride of a gigabyte": lambda: tensor(shape=(2,), stride=(2**47,)),
    "negative stride": lambda: tensor(stride=(-1,)),
    "negative size": lambda: tensor(shape=(-4,)),
    "negative offset": lambda: tensor(offset=-1),
    "offset past the storage": lambda: tensor(offset=1),
    "more strides than sizes": lambda: tensor(stride=(1, 1)),
    "nine dimensions": lambda: tensor(shape=(1,) * 9, stride=(1,) * 9),
    "shape of fractions": lambda: tensor(shape=(4.0,)),
    "shape of flags": lambda: tensor(shape=(True,)),
    "shape that is a list": lambda: tensor(shape=[4]),
    "tensor without a storage": lambda: tensor(storage=(1, 2)),
    "tensor with too few arguments": lambda: tensor(rest=()),
}

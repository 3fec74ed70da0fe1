"""Hostile and broken network pickles: all refused, cheaply, and nothing in them is ever run."""

import gzip
import io
import json
import pickletools
import struct
import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from freestyle_core.errors import FileFormatError, FreeStyleError
from freestyle_core.files.models import load_eg3d
from tests.official_pickle import (
    ORDERED,
    PARAMETER,
    PERSISTENT,
    STORAGE,
    TENSOR,
    Call,
    Global,
    New,
    Raw,
    storage_bytes,
    write_official,
)
from tests.pickle_tools import CANARY_NAME, SAMPLE, pickled
from tests.tiny import tiny_eg3d

ROOT = Path(__file__).resolve().parents[1]
CANARY = Path(tempfile.gettempdir()) / CANARY_NAME
TOUCH = f"touch {CANARY}"
PYTHON = f"open({str(CANARY)!r}, 'w')"
SYSTEM = Call(Global("os", "system"), (TOUCH,))
DECODER = Global("training.triplane", "OSGDecoder")
PROTO, END = b"\x80\x04", b"."
SECONDS, MEGABYTES = 5, 500


@cache
def honest():
    """Return a whole small network pickle."""
    return network()


def network(*, seed=0, **options):
    """Return a network pickle written with these options."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_official(Path(folder) / "n.pkl", tiny_eg3d(seed), copies=("G_ema",),
                              **options)
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
    said = {"type": "class", "version": version, "module_src": source, "class_name": kind,
            "state": state, **more}  # fmt: skip
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


FLOATS = Global("torch", "FloatStorage")
ATTRIBUTE = Call(Global("builtins", "getattr"),
                 (Call(Global("builtins", "__import__"), ("os",)), "system"))
ZIPPED = io.BytesIO()
with zipfile.ZipFile(ZIPPED, "w") as _zip:
    _zip.writestr("archive/data.pkl", pickled(SYSTEM))
TORCH_FILE = io.BytesIO()
torch.save({"G_ema": torch.zeros(2)}, TORCH_FILE)

RUNNING = {  # would run something in Python's own unpickler
    "os.system": lambda: pickled(SYSTEM),
    "posix.system": lambda: call("posix", "system", TOUCH),
    "eval": lambda: call("builtins", "eval", PYTHON),
    "exec": lambda: call("builtins", "exec", PYTHON),
    "exec of python 2": lambda: call("__builtin__", "eval", PYTHON, protocol=2),
    "compile": lambda: call("builtins", "compile", PYTHON, "x", "exec"),
    "open": lambda: call("builtins", "open", str(CANARY), "w"),
    "import": lambda: call("builtins", "__import__", "antigravity"),
    "importlib": lambda: call("importlib", "import_module", "antigravity"),
    "subprocess": lambda: call("subprocess", "check_output", ["touch", str(CANARY)]),
    "pathlib": lambda: call("pathlib", "Path", str(CANARY)),
    "shutil": lambda: call("shutil", "rmtree", str(CANARY)),
    "ctypes": lambda: call("ctypes", "CDLL", "libc.so.6"),
    "webbrowser": lambda: call("webbrowser", "open", "http://localhost"),
    "pickle in a pickle": lambda: call("pickle", "loads", pickled(SYSTEM)),
    "marshal": lambda: call("marshal", "loads", b"c" * 20),
    "torch.load": lambda: call("torch.serialization", "load", str(CANARY)),
    "torch.hub": lambda: call("torch.hub", "load", "x/y", "z"),
    "numpy.load": lambda: call("numpy", "load", str(CANARY), None, True),
    "numpy objects": lambda: beside(Call(Global("numpy.core.multiarray", "scalar"), (
        Call(Global("numpy", "dtype"), ("O", False, True)), pickled(SYSTEM)))),
    "getattr chain": lambda: pickled(ATTRIBUTE),
    "operator": lambda: call("operator", "methodcaller", "system", TOUCH),
    "functools.partial with a state": lambda: pickled(
        Call(Global("functools", "partial"), (Global("os", "system"),), ({}, (TOUCH,), {}, {}))),
    "setstate of a foreign class": lambda: pickled(
        New(Global("functools", "partial"), (Global("os", "system"), (TOUCH,), {}, {}))),
    "setstate of an allowed class": lambda: pickled(
        New(DECODER, {"__setstate__": Global("os", "system")})),
    "in the arguments": lambda: network(init={"mapping_kwargs": SYSTEM}),
    "in the nested state": lambda: generator(module_state(
        {"backbone": persistent(module_state(x=SYSTEM), kind="Generator")})),
    "in a list in a tuple": lambda: beside(([{"a": (1, SYSTEM)}],)),
    "as a parameter": lambda: beside(Call(PARAMETER, (SYSTEM, False, Call(ORDERED, ())))),
    "as the hooks of a tensor": lambda: tensor(rest=(False, SYSTEM)),
    "as the shape of a tensor": lambda: tensor(shape=SYSTEM),
    "storage that is a pickle": lambda: stored(pickled(SYSTEM, 2)),
    "storage with a hostile machine": lambda: storage_with(2, pickled({"little_endian": SYSTEM})),
    "storage with a hostile key": lambda: storage_with(4, pickled([SYSTEM], 2)),
    "storage of a hostile kind": lambda: storage_described(
        "storage", Global("os", "system"), "1", "cpu", 4, None),
    "dotted name": lambda: raw(text("os"), text("path.os.system"), b"\x93", text(TOUCH),
                               b"\x85R", END),
    "dotted name of an allowed function": lambda: call(
        "torch.storage", "_load_from_bytes.__globals__.get", "io"),
    "dotted name of an allowed class": lambda: call("collections", "OrderedDict.fromkeys", "abc"),
    "allowed name of another module": lambda: call("torch_utils.persistence", "import_hook"),
    "name in two lines": lambda: raw(b"cos\nsystem\n", text(TOUCH), b"\x85R", END),
    "name with a line break": lambda: call("os\nsystem", "x"),
    "name that is no text": lambda: raw(b"K\x01K\x02\x93)R", END),
    "copyreg": lambda: call("copyreg", "_reconstructor", Global("os", "system"), 1, None),
    "object called as function": lambda: raw(b"}", text(TOUCH), b"\x85R", END),
    "class called as function": lambda: pickled(Call(DECODER, (TOUCH,))),
    "function made as object": lambda: pickled(New(STORAGE, {})),
    "object with arguments": lambda: raw(
        b"ctraining.triplane\nOSGDecoder\n", text("x"), b"\x85\x81", END),
    "state of a function": lambda: raw(b"ctorch.storage\n_load_from_bytes\n}b", END),
    "state set twice": lambda: raw(b"ctraining.triplane\nOSGDecoder\n)\x81}b}b", END),
    "extension code 1": lambda: raw(b"\x82\x01)R", END),
    "extension code 2": lambda: raw(b"\x83\x01\x00)R", END),
    "extension code 4": lambda: raw(b"\x84\x01\x00\x00\x00)R", END),
    "persistent id": lambda: raw(text("id"), b"Q", END),
    "persistent id as text": lambda: raw(b"Pid\n", END),
    "instance of protocol 0": lambda: raw(b"(", text(TOUCH), b"ios\nsystem\n", END),
    "object of protocol 1": lambda: raw(b"(cos\nsystem\n", text(TOUCH), b"o", END),
    "object with keywords": lambda: raw(b"cos\nsystem\n", text(TOUCH), b"\x85}\x92", END),
    "protocol 0": lambda: b"cos\nsystem\n(S'" + TOUCH.encode() + b"'\ntR.",
    "protocol 0 behind a header": lambda: b"\x80\x00cos\nsystem\n(S'x'\ntR.",
    "buffer outside of the file": lambda: raw(b"\x97", END),
}

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
    "generator without tensors": lambda: generator(module_state(
        _init_kwargs={}, neural_rendering_resolution=64, rendering_kwargs={})),
    "generator without state": lambda: pickled({"G_ema": persistent(None)}),
    "unknown persistence version": lambda: pickled({"G_ema": persistent({}, version=7)}),
    "other persistent type": lambda: pickled({"G_ema": persistent({}, type="function")}),
    "tensor missing": lambda: network(change=lambda layout: delattr(
        layout.eg3d.backbone.mapping.fc0, "bias")),
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
        rendering={"superresolution_module": Raw(nested(b"\x85", 100_000))}),
    "memo never stored": lambda: raw(b"h\x07", END),
    "memo of four billion": lambda: raw(b"Nr\xff\xff\xff\xff", END),
    "lists that double": lambda: raw(
        b"(]\x94", *(b"]\x94(h%ch%ce" % (i, i) for i in range(200)), b"t", END),
    "tuples that double": lambda: raw(b"(N", *doubling(200), b"t", END),
    "name that doubles": lambda: network(
        rendering={"superresolution_module": doubling_dicts(200)}),
    "number that doubles": lambda: network(rendering={"ray_start": doubling_dicts(200)}),
    "resolution that doubles": lambda: network(change=lambda layout: setattr(
        layout, "config", SimpleNamespace(**vars(layout.config) | {
            "neural_resolution": doubling_dicts(200), "block_resolutions": (4, 8)}))),
    "sets from one long list": lambda: raw(
        b"](", text("x") * 20_000, b"e\x94cbuiltins\nset\n\x94",
        b"h\x01h\x00\x85R" * 20_000, END),
    "module that contains itself": module_that_contains_itself,
    "modules that double": lambda: modules_that_double(60),
    "module with a dotted name": lambda: generator(module_state({"a.b": New(DECODER, {})})),
    "module that is a number": lambda: generator(module_state({"a": 3})),
    "module without parts": lambda: generator({"_parameters": {}}),
    "parameter that is a number": lambda: generator(module_state(parameters={"w": 3})),
    "plane resolution of 99999": lambda: honest().replace(
        b"\x8c\x02b8", b"\x8c\x06b99999"),
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
    "numpy number of two bytes": lambda: beside(Call(
        Global("numpy.core.multiarray", "scalar"),
        (Call(Global("numpy", "dtype"), ("f8", False, True)), b"xx"))),
    "numpy number, big-endian": lambda: beside(Call(
        Global("numpy.core.multiarray", "scalar"),
        (Call(Global("numpy", "dtype"), ("f8", False, True), (3, ">")), bytes(8)))),
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
        "storage", FLOATS, "1", "cpu", 4, ("0", 0, 4)),
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


@cache
def truncations():
    """Return the sample cut before, inside and after the first of every kind of instruction.

    Without its frames, whose lengths would give every cut away.
    """
    data, cuts = SAMPLE.read_bytes(), {}
    frames = [at for op, _, at in pickletools.genops(data) if op.name == "FRAME"]
    for at in reversed(frames):
        data = data[:at] + data[at + 9 :]
    cuts["frame"] = SAMPLE.read_bytes()[: frames[1] + 5]
    operations = [(op.name, at) for op, _, at in pickletools.genops(data)]
    for (name, at), (_, after) in zip(operations, operations[1:], strict=False):
        for where, cut in (("before", at), ("inside", (at + after) // 2), ("after", after)):
            cuts.setdefault(f"{where} {name}", data[:cut])
    return cuts


def safe_name(name):
    return "".join(c if c.isalnum() else "_" for c in name)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What loading each file did, in one process of its own."""
    folder = tmp_path_factory.mktemp("attacks")
    files = {name: make() for name, make in {**RUNNING, **BROKEN}.items()} | truncations()
    files["honest"] = honest()
    for name, data in files.items():
        (folder / f"{safe_name(name)}.pkl").write_bytes(data)
    CANARY.unlink(missing_ok=True)
    run = subprocess.run([sys.executable, "-m", "tests.pickle_tools", str(folder)], cwd=ROOT,
                         capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    found = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(found) == len(files)
    return {outcome["name"]: outcome for outcome in found}


def check_refused(outcome):
    assert outcome["outcome"] == "refused", outcome
    assert outcome["seconds"] < SECONDS and outcome["peak_mb"] < MEGABYTES
    assert outcome["events"] == []
    message = outcome["message"]
    assert f"{outcome['name']}.pkl" in message and "\n" not in message and len(message) < 400


def test_the_guard_lets_an_honest_file_pass(outcomes):
    assert outcomes["honest"]["outcome"] == "loaded"
    assert len(RUNNING) >= 30 and len({make() for make in RUNNING.values()}) == len(RUNNING)


@pytest.mark.parametrize("name", RUNNING)
def test_nothing_is_ever_run(outcomes, name):
    check_refused(outcomes[safe_name(name)])
    assert not CANARY.exists()


@pytest.mark.parametrize("name", BROKEN)
def test_broken_file_is_refused_cheaply(outcomes, name):
    check_refused(outcomes[safe_name(name)])


def test_file_cut_at_any_instruction_is_refused(outcomes):
    assert len(truncations()) > 90
    for name in truncations():
        check_refused(outcomes[safe_name(name)])


def test_source_text_in_the_file_is_never_run(tmp_path):
    """An official file carries its classes' source; it loads as if that were not there."""
    CANARY.unlink(missing_ok=True)
    path = tmp_path / "n.pkl"
    path.write_bytes(network(source=PYTHON))
    assert PYTHON.encode() in path.read_bytes()
    load_eg3d(path)
    assert not CANARY.exists()


def test_folder_and_missing_file_are_refused(tmp_path):
    (tmp_path / "folder.pkl").mkdir()
    for name in ("folder.pkl", "none.pkl"):
        with pytest.raises(FileFormatError, match="cannot be read"):
            load_eg3d(tmp_path / name)


def test_messages_name_what_was_asked_for(outcomes):
    assert "asks for os system" in outcomes["os_system"]["message"]
    assert "is a web page" in outcomes["web_page"]["message"]
    assert "a zip or a newer torch file" in outcomes["file_of_torch_save"]["message"]
    assert "1099511627776 bytes were announced" in outcomes["terabyte_of_bytes"]["message"]


# Mutations ----------------------------------------------------------------------------------------


@cache
def sample_and_its_instructions():
    """Return the sample's bytes and where its instructions are, those inside storages too."""
    data = SAMPLE.read_bytes()
    at = []
    for operation, argument, start in pickletools.genops(data):
        at.append(start)
        if operation.name == "BINBYTES":
            at.extend(range(start + 5, start + 5 + min(len(argument), 330), 11))
    return data, at


@st.composite
def mutated(draw):
    data, instructions = sample_and_its_instructions()
    data = bytearray(data)
    anywhere = st.integers(0, len(data) - 1)
    # the beginning decides the rest, so it is hit more often
    early = st.sampled_from(instructions[:600])
    place = st.one_of(st.sampled_from(instructions), early, anywhere)
    for _ in range(draw(st.integers(1, 4))):
        start, kind = draw(place), draw(st.sampled_from("set flip insert delete repeat".split()))
        if kind == "set":
            data[start : start + 1] = draw(st.binary(min_size=1, max_size=9))
        elif kind == "flip":
            data[min(start, len(data) - 1)] ^= 1 << draw(st.integers(0, 7))
        elif kind == "insert":
            data[start:start] = draw(st.sampled_from(
                [bytes([code.code.encode("latin-1")[0]]) for code in pickletools.opcodes]))
        elif kind == "delete":
            del data[start : start + draw(st.integers(1, 40))]
        else:
            data[start:start] = data[start : start + draw(st.integers(1, 40))]
    return bytes(data)


@settings(max_examples=60, deadline=None)
@given(data=mutated())
def test_mutated_sample_loads_or_is_refused(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.pkl"
        path.write_bytes(data)
        try:
            load_eg3d(path)
        except FreeStyleError as error:
            assert "m.pkl" in str(error) and "\n" not in str(error)

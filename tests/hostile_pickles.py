"""Files that would run something in Python's own unpickler, by name."""

from tests.pickle_parts import (
    CANARY,
    DECODER,
    END,
    PYTHON,
    SYSTEM,
    TOUCH,
    beside,
    call,
    generator,
    module_state,
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
from tests.pickle_writer import ORDERED, PARAMETER, STORAGE, Call, Global, New

ATTRIBUTE = Call(
    Global("builtins", "getattr"), (Call(Global("builtins", "__import__"), ("os",)), "system")
)

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
    "numpy objects": lambda: beside(
        Call(
            Global("numpy.core.multiarray", "scalar"),
            (Call(Global("numpy", "dtype"), ("O", False, True)), pickled(SYSTEM)),
        )
    ),
    "getattr chain": lambda: pickled(ATTRIBUTE),
    "operator": lambda: call("operator", "methodcaller", "system", TOUCH),
    "functools.partial with a state": lambda: pickled(
        Call(Global("functools", "partial"), (Global("os", "system"),), ({}, (TOUCH,), {}, {}))
    ),
    "setstate of a foreign class": lambda: pickled(
        New(Global("functools", "partial"), (Global("os", "system"), (TOUCH,), {}, {}))
    ),
    "setstate of an allowed class": lambda: pickled(
        New(DECODER, {"__setstate__": Global("os", "system")})
    ),
    "in the arguments": lambda: network(init={"mapping_kwargs": SYSTEM}),
    "in the nested state": lambda: generator(
        module_state({"backbone": persistent(module_state(x=SYSTEM), kind="Generator")})
    ),
    "in a list in a tuple": lambda: beside(([{"a": (1, SYSTEM)}],)),
    "as a parameter": lambda: beside(Call(PARAMETER, (SYSTEM, False, Call(ORDERED, ())))),
    "as the hooks of a tensor": lambda: tensor(rest=(False, SYSTEM)),
    "as the shape of a tensor": lambda: tensor(shape=SYSTEM),
    "storage that is a pickle": lambda: stored(pickled(SYSTEM, 2)),
    "storage with a hostile machine": lambda: storage_with(2, pickled({"little_endian": SYSTEM})),
    "storage with a hostile key": lambda: storage_with(4, pickled([SYSTEM], 2)),
    "storage of a hostile kind": lambda: storage_described(
        "storage", Global("os", "system"), "1", "cpu", 4, None
    ),
    "dotted name": lambda: raw(
        text("os"), text("path.os.system"), b"\x93", text(TOUCH), b"\x85R", END
    ),
    "dotted name of an allowed function": lambda: call(
        "torch.storage", "_load_from_bytes.__globals__.get", "io"
    ),
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
        b"ctraining.triplane\nOSGDecoder\n", text("x"), b"\x85\x81", END
    ),
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

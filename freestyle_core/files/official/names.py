"""All names that a network pickle may mention, and what stands in for each.

Beside the generator itself these are what training and inversion programs leave around it: numbers
and arrays of numpy, devices and formats of torch, settings. None of it is ever looked up; an array
becomes an empty `Record`, its bytes stay in the file.
"""

from __future__ import annotations

import re
import struct
from typing import Any

from .byte_reader import Blob, Budget
from .pickles import Record, Symbol, Vocabulary, unfit
from .storages import read_storage, rebuild_parameter, rebuild_tensor

PERSISTENT_VERSIONS = range(1, 7)  # of the format in which classes travel with their source
NUMPY_FORMATS = {"f8": "<d", "f4": "<f", "i8": "<q", "i4": "<i", "b1": "<?"}  # read as numbers
NUMPY_KINDS = re.compile(r"[biufcSUVmM]\d{1,7}|\?", re.ASCII)  # all but objects
NUMPY_MODULES = ("numpy.core", "numpy._core")  # of numpy 1 and 2
TORCH_FORMATS = (
    "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 complex128"
).split()


def _empty_dict(arguments: tuple, budget: Budget) -> dict:
    if arguments:
        raise unfit("has an OrderedDict made from something")
    return {}


def _set_of(arguments: tuple, budget: Budget) -> set:
    if len(arguments) != 1 or type(arguments[0]) is not list:
        raise unfit("has a set that is not made from a list")
    budget.opcodes -= len(arguments[0])
    if any(type(item) is not str for item in arguments[0]):
        raise unfit("has a set of something else than names")
    return set(arguments[0])


def _persistent_object(arguments: tuple, budget: Budget) -> Record:
    """Return an object whose class travels with its source text; that text is left aside."""
    if len(arguments) != 1 or type(arguments[0]) is not dict:
        raise unfit("has a persistent object that is not described by a dict")
    said = arguments[0]
    kind, version, state = said.get("class_name"), said.get("version"), said.get("state")
    if said.get("type") != "class" or type(kind) is not str or type(state) is not dict:
        raise unfit("has a persistent object without class name or state")
    if type(version) is not int or version not in PERSISTENT_VERSIONS:
        raise unfit("has a persistent object of an unknown version")
    return Record(kind, state)


# numpy -------------------------------------------------------------------------------------------


def _numpy_dtype(arguments: tuple, budget: Budget) -> Record:
    kind = arguments[0] if arguments else None
    if type(kind) is not str or not NUMPY_KINDS.fullmatch(kind):
        raise unfit("has a numpy type that is neither numbers nor text, such as objects")
    return Record(kind)


def _numpy_number(arguments: tuple, budget: Budget) -> float | int | bool:
    if len(arguments) != 2 or type(arguments[0]) is not Record:
        raise unfit("has a numpy number without type or bytes")
    dtype, data = arguments
    if type(data) not in (Blob, bytes):
        raise unfit("has a numpy number without type or bytes")
    order = dtype.state[1] if type(dtype.state) is tuple and len(dtype.state) > 1 else "<"
    code = NUMPY_FORMATS.get(dtype.kind)
    if code is None or type(order) is not str or order not in ("<", "|", "="):
        raise unfit("has a numpy number of an unknown type")
    size = data.length if type(data) is Blob else len(data)
    if size != struct.calcsize(code):
        raise unfit(f"has a numpy number of {size} bytes, which do not fit its type")
    return struct.unpack(code, data.read(8) if type(data) is Blob else data)[0]


def _empty_array(arguments: tuple, budget: Budget) -> Record:
    """Return what stands in for an array; its state is shape, type and the place of its bytes."""
    if len(arguments) != 3 or arguments[0] != Symbol(("numpy", "ndarray")):
        raise unfit("has an array of a kind of its own")
    return Record("ndarray")


def _array_on_buffer(arguments: tuple, budget: Budget) -> Record:
    if len(arguments) != 4 or type(arguments[0]) is not Blob or type(arguments[1]) is not Record:
        raise unfit("has a numpy array without type or bytes")
    return Record("ndarray")


def _encoded(arguments: tuple, budget: Budget) -> bytes:
    """Return bytes, which protocol 2 writes as text."""
    if len(arguments) != 2 or type(arguments[0]) is not str or arguments[1] != "latin1":
        raise unfit("has bytes that are not written as latin1 text")
    budget.text -= len(arguments[0])
    try:
        return arguments[0].encode("latin1")
    except UnicodeEncodeError:
        raise unfit("has bytes that are not written as latin1 text") from None


def _no_bytes(arguments: tuple, budget: Budget) -> bytes:
    if arguments:
        raise unfit("has bytes made from something")
    return b""


# torch -------------------------------------------------------------------------------------------


def _device(arguments: tuple, budget: Budget) -> Record:
    if not 1 <= len(arguments) <= 2 or type(arguments[0]) is not str:
        raise unfit("has a device that is not named")
    return Record("device")


def _size(arguments: tuple, budget: Budget) -> tuple:
    if len(arguments) != 1 or type(arguments[0]) is not tuple:
        raise unfit("has a size that is not a tuple")
    return arguments[0]


def _record_makers(*names: tuple[str, str]) -> dict[tuple[str, str], Any]:
    return {name: (lambda kind=name[1]: Record(kind)) for name in names}


NAMES = Vocabulary(
    calls={
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent_object,
        ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
        ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
        ("torch._utils", "_rebuild_parameter_with_state"): rebuild_parameter,
        ("torch.storage", "_load_from_bytes"): read_storage,
        ("torch", "device"): _device,
        ("torch", "Size"): _size,
        ("collections", "OrderedDict"): _empty_dict,
        ("builtins", "set"): _set_of,
        ("__builtin__", "set"): _set_of,
        ("builtins", "bytes"): _no_bytes,
        ("__builtin__", "bytes"): _no_bytes,
        ("_codecs", "encode"): _encoded,
        ("numpy", "dtype"): _numpy_dtype,
        **{(f"{core}.multiarray", "scalar"): _numpy_number for core in NUMPY_MODULES},
        **{(f"{core}.multiarray", "_reconstruct"): _empty_array for core in NUMPY_MODULES},
        **{(f"{core}.numeric", "_frombuffer"): _array_on_buffer for core in NUMPY_MODULES},
    },
    objects={
        ("dnnlib.util", "EasyDict"): dict,
        **_record_makers(
            ("training.triplane", "OSGDecoder"),
            ("training.volumetric_rendering.renderer", "ImportanceRenderer"),
            ("training.volumetric_rendering.ray_marcher", "MipRayMarcher2"),
            ("training.volumetric_rendering.ray_sampler", "RaySampler"),
            ("torch.nn.modules.container", "Sequential"),
            ("torch.nn.modules.activation", "Softplus"),
            ("argparse", "Namespace"),
        ),
    },
    constants=frozenset([("numpy", "ndarray"), *(("torch", name) for name in TORCH_FORMATS)]),
)

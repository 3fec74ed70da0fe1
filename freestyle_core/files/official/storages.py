"""Tensors inside official pickles: found and checked first, read from the file only when asked.

A storage is a byte string that holds a stream of torch's older file format: five small pickles
(magic number, version, machine, the storage's description, its key), then the number of elements
and the elements themselves.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Any, cast

import torch
from torch import Tensor

from .byte_reader import Blob, Budget, Source
from .pickles import Symbol, Vocabulary, read_pickle, unfit

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
MAX_DIMENSIONS = 8
DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
}
_PLAIN = Vocabulary()


@dataclass(frozen=True, eq=False)
class Storage:
    """Elements that lie in the file from byte `start` on."""

    dtype: torch.dtype
    count: int
    source: Source
    start: int


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor that fits inside its storage; `read` makes it real."""

    storage: Storage
    offset: int  # elements
    shape: tuple[int, ...]
    stride: tuple[int, ...]  # elements

    @property
    def nbytes(self) -> int:
        """Size of the tensor once read."""
        return math.prod(self.shape) * self.storage.dtype.itemsize

    def read(self) -> Tensor:
        """Return the tensor, contiguous, on the CPU; only the elements it spans are read."""
        storage = self.storage
        size = storage.dtype.itemsize
        elements = _span(self.shape, self.stride)
        data = torch.empty(elements * size, dtype=torch.uint8)
        if elements:
            storage.source.file.seek(storage.start + self.offset * size)
            file = cast(BufferedIOBase, storage.source.file)
            if file.readinto(data.numpy().data) != elements * size:
                raise storage.source.refuse("became shorter while it was read")
        return data.view(storage.dtype).as_strided(self.shape, self.stride).contiguous()


@dataclass(frozen=True)
class Described:
    """What a storage's persistent id says about it."""

    dtype: torch.dtype
    key: str
    count: int


def read_storage(arguments: tuple, budget: Budget) -> Storage:
    """Return the storage of one byte string, after comparing all it says with its length."""
    if len(arguments) != 1 or type(arguments[0]) is not Blob:
        raise unfit("has a storage that is not a byte string")
    source = arguments[0].inside()
    for expected in (MAGIC, VERSION):
        if read_pickle(source, _PLAIN, budget) != expected:
            raise source.refuse("has a storage in a format that torch does not write")
    machine = read_pickle(source, _PLAIN, budget)
    if type(machine) is not dict or machine.get("little_endian") is not True:
        raise source.refuse("has a storage that is not little-endian")
    said = read_pickle(source, _STORAGES, budget)
    keys = read_pickle(source, _PLAIN, budget)
    if type(said) is not Described or type(keys) is not list or len(keys) != 1:
        raise source.refuse("has a byte string that does not hold exactly one storage")
    if keys[0] != said.key:
        raise source.refuse("has a storage under another key than announced")
    (count,) = struct.unpack("<q", source.take(8))
    if count != said.count or source.left != count * said.dtype.itemsize:
        raise source.refuse(
            f"has a storage of {said.count} elements with {count} elements in {source.left} bytes"
        )
    return Storage(said.dtype, count, source, source.position)


def described(value: Any) -> Described:
    """Return what the persistent id ("storage", kind, key, device, count, None) says."""
    if type(value) is not tuple or not 5 <= len(value) <= 6 or value[0] != "storage":
        raise unfit("has a persistent id that is not a storage")
    _, kind, key, device, count, *view = value
    if type(kind) is not Symbol or type(key) is not str or type(device) is not str:
        raise unfit("has a storage whose kind, key or device is of the wrong type")
    if type(count) is not int or not 0 <= count < 2**48 or view not in ([], [None]):
        raise unfit("has a storage with an impossible number of elements")
    if kind.name not in STORAGE_NAMES:
        raise unfit("has a storage of an unknown kind")
    return Described(DTYPES[kind.name[1]], key, count)


# generators trained on a GPU may keep a stray tensor there
STORAGE_NAMES = frozenset((module, kind) for module in ("torch", "torch.cuda") for kind in DTYPES)
_STORAGES = Vocabulary(constants=STORAGE_NAMES, persistent=described)


def rebuild_tensor(arguments: tuple, budget: Budget) -> StoredTensor:
    """Return the tensor of (storage, offset, shape, stride, ...), which must fit its storage."""
    if not 6 <= len(arguments) <= 7 or type(arguments[0]) is not Storage:
        raise unfit("has a tensor without a storage")
    storage, offset, shape, stride = arguments[:4]
    if type(offset) is not int or not (_are_sizes(shape) and _are_sizes(stride)):
        raise unfit("has a tensor whose shape or stride is not a tuple of whole numbers")
    if len(shape) != len(stride) or offset < 0:
        raise unfit("has a tensor whose offset, shape and stride contradict each other")
    if math.prod(max(n, 1) for n in shape) >= 2**48:
        raise unfit("has a tensor with an impossible number of elements")
    if math.prod(shape) > storage.count or offset + _span(shape, stride) > storage.count:
        raise unfit(f"has a tensor that reaches outside its storage of {storage.count} elements")
    return StoredTensor(storage, offset, shape, stride)


def rebuild_parameter(arguments: tuple, budget: Budget) -> StoredTensor:
    """Return the tensor of (tensor, requires_grad, ...)."""
    if not 3 <= len(arguments) <= 4 or type(arguments[0]) is not StoredTensor:
        raise unfit("has a parameter that is not a tensor")
    return arguments[0]


def _are_sizes(values: Any) -> bool:
    return (
        type(values) is tuple
        and len(values) <= MAX_DIMENSIONS
        and all(type(value) is int and 0 <= value < 2**48 for value in values)
    )


def _span(shape: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """Return how many elements lie from the first to the last one used."""
    if 0 in shape:
        return 0
    return 1 + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))

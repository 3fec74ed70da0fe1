"""One safetensors file that holds a whole part: its weights, its config and where it came from.

The config travels as JSON under the single metadata key `freestyle3d` (one key, because safetensors
does not keep the order of several, and the same content must give the same bytes), and with it the
hash of all that the file holds, so that a flipped bit is found. Nothing in a file is ever executed.
Read `save_bundle` and `load_bundle` first; every other writer goes through `write_atomically`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import FileFormatError, FreeStyleError, WriteError, is_out_of_memory
from .leftovers import clear_leftovers, unfinished
from .values import check_values

METADATA_KEY = "freestyle3d"
VERSION = 1
_cleared: set[Path] = set()  # folders of killed processes' leftovers seen to, once a process


@dataclass(frozen=True)
class Bundle:
    """What a bundle file says. `state` is empty when only the header was read."""

    kind: str  # "eg3d", "i2t", "perceptual", "portrait", ...
    config: dict[str, Any]
    state: dict[str, Tensor]  # floating tensors as float32
    extra: dict[str, Any]
    sha256: str | None = None  # of the content; files of older versions have none


@contextmanager
def write_atomically(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; it replaces `path` only on success.

    What a killed process left there goes when this process first writes into the folder.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent not in _cleared:
            _cleared.add(path.parent)
            clear_leftovers(path.parent)
        with unfinished(path.parent) as temporary:
            yield temporary
            _flush_to_disk(temporary)
            os.replace(temporary, path)
    except FreeStyleError:
        raise
    except (OSError, SafetensorError) as error:
        raise WriteError(
            f"cannot write {path}: {_reason(error)}; free some space or choose another folder"
        ) from error


def save_bundle(
    path: Path | str,
    kind: str,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    extra: Mapping[str, Any] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write `state` and its description as one file; floating tensors are stored as `dtype`."""
    stored = {name: _to_storage(name, value, dtype) for name, value in state.items()}
    header = {
        "version": VERSION,
        "kind": kind,
        "config": dict(config),
        "extra": dict(extra or {}),
    }
    try:
        plain = json.loads(json.dumps(header, allow_nan=False))  # as it will be read
    except (TypeError, ValueError) as error:
        raise FileFormatError(f"the description of {kind} must be plain JSON: {error}") from None
    text = json.dumps({**plain, "sha256": _content_hash(plain, stored)}, sort_keys=True)
    with write_atomically(path) as temporary:
        # not save_file: it writes through a file of its own, which a killed process leaves behind
        # under a name nobody can trace, and which only its owner may read
        temporary.write_bytes(save(stored, metadata={METADATA_KEY: text}))


def load_bundle(path: Path | str, kind: str) -> Bundle:
    """Return the bundle at `path`, which must be of `kind`; floating tensors as float32.

    Raises FileFormatError for content that is not what was saved, and for values that no network
    can have.
    """
    path = Path(path)
    with _opened(path) as file:
        header = _read_header(path, file, kind)
        stored = {name: file.get_tensor(name) for name in file.keys()}
        if header.sha256 is not None and header.sha256 != _content_hash(_said(header), stored):
            raise FileFormatError(
                f"{path} is damaged: its content is not what was saved; copy or save it again"
            )
        state = {name: _to_memory(value) for name, value in stored.items()}
        check_values(path, state)
    return replace(header, state=state)


def load_header(path: Path | str, kind: str | None = None) -> Bundle:
    """Return the bundle at `path` without its tensors (`state` is empty); any kind when None."""
    path = Path(path)
    with _opened(path) as file:
        return _read_header(path, file, kind)


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """Return the sha256 of all names, shapes and values (as float32), whatever the order."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name}{list(value.shape)}".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise FileFormatError(f"{path} is not there; check the name and the folder")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except (OSError, SafetensorError, RuntimeError) as error:  # the last: torch opens it again
        if is_out_of_memory(error):
            raise
        raise FileFormatError(
            f"{path} is not a complete safetensors file ({_reason(error)}); copy or save it again"
        ) from error


def _read_header(path: Path, file: Any, kind: str | None) -> Bundle:
    text = (file.metadata() or {}).get(METADATA_KEY)
    if text is None:
        raise FileFormatError(
            f"{path} was written by another program: it has no {METADATA_KEY} description; "
            f"choose {kind or 'a'} file saved by this one"
        )
    try:
        header = json.loads(text)
        version, found = header["version"], header["kind"]
        config, extra, sha256 = header["config"], header["extra"], header.get("sha256")
        if not (isinstance(config, dict) and isinstance(extra, dict) and isinstance(found, str)):
            raise ValueError("wrong types")
        if not isinstance(sha256, str | None):
            raise ValueError("a hash that is no text")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FileFormatError(
            f"{path} has a damaged description ({_reason(error)}); save it again"
        ) from None
    if version != VERSION:
        raise FileFormatError(
            f"{path} has format version {version!r}, expected {VERSION}; update this program"
        )
    if kind is not None and found != kind:
        raise FileFormatError(f"{path} is of kind {found}, expected {kind}; choose another file")
    return Bundle(found, config, {}, extra, sha256)


def _said(header: Bundle) -> dict[str, Any]:
    """Return the description that the hash covers."""
    return {
        "version": VERSION,
        "kind": header.kind,
        "config": header.config,
        "extra": header.extra,
    }


def _content_hash(description: Mapping[str, Any], stored: Mapping[str, Tensor]) -> str:
    """Return the sha256 of a description and of all tensors, bit by bit as they are stored."""
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name in sorted(stored):
        value = stored[name]
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _to_storage(name: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    value = value.detach().to("cpu")
    if value.is_floating_point():
        finite = bool(torch.isfinite(value).all())
        value = value.to(dtype)
        if finite and not bool(torch.isfinite(value).all()):
            raise FileFormatError(
                f"{name} has values too large for {dtype}; save it as torch.float32"
            )
    return value.clone(memory_format=torch.contiguous_format)


def _to_memory(value: Tensor) -> Tensor:
    return value.to(torch.float32) if value.is_floating_point() else value


def _flush_to_disk(path: Path) -> None:
    # some file systems report a full disk only here
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error) or type(error).__name__).splitlines()[0]

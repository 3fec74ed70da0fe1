"""Which part of a file is the generator: what training, fine-tuning and inversion programs save.

That is a snapshot of training (a dict with G_ema), a bare generator, a dict that holds one, or the
tensors of one by name (a state dict) together with the arguments it was made with. `find_generator`
returns all of them in one form; what it cannot use it describes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import FileFormatError
from .pickles import Record, Symbol
from .storages import StoredTensor

GENERATOR = "TriPlaneGenerator"
# where a generator may lie in a dict, the averaged one first
PLACES = (
    "G_ema",
    "g_ema",
    "ema",
    "params_ema",
    "G",
    "g",
    "generator",
    "netG",
    "decoder",
    "model",
    "network",
    "state_dict",
    "model_state_dict",
)
MAX_NESTING = 3  # dicts around the generator
ARGUMENTS = ("_init_kwargs", "init_kwargs", "G_kwargs", "kwargs", "config", "args", "opts")
RESOLUTIONS = tuple(f"neural_rendering_resolution{end}" for end in ("", "_final", "_initial"))
BESIDE = "training_options.json"
LARGEST_JSON = 2**20  # bytes
MAX_DEPTH = 12  # of modules inside modules; official files have 5
MAX_TENSORS = 4096  # in one network; official files have 177
MAX_MODULES = 4096
MAX_SHOWN = 6  # entries of a file in an error
LAYERS = {  # attributes that this library's layers have built in
    ("SynthesisBlock", "architecture"): "skip",
    ("SynthesisLayer", "activation"): "lrelu",
    ("SynthesisLayer", "use_noise"): True,
}


@dataclass(frozen=True)
class Found:
    """A generator: its attributes as EG3D's class has them, and its tensors by official name."""

    state: Mapping[str, Any]
    tensors: dict[str, StoredTensor]


def find_generator(path: Path, snapshot: Any) -> Found:
    """Return the generator in `snapshot`, the records of the file at `path`."""
    outer: list[Mapping[str, Any]] = []
    value = snapshot
    while type(value) is dict and not _is_state(value) and len(outer) < MAX_NESTING:
        outer.append(value)
        value = next((value[k] for k in PLACES if value.get(k) is not None), None)
    if type(value) is Record and value.kind == GENERATOR:
        return Found(value.state, _NetworkWalk(path).tensors_of(value))
    if type(value) is dict and _is_state(value):
        return Found(_attributes(path, [value, *reversed(outer)]), _named(path, value))
    raise FileFormatError(
        f"{path} needs a {GENERATOR}, bare or named G_ema or G, or the state dict of one; it has "
        f"{_shown(snapshot if value is None else value)}; only generators of EG3D can be loaded"
    )


def _is_state(value: Mapping[Any, Any]) -> bool:
    return any(type(k) is str and _short(k).startswith("backbone.") for k in value)


def _short(name: str) -> str:
    return name.removeprefix("module.").removeprefix("generator.")


def _named(path: Path, state: Mapping[Any, Any]) -> dict[str, StoredTensor]:
    """Return the tensors of a state dict by their official names."""
    named = {}
    for name, value in state.items():
        if name in ("rendering_kwargs", *ARGUMENTS, *RESOLUTIONS):
            continue
        if type(name) is not str or not re.fullmatch(r"[\w.]{1,200}", name, re.ASCII):
            raise FileFormatError(f"{path} has a tensor with an unusable name")
        if type(value) is not StoredTensor:
            raise FileFormatError(
                f"{path} has {_shown(value)} where the tensor {name[:60]} belongs; save the "
                "state_dict() of the generator, as torch tensors"
            )
        named[_short(name)] = value
    if len(named) > MAX_TENSORS:
        raise FileFormatError(f"{path} has {len(named)} tensors, more than any generator")
    return named


# The arguments beside a state dict ---------------------------------------------------------------


def _attributes(path: Path, around: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a generator keeps of its making, from the dicts around its state dict.

    If they do not hold it, a JSON file of the same name, or that of the training, may.
    """
    places = [inner for place in (*around, *_beside(path)) for inner in _with_arguments(place)]
    kwargs = next((p for p in places if "z_dim" in p), None)
    rendering = next((r for p in places if type(r := p.get("rendering_kwargs")) is dict), None)
    resolution = next((p[k] for p in places for k in RESOLUTIONS if type(p.get(k)) is int), None)
    if kwargs is None or rendering is None or resolution is None:
        raise FileFormatError(
            f"{path} holds the weights of a generator without what it was made with; put "
            "init_kwargs (with rendering_kwargs) and neural_rendering_resolution beside them, in "
            f"the dict or in {path.stem}.json, or save the whole generator, as {{'G_ema': G}}"
        )
    return {
        "_init_kwargs": dict(kwargs),
        "rendering_kwargs": rendering,
        "neural_rendering_resolution": resolution,
        "_modules": {},
    }


def _with_arguments(place: Mapping[str, Any], depth: int = 2) -> Iterator[Mapping[str, Any]]:
    """Yield a dict and what it holds under the names for arguments, and these hold again."""
    yield place
    for name in ARGUMENTS if depth else ():
        inner = place.get(name)
        inner = inner.state if type(inner) is Record else inner
        if type(inner) is dict:
            yield from _with_arguments(inner, depth - 1)


def _beside(path: Path) -> Iterator[dict[str, Any]]:
    for name in (f"{path.stem}.json", BESIDE):
        beside = path.with_name(name)
        try:
            if beside.stat().st_size <= LARGEST_JSON:
                content = json.loads(beside.read_text(encoding="utf-8"))
                if type(content) is dict:
                    yield content
        except (OSError, ValueError, RecursionError):  # none there, or of another kind
            continue


def _shown(value: Any) -> str:
    """Return what a value of the file is, in a few words."""
    if type(value) is Record:
        return f"a {value.kind[:40]!a}"
    if type(value) is dict:
        names = [str(k)[:20] for k in list(value)[:MAX_SHOWN] if type(k) in (str, int)]
        return f"a dict of {', '.join(map(ascii, names))}" if names else "an empty dict"
    kinds = {StoredTensor: "a tensor", Symbol: "a name", type(None): "nothing"}
    return kinds.get(type(value), f"a {type(value).__name__}")


# The modules of a generator ----------------------------------------------------------------------


class _NetworkWalk:
    """Collects a network's tensors by name; bounded, for records may contain each other."""

    def __init__(self, path: Path) -> None:
        self.path, self.modules = path, 0
        self.tensors: dict[str, StoredTensor] = {}

    def tensors_of(self, record: Record) -> dict[str, StoredTensor]:
        """Return every parameter and persistent buffer of a network under its official name."""
        self._visit(record, "", 0)
        return self.tensors

    def _visit(self, record: Any, prefix: str, depth: int) -> None:
        self.modules += 1
        if type(record) is not Record or type(record.state) is not dict:
            raise self._broken(f"{prefix[:60]!a} is not a network")
        if depth > MAX_DEPTH or self.modules > MAX_MODULES or len(self.tensors) > MAX_TENSORS:
            raise self._broken("its networks are nested without end")
        for (kind, attribute), expected in LAYERS.items():
            if record.kind == kind and record.state.get(attribute, expected) != expected:
                raise self._broken(f"a {kind} with another {attribute} than {expected}")
        passing = record.state.get("_non_persistent_buffers_set", ())
        for group in ("_parameters", "_buffers"):
            for name, tensor in self._items(record, group):
                if tensor is None or (group == "_buffers" and name in passing):
                    continue
                if type(tensor) is not StoredTensor:
                    raise self._broken(f"{(prefix + name)[:60]!a} is not a tensor")
                self.tensors[prefix + name] = tensor
        for name, module in self._items(record, "_modules"):
            if module is not None:
                self._visit(module, f"{prefix}{name}.", depth + 1)

    def _items(self, record: Record, group: str) -> list[tuple[str, Any]]:
        values = record.state.get(group)
        if type(values) is not dict:
            raise self._broken(f"a network without {group}")
        for name in values:
            if type(name) is not str or not re.fullmatch(r"\w{1,64}", name, re.ASCII):
                raise self._broken(f"{group} has an unusable name")
        return list(values.items())

    def _broken(self, reason: str) -> FileFormatError:
        return FileFormatError(
            f"{self.path} does not hold a whole network: {reason}; copy or download it again, or "
            "take the network pickle that training wrote"
        )

"""The rules of a node's inputs, which hold wherever a value comes from.

ComfyUI checks kind, range and choice, and asks `validate_inputs`, for what is typed into a node;
what another node sends arrives there as None. `hold` makes a node check all of it once more when it
runs, and not only for the values ComfyUI looked at. Read `hold`, then `_typed`.
"""

import functools
import inspect
import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

from comfy_api.latest import io

from ..freestyle_core.errors import FreeStyleError, InputError
from ..freestyle_core.files.names import shortened
from ..freestyle_core.models.eg3d import EG3D
from ..freestyle_core.types import CameraBatch, Portrait, StylePack
from . import adapt
from .schema import (
    CamerasSocket,
    EditorSocket,
    EG3DSocket,
    I2TSocket,
    PortraitSocket,
    StyleSocket,
)

WIDGETS = (io.Combo.Input, io.String.Input, io.Boolean.Input, io.Int.Input, io.Float.Input)
LONGEST_TEXT = 10_000  # characters; an editor reads about 300

# socket -> its records, and where they come from; IMAGE is looked at in `adapt.images_in`
RECORDS: dict[str, tuple[type, str]] = {
    EG3DSocket.io_type: (EG3D, "Load EG3D"),
    I2TSocket.io_type: (adapt.LoadedI2T, "Load I2T"),
    PortraitSocket.io_type: (Portrait, "EG3D Sampler, I2T Finetune or Load Portrait"),
    CamerasSocket.io_type: (CameraBatch, "MultiView Camera Grid or Turntable Cameras"),
    StyleSocket.io_type: (StylePack, "Save Style"),
    io.Load3DCamera.io_type: (Mapping, "Create Camera Info or Preview 3D"),
}
# socket -> what its values can do, where many classes fit
ABLE = {
    EditorSocket.io_type: ("encode_text", "Load Ip2p Editor or Ip2p Editor from Model"),
    io.Model.io_type: ("model_options", "Load Checkpoint"),
    io.Clip.io_type: ("tokenize", "Load Checkpoint"),
    io.Vae.io_type: ("encode", "Load Checkpoint or Load VAE"),
}


def hold(node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """Have all rules of a node hold when it runs, and return the node.

    `validate_inputs` of a node sees None for what is not known yet, and returns True or a sentence.
    """
    execute, own = node.execute.__func__, node.__dict__.get("validate_inputs")

    @functools.wraps(execute)
    def checked(cls: Any, **values: Any) -> io.NodeOutput:
        return execute(cls, **_checked(cls, values, own))

    _bind(node, "execute", checked)
    if own is not None:
        rule = own.__func__

        @functools.wraps(rule)
        def validate(cls: Any, **values: Any) -> bool | str:
            # ComfyUI leaves range and choice of these inputs to us
            known = {name: value for name, value in values.items() if value is not None}
            answer = refusal(_types, cls, known)
            answer = rule(cls, **values) if answer is True else answer
            return refusal(_ranges, cls, known) if answer is True else answer

        vars(validate)["__signature__"] = inspect.signature(rule)  # ComfyUI reads it
        _bind(node, "validate_inputs", validate)
    return node


def _bind(node: type[io.ComfyNode], name: str, method: Any) -> None:
    setattr(node, name, classmethod(method))


def refusal(check: Callable[..., Any], *values: Any) -> bool | str:
    """Return what `validate_inputs` answers: True, or the sentence with which `check` refuses."""
    try:
        check(*values)
    except FreeStyleError as error:
        return str(error)
    return True


def _checked(cls: Any, values: Mapping[str, Any], own: Any) -> dict[str, Any]:
    """Return the values as a node takes them, or raise; an optional None is left out."""
    inputs = {one.id: one for one in cls.define_schema().inputs}
    given = {n: v for n, v in values.items() if v is not None or not inputs[n].optional}
    given = _types(cls, given)
    if own is not None:
        rule = own.__func__
        names = list(inspect.signature(rule).parameters)[1:]
        answer = rule(cls, **{name: given[name] for name in names if name in given})
        if answer is not True:
            raise InputError(str(answer))
    _ranges(cls, given)
    return given


def _types(cls: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values in their own types, or raise for one that its input does not take."""
    inputs = {one.id: one for one in cls.define_schema().inputs}
    return {name: _typed(inputs[name], value) for name, value in values.items()}


def _ranges(cls: Any, values: Mapping[str, Any]) -> None:
    """Raise for a number out of its range, and for what is none of the choices."""
    inputs = {one.id: one for one in cls.define_schema().inputs}
    for name, value in values.items():
        _check_range(inputs[name], value)


def _typed(given: io.Input, value: Any) -> Any:
    """Return the value as this input takes it."""
    name = given.id
    kind, source = RECORDS.get(given.get_io_type(), (object, ""))
    ours = kind is not object or isinstance(given, WIDGETS)
    if value is None and ours:
        raise InputError(f"{name} is empty: the node it comes from gave nothing; look at that one")
    if isinstance(given, (io.Combo.Input, io.String.Input)):
        return _text(name, value)
    if isinstance(given, io.Boolean.Input):
        if isinstance(value, numbers.Integral) and value in (0, 1):
            return bool(value)
        raise _wrong(name, value, "expected true or false")
    if isinstance(given, io.Int.Input):
        return _whole(name, value)
    if isinstance(given, io.Float.Input):
        return _number(name, value)
    if not isinstance(value, kind):
        raise _wrong(name, value, f"connect {source}")
    # a checkpoint without them is told so by the node itself
    may_lack = value is None and given.get_io_type() in (io.Clip.io_type, io.Vae.io_type)
    return value if may_lack else _able(given, value)


def _able(given: io.Input, value: Any) -> Any:
    ability, source = ABLE.get(given.get_io_type(), ("__class__", ""))
    # bytes and str can `encode` too
    if isinstance(value, (str, bytes)) and source or not hasattr(value, ability):
        raise _wrong(given.id, value, f"connect {source}")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(name, value, "expected text")
    if len(value) > LONGEST_TEXT:
        raise _wrong(name, value, f"{len(value)} characters are too many; use {LONGEST_TEXT}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise _wrong(name, value, "it has half a character in it; write it again") from None
    if "\0" in value:
        raise _wrong(name, value, "it has a character of value 0 in it; write it again")
    return value


def _whole(name: str, value: Any) -> int:
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise _wrong(name, value, "expected a whole number")


def _number(name: str, value: Any) -> float:
    try:
        number = float(value) if isinstance(value, numbers.Real) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _wrong(name, value, "expected a finite number")
    return number


def _check_range(given: io.Input, value: Any) -> None:
    if isinstance(given, io.Combo.Input) and value not in given.options:
        options = given.options
        more = f" and {len(options) - 6} more" if len(options) > 6 else ""
        raise _wrong(given.id, value, f"choose one of: {', '.join(options[:6])}{more}")
    least, most = getattr(given, "min", None), getattr(given, "max", None)
    if least is not None and value < least:
        raise _wrong(given.id, value, f"expected at least {least}")
    if most is not None and value > most:
        raise _wrong(given.id, value, f"expected at most {most}")


def _wrong(name: str, value: Any, advice: str) -> InputError:
    shown = shortened(value) if isinstance(value, (str, numbers.Real)) else type(value).__name__
    return InputError(f"{name} is {shown}: {advice}")

"""The sockets of this pack and the schema helper that keeps one source valid from ComfyUI 0.8 on.

A value on a FREESTYLE_... wire is a plain record of the library (or of `adapt.py`), never a tensor.
"""

import inspect
from typing import Any

from comfy_api.latest import io

from ..freestyle_core.method.mix import MIX_SPACES
from ..freestyle_core.presets import DEFAULT, MEASURED, PRESETS
from ..freestyle_core.seeds import MAX_SEED

CATEGORY = "FreeStyle 3D"
ALIASES = ["3d", "head", "face", "portrait", "freestyle"]  # what all nodes are about

EG3DSocket = io.Custom("FREESTYLE_EG3D")
I2TSocket = io.Custom("FREESTYLE_I2T")
EditorSocket = io.Custom("FREESTYLE_EDITOR")
PortraitSocket = io.Custom("FREESTYLE_PORTRAIT")
CamerasSocket = io.Custom("FREESTYLE_CAMERAS")
StyleSocket = io.Custom("FREESTYLE_STYLE")
LossSocket = io.Custom("LOSS_MAP")  # what ComfyUI's own "Plot Loss Graph" takes

DEFAULT_PRESET = next(name for name, preset in PRESETS.items() if preset is DEFAULT)
ADVANCED = {"advanced": True}  # as extra_dict: the `advanced` keyword is unknown to ComfyUI 0.8

# ComfyUI 0.8 knows only on and off, where on begins with a new seed for every run
_STAYS = getattr(getattr(io, "ControlAfterGenerate", None), "fixed", True)

_KNOWN_FIELDS = frozenset(inspect.signature(io.Schema).parameters)


def schema(node_id: str, **fields: Any) -> io.Schema:
    """Return the schema of one node, without the fields this version of ComfyUI does not know.

    One unknown keyword in one node would make ComfyUI drop the whole pack.
    """
    fields = {"category": CATEGORY, **fields}
    fields["search_aliases"] = [*fields.get("search_aliases", []), *ALIASES]
    return io.Schema(
        node_id=f"FreeStyle{node_id}",
        **{name: value for name, value in fields.items() if name in _KNOWN_FIELDS},
    )


def file_outputs(display_name: str, tooltip: str) -> list[io.Output]:
    """Return a GLB file output where ComfyUI has 3D files (0.12), no output before."""
    kind = getattr(io, "File3DGLB", None)
    return [] if kind is None else [kind.Output(display_name=display_name, tooltip=tooltip)]


def seed_input(tooltip: str) -> io.Input:
    """Return a seed widget; its tooltip says what the seed decides.

    It stays as it is from run to run, where ComfyUI lets a node ask for that: another seed is
    another head, or a whole new training.
    """
    return io.Int.Input(
        "seed", default=0, min=0, max=MAX_SEED, control_after_generate=_STAYS, tooltip=tooltip
    )


def space_input() -> io.Input:
    """Return the choice of what is mixed of two portraits."""
    return io.Combo.Input(
        "space",
        options=list(MIX_SPACES),
        default=MIX_SPACES[0],
        optional=True,
        tooltip="What is mixed. codes: what the I2T makes of each style, as in the paper; both "
        "portraits must have been learnt from the same starting network. planes: the heads "
        "themselves, for any two of one generator. auto: codes if both have them, else planes.",
        extra_dict=ADVANCED,
    )


def further_portrait(name: str, tooltip: str) -> io.Input:
    """Return an optional portrait beside the two that are mixed."""
    return PortraitSocket.Input(name, optional=True, tooltip=tooltip)


def head_height_input(default: float) -> io.Input:
    """Return the size of what leaves the graph as geometry."""
    return io.Float.Input(
        "head_height_m",
        display_name="head_height_m (0: model's units)",
        default=default,
        min=0.0,
        max=100.0,
        step=0.05,
        optional=True,
        tooltip="Metres from chin to crown of a head as the model frames it. 0 leaves the model's "
        "own units.",
        extra_dict=ADVANCED,
    )


def preset_input() -> io.Input:
    """Return the dropdown that sets what is not set by hand."""
    return io.Combo.Input(
        "preset",
        options=list(PRESETS),
        default=DEFAULT_PRESET,
        optional=True,
        tooltip=f"How much work is done where a number is left at 0. {MEASURED}",
    )

"""What a node shows while it runs: bar, live picture, one line of text; and that it can be stopped.

Read `NodeProgress`, then `told`.
"""

import functools
import logging
import time
from collections import deque
from typing import Any

import comfy.model_management as mm
import comfy.utils
import torch
from comfy_api.latest import io
from comfy_execution.utils import get_executing_context
from einops import rearrange
from PIL import Image
from server import PromptServer
from torch import Tensor

from ..freestyle_core.errors import FreeStyleError
from ..freestyle_core.progress import clock
from ..freestyle_core.time_left import TimeLeft
from ..freestyle_core.visualize.contact_sheet import square_sheet
from .words import tr

PREVIEW_SIZE = 512  # pixels, longest side of the live picture
QUIET_SECONDS = 0.25  # between two pictures, and between two lines of text
_log = logging.getLogger(__name__)


# of the nodes that run: how far each has come, for the line that stays when it is stopped; its
# newest line; and what a person should still read when it is done
_reached: dict[str, str] = {}
_newest: dict[str, str] = {}
_notes: dict[str, list[str]] = {}


class NodeProgress:
    """A `Progress` that drives one node: bar, live picture, time left, and cancel at every step.

    `doing` says what is counted where no phase is named, as in "training, step". With `sheet`, the
    newest so many pictures are shown side by side. Without `text` the line is left to the node's
    own script.
    """

    def __init__(self, node_id: str, doing: str, *, sheet: int = 1, text: bool = True) -> None:
        self._bar = comfy.utils.ProgressBar(1, node_id=node_id)
        self._node_id = node_id
        self._doing = doing
        self._text = text
        self._views: deque[Tensor] = deque(maxlen=sheet)
        self._loss: float | None = None
        self._phase: tuple[str, int, int] | None = None
        self._left = TimeLeft()
        self._start = time.monotonic()
        self._said = self._shown = 0.0
        self._named = ""  # the phase of the last line

    def __call__(self, done: float, total: int, preview: Tensor | None = None) -> None:
        now = time.monotonic()
        finished = done >= total
        self._left.note(done, total, now)
        name, count, whole = self._phase or (self._doing, int(done), total)
        if self._text:
            _reached[self._node_id] = f"{tr(name)} {count}/{whole}"
        mm.throw_exception_if_processing_interrupted()
        image = None
        if preview is not None:
            self._views.append(preview.detach().float().cpu())
            if now - self._shown >= QUIET_SECONDS or finished:
                image = ("JPEG", to_pil(square_sheet(self._views)), PREVIEW_SIZE)
                self._shown = now
        self._bar.update_absolute(done, total, image)
        due = now - self._said >= QUIET_SECONDS or finished or name != self._named
        if self._text and due:
            self._said, self._named = now, name
            say(self._node_id, self._line(f"{tr(name)} {count}/{whole}", finished, now))

    def phase(self, name: str, done: int, total: int) -> None:
        """Take note of what the next report is about."""
        self._phase = (name, done, total)
        self._left.enter(name)

    def on_loss(self, losses: dict[str, float]) -> None:
        """Show the total loss from the next report on."""
        self._loss = losses["total"]

    def _line(self, counted: str, finished: bool, now: float) -> str:
        parts = [counted]
        if self._loss is not None:
            parts.append(tr("loss {}", f"{self._loss:.3g}"))
        left = self._left.seconds(now)
        if finished:
            parts.append(tr("took {}", clock(now - self._start)))
        elif left is not None:
            parts.append(tr("{} left", clock(left)))
        else:
            parts.append(tr("{} so far", clock(now - self._start)))
        return ", ".join(parts)


def told(node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """Make a node show in its own text how it ended when it did not succeed.

    An error that a person can mend is one sentence: it stands in the node and in the log, without
    the way it took through the code (which the log has at level DEBUG). A cancel says how far it
    came. ComfyUI's frontend shows an error only behind "View details".
    """
    inner = node.execute.__func__

    @functools.wraps(inner)
    def execute(cls, *args, **inputs):
        context = get_executing_context()
        node_id: Any = None if context is None else context.node_id
        try:
            result = inner(cls, *args, **inputs)
            if node_id in _notes:
                say(node_id, "\n".join([*filter(None, [_newest.get(node_id)]), *_notes[node_id]]))
            return result
        except mm.InterruptProcessingException:
            at = _reached.get(node_id)
            _say_if(node_id, tr("stopped") if at is None else tr("stopped at {}", at))
            raise
        except FreeStyleError as error:
            _say_if(node_id, str(error))
            _log.debug("%s failed", node.__name__, exc_info=True)
            plain = PlainError(str(error))
        finally:
            for record in (_reached, _newest, _notes):
                record.pop(node_id, None)
        raise plain

    node.execute = classmethod(execute)
    return node


class PlainError(Exception):
    """A sentence for a person, named so that ComfyUI puts no module and no class before it."""


PlainError.__module__ = "builtins"  # ComfyUI shows the name alone then
PlainError.__qualname__ = PlainError.__name__ = "FreeStyle3D"


def _say_if(node_id: str | None, text: str) -> None:
    if node_id is not None:
        say(node_id, text)


def say(node_id: str, text: str) -> None:
    """Show one line of text inside a node."""
    _newest[node_id] = text
    PromptServer.instance.send_progress_text(text, node_id)


def note(node_id: str, text: str, *, level: int = logging.WARNING) -> None:
    """Show a line inside a node that stays when it is done, and write it to the log."""
    _log.log(level, "%s", text)
    say(node_id, text)
    _newest.pop(node_id, None)
    _notes.setdefault(node_id, []).append(text)


def to_pil(image: Tensor) -> Image.Image:  # [3,H,W], in [0,1]
    """Return an image as an 8-bit picture."""
    pixels = rearrange(image.detach().float().clamp(0, 1) * 255, "c h w -> h w c")
    return Image.fromarray(pixels.round().to(torch.uint8).cpu().numpy())

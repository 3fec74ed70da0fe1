"""What a node shows while it runs: bar, live picture, one line of text; and that it can be stopped.

Read `NodeProgress`.
"""

import time
from collections import deque

import comfy.model_management as mm
import comfy.utils
import torch
from einops import rearrange
from PIL import Image
from server import PromptServer
from torch import Tensor

from ..freestyle_core.cli.console import clock
from ..freestyle_core.progress import contact_sheet

PREVIEW_SIZE = 512  # pixels, longest side of the live picture
QUIET_SECONDS = 0.25  # between two pictures, and between two lines of text


class NodeProgress:
    """A `Progress` that drives one node: bar, live picture, time left, and cancel at every step.

    `doing` says what is counted, as in "training, step". With `sheet`, the newest so many pictures
    are shown side by side. Without `text` the line is left to the node's own script.
    """

    def __init__(self, node_id: str, doing: str, *, sheet: int = 1, text: bool = True) -> None:
        self._bar = comfy.utils.ProgressBar(1, node_id=node_id)
        self._node_id = node_id
        self._doing = doing
        self._text = text
        self._views: deque[Tensor] = deque(maxlen=sheet)
        self._loss: float | None = None
        self._first: int | None = None  # steps done before, when a run goes on
        self._start = time.monotonic()
        self._said = self._shown = 0.0

    def __call__(self, done: int, total: int, preview: Tensor | None = None) -> None:
        mm.throw_exception_if_processing_interrupted()
        now = time.monotonic()
        self._first = done if self._first is None else self._first
        image = None
        if preview is not None:
            self._views.append(preview.detach().float().cpu())
            if now - self._shown >= QUIET_SECONDS or done == total:
                image = ("JPEG", to_pil(contact_sheet(self._views)), PREVIEW_SIZE)
                self._shown = now
        self._bar.update_absolute(done, total, image)
        if self._text and (now - self._said >= QUIET_SECONDS or done == total):
            self._said = now
            say(self._node_id, self._line(done, total, now - self._start))

    def on_loss(self, losses: dict[str, float]) -> None:
        """Show the total loss from the next report on."""
        self._loss = losses["total"]

    def _line(self, done: int, total: int, elapsed: float) -> str:
        parts = [f"{self._doing} {done}/{total}"]
        if self._loss is not None:
            parts.append(f"loss {self._loss:.3g}")
        if done == total:
            parts.append(clock(elapsed))
        elif done > (self._first or 0):
            left = elapsed / (done - (self._first or 0)) * (total - done)
            parts.append(f"{clock(left)} left")
        return ", ".join(parts)


def say(node_id: str, text: str) -> None:
    """Show one line of text inside a node."""
    PromptServer.instance.send_progress_text(text, node_id)


def to_pil(image: Tensor) -> Image.Image:  # [3,H,W], in [0,1]
    """Return an image as an 8-bit picture."""
    pixels = rearrange(image.detach().float().clamp(0, 1) * 255, "c h w -> h w c")
    return Image.fromarray(pixels.round().to(torch.uint8).cpu().numpy())

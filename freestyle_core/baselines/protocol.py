"""What the rivals of the method have in common: the same models in, the same result out.

Every rival is a module of this room with one function:

    fit(reference, prompt, models, settings, progress) -> Fitted

`reference` is the front view [3,H,W] in [0,1]; its camera is the front camera, which is known. The
cameras, the renderer, the losses and the metrics are those of the method itself, so that a
difference in a score is one of the method. What a rival does otherwise than it was published stands
in its docstring and, for the settings of a run, in `Fitted.notes`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ShapeError
from ..method.fewshot import TOLERANCE
from ..method.render import render_views
from ..models.editor import ImageEditor
from ..models.eg3d import EG3D
from ..training.losses import Perceptual
from ..types import CameraBatch, Portrait, Rendering


@dataclass(frozen=True)
class BaselineModels:
    """The networks that a rival may use, all on one device."""

    eg3d: EG3D
    perceptual: Perceptual  # of pictures in [0,1]: VGG-LPIPS, or the embedded features
    editor: ImageEditor | None = None  # where a prompt is followed by editing the front view
    text_to_image: Any = None  # where it is followed by score distillation


@dataclass(frozen=True)
class Fitted:
    """What a rival made of a reference or a prompt."""

    render: Callable[[CameraBatch], Rendering]  # any number of views, without gradients
    portrait: Portrait | None = None  # None: it is no portrait of an EG3D
    reference: Tensor | None = None  # [3,H,W] in [0,1], what was fitted, if it was a picture
    losses: dict[str, list[float]] = field(default_factory=dict)  # by stage and name
    seconds: dict[str, float] = field(default_factory=dict)  # by stage
    notes: tuple[str, ...] = ()  # where the run was not as published


def fitted_portrait(portrait: Portrait, **rest: Any) -> Fitted:
    """Return the result that is rendered as any portrait is."""
    return Fitted(partial(render_views, portrait), portrait, **rest)


def checked_reference(image: Tensor, eg3d: EG3D) -> Tensor:
    """Return a picture [3,H,H] in [0,1] as [1,3,S,S], the size and place of the generator's own.

    Raises ShapeError for another shape, for values that are not finite and for another range.
    """
    if image.ndim != 3 or image.shape[0] != 3 or image.shape[1] != image.shape[2]:
        raise ShapeError(
            f"the reference must be one square picture [3,H,H], got {tuple(image.shape)}; crop it "
            "to the head"
        )
    if not bool(torch.isfinite(image).all()):
        raise ShapeError("the reference contains NaN or infinite values; make or load it again")
    low, high = float(image.min()), float(image.max())
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise ShapeError(
            f"the reference must lie in [0,1], got {low:.3g} to {high:.3g}; pictures of another "
            "range have to be brought to this one"
        )
    size = eg3d.config.image_resolution
    # in inference mode, in which ComfyUI runs nodes, nothing could be learned from it
    with torch.inference_mode(False):
        picture = image.detach().clone()[None].to(next(eg3d.parameters()))
        if picture.shape[-1] != size:
            picture = F.interpolate(picture, size=(size, size), mode="bicubic", antialias=True)
        return picture.clamp(0, 1)


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Add the time of a stage to `seconds`."""
    start = time.monotonic()
    try:
        yield
    finally:
        seconds[stage] = seconds.get(stage, 0.0) + time.monotonic() - start

"""One style turning into another, picture by picture: every camera sees its own mix."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from ..method.mix import mix_portraits
from ..method.render import DEFAULT_SETTINGS, RenderSettings, render_views
from ..progress import Progress, no_progress
from ..types import CameraBatch, Portrait


def sweep_amounts(frames: int, *, there_and_back: bool = True) -> list[float]:
    """Return the mixing amount of each frame, slow at both ends.

    From 0 to 1 and back, so that the frame after the last would be the first; or once from 0 to 1.
    """
    turns = frames if there_and_back else 2 * max(frames - 1, 1)
    return [(1 - math.cos(2 * math.pi * index / turns)) / 2 for index in range(frames)]


def render_sweep(
    a: Portrait,
    b: Portrait,
    cameras: CameraBatch,
    *,
    there_and_back: bool = True,
    settings: RenderSettings = DEFAULT_SETTINGS,
    progress: Progress = no_progress,
) -> Tensor:
    """Return one picture per camera, [V,3,H,W] in [0,1], while a turns into b."""
    pictures: list[Tensor] = []
    progress(0, len(cameras))
    for index, amount in enumerate(sweep_amounts(len(cameras), there_and_back=there_and_back)):
        between = mix_portraits(a, b, amount)
        inside = partial(_within, progress, index, len(cameras))  # a cancel is heard there, too
        rendered = render_views(between, cameras[index], settings=settings, progress=inside)
        pictures.append(rendered.image)
        progress(index + 1, len(cameras), pictures[-1][0])
    return torch.cat(pictures)


def _within(
    progress: Progress, before: int, total: int, done: float, of: int, _: Tensor | None = None
) -> None:
    if done < of:
        progress(before + done / of, total)

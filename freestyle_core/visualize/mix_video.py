"""What lies between two styles: a sheet of even steps, and one style turning into another.

Read `mixed_pictures`; in a sweep every camera sees its own mix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ..geometry.cameras import orbit_cameras
from ..method.mix import MixSpace, even_amounts, mix_frames
from ..method.render import DEFAULT_SETTINGS, RenderSettings, render_views
from ..progress import Portion, Progress, no_progress
from ..types import CameraBatch, Portrait
from .turntable import TurntableSettings

MIX_YAWS_DEG = (-25.0, 0.0, 25.0)


@dataclass(frozen=True)
class MixedSweep:
    """What lies between two styles."""

    sheet: Tensor  # [R,N,3,H,W], a row per yaw of MIX_YAWS_DEG, a column per step
    frames: Tensor  # [F,3,H,W], there and back while the head turns


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
    space: MixSpace = "auto",  # see `method.mix`
    settings: RenderSettings = DEFAULT_SETTINGS,
    progress: Progress = no_progress,
) -> Tensor:
    """Return one picture per camera, [V,3,H,W] in [0,1], while a turns into b."""
    pictures: list[Tensor] = []
    progress(0, len(cameras))
    amounts = sweep_amounts(len(cameras), there_and_back=there_and_back)
    for index, between in enumerate(mix_frames(a, b, amounts, space=space)):
        inside = partial(_within, progress, index, len(cameras))  # a cancel is heard there, too
        rendered = render_views(between, cameras[index], settings=settings, progress=inside)
        pictures.append(rendered.image)
        progress(index + 1, len(cameras), pictures[-1][0])
    return torch.cat(pictures)


def render_mix_sheet(
    a: Portrait,
    b: Portrait,
    steps: int,
    *,
    space: MixSpace = "auto",
    settings: RenderSettings = DEFAULT_SETTINGS,
    progress: Progress = no_progress,
) -> Tensor:
    """Return [R,N,3,H,W] in [0,1]: a row per yaw of MIX_YAWS_DEG, a column per step from a to b."""
    sides = orbit_cameras(MIX_YAWS_DEG, [0.0] * len(MIX_YAWS_DEG), a.renderer.config.rig())
    columns: list[Tensor] = []
    for between in mix_frames(a, b, even_amounts(steps), space=space):
        columns.append(render_views(between, sides, settings=settings).image)
        progress(len(columns), steps, columns[-1][1])
    return torch.stack(columns, dim=1)


def mixed_pictures(
    a: Portrait,
    b: Portrait,
    *,
    steps: int,  # columns of the sheet, both ends included
    frames: int,  # of the video, there and back
    turntable: TurntableSettings,
    space: MixSpace = "auto",
    settings: RenderSettings = DEFAULT_SETTINGS,
    progress: Progress = no_progress,
) -> MixedSweep:
    """Return the mixing sheet and the mixing video of two portraits of one generator."""
    cameras = replace(turntable, frames=frames).cameras(a.renderer.config.rig())
    share = steps / (steps + frames)
    sheet_part, video_part = Portion(progress, 0.0, share), Portion(progress, share, 1.0)
    sheet = render_mix_sheet(a, b, steps, space=space, settings=settings, progress=sheet_part)
    video = render_sweep(a, b, cameras, space=space, settings=settings, progress=video_part)
    return MixedSweep(sheet, video)


def _within(
    progress: Progress, before: int, total: int, done: float, of: int, _: Tensor | None = None
) -> None:
    if done < of:
        progress(before + done / of, total)

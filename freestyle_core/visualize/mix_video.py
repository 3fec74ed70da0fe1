"""What lies between styles: a sheet of even steps, and one style turning into another.

Read `mixed_pictures`; in a sweep every camera sees its own mix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..geometry.cameras import orbit_cameras
from ..method.areas import Area
from ..method.mix import MixSpace, even_amounts, many_frames
from ..method.render import DEFAULT_SETTINGS, RenderSettings, render_views
from ..progress import Portion, Progress, no_progress
from ..types import CameraBatch, Portrait
from .turntable import TurntableSettings

MIX_YAWS_DEG = (-25.0, 0.0, 25.0)


@dataclass(frozen=True)
class MixedSweep:
    """What lies between two styles, or between up to four, one after another."""

    sheet: Tensor  # [R,N,3,H,W], a row per yaw of MIX_YAWS_DEG, a column per step
    frames: Tensor  # [F,3,H,W], there and back while the head turns


def sweep_amounts(frames: int, *, there_and_back: bool = True) -> list[float]:
    """Return the mixing amount of each frame, slow at both ends.

    From 0 to 1 and back, so that the frame after the last would be the first; or once from 0 to 1.
    """
    turns = frames if there_and_back else 2 * max(frames - 1, 1)
    return [(1 - math.cos(2 * math.pi * index / turns)) / 2 for index in range(frames)]


def sweep_weights(frames: int, stops: int, *, there_and_back: bool = True) -> list[list[float]]:
    """Return the weights of `stops` portraits in each frame, slow at each of them.

    From the first through all to the last, and back to the first if wished; with two stops the
    second weight is what `sweep_amounts` says.
    """
    if stops == 2:
        return [[1 - t, t] for t in sweep_amounts(frames, there_and_back=there_and_back)]
    legs, last = (stops, frames) if there_and_back else (stops - 1, max(frames - 1, 1))
    places = (index * legs / last for index in range(frames))
    return [_between_stops(place, stops, eased=True) for place in places]


def even_weights(steps: int, stops: int) -> list[list[float]]:
    """Return the weights of `stops` portraits at even steps from the first to the last."""
    return [_between_stops(t * (stops - 1), stops, eased=False) for t in even_amounts(steps)]


def _between_stops(place: float, stops: int, *, eased: bool) -> list[float]:
    leg = int(place)
    share = place - leg
    if eased:
        share = (1 - math.cos(math.pi * share)) / 2
    weights = [0.0] * stops
    weights[leg % stops] = 1 - share
    weights[(leg + 1) % stops] += share
    return weights


def render_sweep(
    a: Portrait,
    b: Portrait,
    cameras: CameraBatch,
    *,
    others: Sequence[Portrait] = (),  # a third and a fourth, on the way after b
    there_and_back: bool = True,
    space: MixSpace = "auto",  # see `method.mix`
    area: Area | None = None,  # where it turns; None: everywhere
    settings: RenderSettings = DEFAULT_SETTINGS,
    progress: Progress = no_progress,
) -> Tensor:
    """Return one picture per camera, [V,3,H,W] in [0,1], while a turns into b, and the others."""
    portraits, pictures = [a, b, *others], list[Tensor]()
    progress(0, len(cameras))
    weights = sweep_weights(len(cameras), len(portraits), there_and_back=there_and_back)
    for index, between in enumerate(many_frames(portraits, weights, space=space, area=area)):
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
    others: Sequence[Portrait] = (),
    space: MixSpace = "auto",
    area: Area | None = None,
    settings: RenderSettings = DEFAULT_SETTINGS,
    progress: Progress = no_progress,
) -> Tensor:
    """Return [R,N,3,H,W] in [0,1]: a row per yaw of MIX_YAWS_DEG, a column per step from a on."""
    sides = orbit_cameras(MIX_YAWS_DEG, [0.0] * len(MIX_YAWS_DEG), a.renderer.config.rig())
    portraits, columns = [a, b, *others], list[Tensor]()
    weights = even_weights(steps, len(portraits))
    for between in many_frames(portraits, weights, space=space, area=area):
        columns.append(render_views(between, sides, settings=settings).image)
        progress(len(columns), steps, columns[-1][1])
    return torch.stack(columns, dim=1)


def mixed_pictures(
    a: Portrait,
    b: Portrait,
    *,
    others: Sequence[Portrait] = (),  # a third and a fourth, on the way after b
    steps: int,  # columns of the sheet, both ends included
    frames: int,  # of the video, there and back
    turntable: TurntableSettings,
    space: MixSpace = "auto",
    area: Area | None = None,  # where they are mixed; None: everywhere
    settings: RenderSettings = DEFAULT_SETTINGS,
    progress: Progress = no_progress,
) -> MixedSweep:
    """Return the mixing sheet and the mixing video of portraits of one generator."""
    cameras = replace(turntable, frames=frames).cameras(a.renderer.config.rig())
    share = steps / (steps + frames)
    sheet_part, video_part = Portion(progress, 0.0, share), Portion(progress, share, 1.0)
    how: dict[str, Any] = {"others": others, "space": space, "area": area, "settings": settings}
    sheet = render_mix_sheet(a, b, steps, progress=sheet_part, **how)
    return MixedSweep(sheet, render_sweep(a, b, cameras, progress=video_part, **how))


def _within(
    progress: Progress, before: int, total: int, done: float, of: int, _: Tensor | None = None
) -> None:
    if done < of:
        progress(before + done / of, total)

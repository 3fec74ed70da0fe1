"""A head restyled by a style pack, and all that is shown of it: no editor, no training.

What `pipeline.make_portrait` is for words, `restyle` is for a pack.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .geometry.cameras import orbit_cameras
from .method.mesh import extract_mesh
from .method.render import render_views
from .packs.apply import apply_style_pack
from .pipeline import PortraitSettings
from .progress import Stages
from .types import CameraBatch, Mesh, Portrait, StylePack

SHEET_YAWS_DEG = (0.0, -30.0, -15.0, 15.0, 30.0)  # of the contact sheet, the front first


@dataclass(frozen=True)
class RestyledRun:
    """Everything a run with a pack made; `cli/restyle.py` turns it into files."""

    pack: StylePack
    strength: float
    settings: PortraitSettings  # of which turntable, mesh and rendering are used
    original: Tensor  # [S,3,H,W], the head before, at the sheet's cameras
    sheet: Tensor  # [S,3,H,W], the restyled head
    turntable: Tensor  # [F,3,H,W]
    mesh: Mesh
    portrait: Portrait


def restyle(
    pack: StylePack,
    head: Portrait,  # of the pack's generator, on the same device
    settings: PortraitSettings,
    *,
    strength: float = 1.0,
    stages: Stages | None = None,
) -> RestyledRun:
    """Return a head in the style of a pack, and the pictures, video and mesh of it."""
    stages = stages or Stages()
    with stages.stage("restyle"):
        portrait = apply_style_pack(pack, head, strength)
    rig = portrait.renderer.config.rig()
    sheet = orbit_cameras(SHEET_YAWS_DEG, [0.0] * len(SHEET_YAWS_DEG), rig)
    with stages.stage("render") as progress:
        original = render_views(head, sheet, settings=settings.render).image
        both = CameraBatch.cat([sheet, settings.turntable.cameras(rig)])
        seen = render_views(portrait, both, settings=settings.render, progress=progress).image
    with stages.stage("mesh") as progress:
        mesh = extract_mesh(portrait, settings=settings.mesh, progress=progress)
    views, frames = seen[: len(sheet)], seen[len(sheet) :]
    return RestyledRun(pack, strength, settings, original, views, frames, mesh, portrait)

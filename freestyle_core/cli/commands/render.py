"""`render`: a saved portrait as a video or as one picture."""

from __future__ import annotations

import argparse

from ...errors import InputError
from ...files.media.image import save_image
from ...files.names import ending
from ...geometry.cameras import orbit_cameras
from ...method.render import render_views
from ...visualize.turntable import TurntableSettings
from ..console import numbered_stages, say
from ..pictures import enlarged, save_movie
from ..saved import opened_portrait


def run(args: argparse.Namespace) -> None:
    """Render a saved portrait as a video or as one picture."""
    kind = ending(args.out)
    if kind not in (".mp4", ".png"):
        raise InputError(f"--out must end in .mp4 or .png, got {args.out.name!r}")
    path, stages = turntable_settings(args), numbered_stages(1)
    with opened_portrait(args, args.file) as (saved, folder):
        rig = saved.renderer.config.rig()
        if kind == ".png":
            cameras = orbit_cameras([args.yaw or 0.0], [args.pitch or 0.0], rig)
        else:
            cameras = path.cameras(rig)
        with stages.stage("render") as progress:
            images = render_views(saved, cameras, progress=progress).image
        if kind == ".png":
            save_image(folder / args.out.name, enlarged(images[0]))
        else:
            save_movie(folder / args.out.name, images, path.fps)
    say(str(args.out))


def turntable_settings(args: argparse.Namespace) -> TurntableSettings:
    """Return the camera path of the render command."""
    angles = {"yaw_range_deg": args.yaw, "pitch_range_deg": args.pitch}
    given = {name: value for name, value in angles.items() if value is not None}
    return TurntableSettings(path=args.path, frames=args.frames, fps=args.fps, **given)

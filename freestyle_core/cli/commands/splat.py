"""`splat`: a saved portrait as Gaussian splats."""

from __future__ import annotations

import argparse

from ...files.media.splat import save_splats, splat_path
from ...method.splat import SplatSettings, extract_splats
from ..console import numbered_stages, say
from ..saved import opened_portrait


def run(args: argparse.Namespace) -> None:
    """Export a saved portrait as Gaussian splats."""
    splat_path(args.out)
    settings = SplatSettings(
        resolution=args.resolution,
        steps=args.steps,
        views=args.views,
        level=args.level,
        head_height_m=args.head_height,
    )
    stages = numbered_stages(1)
    with opened_portrait(args, args.file) as (saved, folder):
        with stages.stage("splats") as progress:
            splats = extract_splats(saved, settings=settings, progress=progress)
        save_splats(folder / args.out.name, splats, axes=args.axes)
    say(f"{args.out}: {len(splats)} splats")

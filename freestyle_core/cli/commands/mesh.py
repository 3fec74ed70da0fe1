"""`mesh`: a saved portrait as a mesh."""

from __future__ import annotations

import argparse

from ...files.media.mesh import mesh_format, save_mesh
from ...method.mesh import MeshSettings, extract_mesh
from ..console import numbered_stages, say
from ..saved import opened_portrait


def run(args: argparse.Namespace) -> None:
    """Export a saved portrait as a mesh."""
    mesh_format(args.out)
    settings = MeshSettings(
        resolution=args.resolution,
        level=args.level,
        largest_only=not args.all_parts,
        flat_base=not args.keep_base,
        cut_back=args.cut_back,
        watertight=args.watertight,
        max_faces=args.max_faces,
        head_height_m=args.head_height,
    )
    stages = numbered_stages(1)
    with opened_portrait(args, args.file) as (saved, folder):
        with stages.stage("mesh") as progress:
            surface = extract_mesh(saved, settings=settings, progress=progress)
        save_mesh(folder / args.out.name, surface)
    say(f"{args.out}: {len(surface.vertices)} vertices, {len(surface.faces)} faces")

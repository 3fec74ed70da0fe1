"""`mesh`: a saved portrait as a mesh."""

from __future__ import annotations

import argparse

from ...errors import InputError
from ...files.media.image import save_image
from ...files.media.mesh import CONFIDENCE, mesh_format, save_mesh
from ...method.confidence import with_confidence
from ...method.mesh import MeshSettings, extract_mesh, metres_per_unit
from ...progress import Progress
from ...types import CameraBatch, FewShotSet, Mesh, Portrait
from ...visualize.heat import heat_picture
from ..console import numbered_stages, say
from ..edited_views import beside, cameras_of, read_edited
from ..saved import opened_portrait

HEAT = "_confidence.png"  # behind the name of the mesh


def run(args: argparse.Namespace) -> None:
    """Export a saved portrait as a mesh."""
    if mesh_format(args.out) not in CONFIDENCE and args.confidence:
        raise InputError(f"{args.out.name} can hold no confidence; give a .glb or .ply")
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
    stages = numbered_stages(2 if args.confidence else 1)
    note = ""
    with opened_portrait(args, args.file) as (saved, folder):
        with stages.stage("mesh") as progress:
            surface = extract_mesh(saved, settings=settings, progress=progress)
        if args.confidence:
            with stages.stage("confidence") as progress:
                surface, note = _trusted(args, saved, surface, progress)
            rig = saved.renderer.config.rig()
            scale = metres_per_unit(rig, args.head_height) if args.head_height else 1.0
            picture = heat_picture(surface, rig, scale=scale)
            save_image(folder / f"{args.out.stem}{HEAT}", picture)
        save_mesh(folder / args.out.name, surface)
    say(f"{args.out}: {len(surface.vertices)} vertices, {len(surface.faces)} faces{note}")


def _trusted(
    args: argparse.Namespace, saved: Portrait, surface: Mesh, progress: Progress
) -> tuple[Mesh, str]:
    """Return the mesh with its confidence, and what that was made of."""
    place = args.edited or beside(args.file)
    views: FewShotSet | CameraBatch
    if place is None:
        views = cameras_of(args.file, saved)
        note = "who saw what alone: no edited.png lies beside the portrait"
    else:
        views = read_edited(place, args.file, saved, "")
        note = f"the edited views in {place}"
    made = with_confidence(surface, saved, views, head_height_m=args.head_height, progress=progress)
    assert made.confidence is not None
    return made, f"; confidence {float(made.confidence.mean()):.2f} in the mean, by {note}"

"""The options of what is done with a saved portrait: `render`, `mix`, `mesh`, `splat`."""

from __future__ import annotations

import argparse
from pathlib import Path

from .shared import add_angles, add_device, add_model, add_out, add_video


def add_render(commands: argparse._SubParsersAction) -> None:
    """Add `render`."""
    p = commands.add_parser(
        "render",
        help="render a saved portrait along a camera path, or from one side",
        description="Render a saved portrait as a video (.mp4), or one view of it (.png).",
    )
    p.add_argument("file", type=Path, help="a portrait.safetensors")
    add_video(p)
    add_angles(
        p,
        "video: largest angle to the side (default 30); picture: the angle (0)",
        "video: largest angle up and down (default 10); picture: the angle (0)",
    )
    add_out(p, "render.mp4", "file to write, .mp4 or .png (default render.mp4)")
    add_device(p)
    add_model(p, "eg3d")


def add_mix(commands: argparse._SubParsersAction) -> None:
    """Add `mix`."""
    p = commands.add_parser(
        "mix",
        help="mix the styles of saved portraits, everywhere or in a region",
        description="Mix two to four saved portraits: mix.png, mix.mp4, and with --amount, "
        "--weights, --mask or --region the mixed portrait itself.",
    )
    p.add_argument("a", type=Path, help="the first portrait.safetensors")
    p.add_argument("b", type=Path, help="the second portrait.safetensors")
    p.add_argument(
        "others", type=Path, nargs="*", metavar="more", help="a third and a fourth, with --weights"
    )
    p.add_argument(
        "--mix",
        type=int,
        default=5,
        metavar="N",
        help="columns of the mixing sheet, both ends included (default 5)",
    )
    p.add_argument(
        "--amount",
        type=float,
        help="also save the portrait at this amount, 0 the first to 1 the second",
    )
    p.add_argument(
        "--weights",
        type=float,
        nargs="+",
        metavar="W",
        help="also save the portrait of these weights, one for each portrait, 1 together",
    )
    p.add_argument(
        "--mask",
        type=Path,
        metavar="FILE",
        help="mix only where this picture is white: a mask painted on the front view (front.png)",
    )
    p.add_argument(
        "--region",
        choices=("hair", "face", "clothes"),
        help="mix only there; with --mask, only where both are",
    )
    p.add_argument(
        "--through",
        action="store_true",
        help="with --mask: through to the back of the head, instead of what the front view shows",
    )
    p.add_argument(
        "--space",
        choices=("auto", "codes", "planes"),
        default="auto",
        help="what is mixed: codes of the I2T, or planes (default auto: codes if all have them)",
    )
    add_out(p, "freestyle_mix", "folder for the results (default freestyle_mix)")
    add_device(p)
    add_model(p, "eg3d")


def add_mesh(commands: argparse._SubParsersAction) -> None:
    """Add `mesh`."""
    p = commands.add_parser(
        "mesh",
        help="export a saved portrait as a coloured mesh",
        description="Export a saved portrait as a mesh: .glb, .ply or .obj with vertex colours in "
        "metres, or .stl for printing in millimetres.",
    )
    p.add_argument("file", type=Path, help="a portrait.safetensors")
    p.add_argument(
        "--resolution",
        type=int,
        default=192,
        help="grid points along each side, 8 to 1024; more is finer (default 192)",
    )
    p.add_argument(
        "--level",
        type=float,
        default=10.0,
        help="density at the surface; lower is fuller (default 10)",
    )
    p.add_argument(
        "--cut-back",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of the depth to cut off the back, 0 to 0.9 (default 0)",
    )
    p.add_argument(
        "--max-faces",
        type=int,
        default=0,
        metavar="N",
        help="simplify to about N triangles (default: keep all)",
    )
    p.add_argument(
        "--watertight", action="store_true", help="for printing: fill hollows, one closed surface"
    )
    p.add_argument(
        "--head-height",
        type=float,
        default=0.25,
        metavar="METRES",
        help="from chin to crown, 0 for the model's units (default 0.25)",
    )
    p.add_argument(
        "--keep-base",
        action="store_true",
        help="do not end the bust below the shoulders in a flat face",
    )
    p.add_argument("--all-parts", action="store_true", help="keep loose parts too")
    p.add_argument(
        "--confidence",
        action="store_true",
        help="say of every vertex how far to trust it: an attribute of .glb and .ply, and a heat "
        "picture, NAME_confidence.png",
    )
    p.add_argument(
        "--edited",
        type=Path,
        metavar="PATH",
        help="with --confidence, the edited views: the folder of a run, its edited.png, or a "
        "folder of pictures (default: edited.png beside the portrait)",
    )
    add_out(p, "mesh.glb", "file to write: .glb, .ply, .obj or .stl (default mesh.glb)")
    add_device(p)
    add_model(p, "eg3d")


def add_splat(commands: argparse._SubParsersAction) -> None:
    """Add `splat`."""
    p = commands.add_parser(
        "splat",
        help="export a saved portrait as Gaussian splats",
        description="Export a saved portrait as Gaussian splats, a .ply in the usual layout of 3D "
        "Gaussian Splatting: sampled from its density, then fitted to its own pictures.",
    )
    p.add_argument("file", type=Path, help="a portrait.safetensors")
    p.add_argument(
        "--resolution",
        type=int,
        default=144,
        help="lattice points along each side, 16 to 512; about a splat for each on the surface "
        "(default 144)",
    )
    p.add_argument(
        "--steps",
        type=int,
        default=150,
        metavar="N",
        help="of fitting to the portrait's pictures, 0 for none (default 150)",
    )
    p.add_argument(
        "--views", type=int, default=48, metavar="N", help="pictures to fit to (default 48)"
    )
    p.add_argument(
        "--level",
        type=float,
        default=0.0,
        help="density where the surface is sampled; 0: where it is seen (default 0)",
    )
    p.add_argument(
        "--head-height",
        type=float,
        default=0.25,
        metavar="METRES",
        help="from chin to crown, 0 for the model's units (default 0.25)",
    )
    p.add_argument(
        "--axes",
        choices=("mesh", "3dgs"),
        default="mesh",
        help="mesh: y up, as the meshes; 3dgs: y down, as most viewers of splats show them "
        "upright (default mesh)",
    )
    add_out(p, "splat.ply", "file to write, .ply (default splat.ply)")
    add_device(p)
    add_model(p, "eg3d")

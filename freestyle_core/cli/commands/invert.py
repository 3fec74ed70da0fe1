"""`invert`: a picture of a head becomes a portrait file."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...baselines.inversion import invert, invert_settings
from ...baselines.protocol import checked_reference
from ...errors import InputError
from ...files.media.image import load_image, save_image
from ...files.names import ending
from ...files.networks import embedded, load_eg3d
from ...files.perceptual import AUTO, load_distance
from ...files.portrait import save_portrait
from ...files.staging import staged
from ...geometry.cameras import orbit_cameras
from ...method.render import render_views
from ...metrics.image import psnr
from ...types import CameraBatch, Portrait
from ...visualize.contact_sheet import contact_sheet
from ..console import numbered_stages, say
from ..devices import chosen_device

SIDE_YAWS_DEG = (-30.0, 0.0, 30.0)  # of the comparison


def run(args: argparse.Namespace) -> None:
    """Make a portrait of a picture and write it, and the comparison where it is asked for."""
    wanted = [(args.out, ".safetensors"), (args.picture, ".png")]
    for path, kind in wanted:
        if path is not None and (ending(path) != kind or path.is_dir()):
            raise InputError(f"the file must end in {kind}, got {path.name!r}")
    image, device = load_image(args.image), chosen_device(args.device)
    eg3d = load_eg3d(args.eg3d or embedded("eg3d")).to(device)
    checked_reference(image, eg3d)  # before the minutes of work
    size = eg3d.config.image_resolution
    distance = load_distance(args.perceptual or AUTO, image_resolution=size).to(device)
    camera = orbit_cameras([args.yaw], [args.pitch], eg3d.config.rig())
    settings = invert_settings(eg3d, seed=args.seed)
    settings = replace(
        settings,
        latent=_changed(settings.latent, steps=args.search_steps),
        tune=_changed(settings.tune, steps=args.tune_steps),
    )
    stages = numbered_stages(1)
    with ExitStack() as stack:
        folders = {
            path: stack.enter_context(staged(path.parent)) for path, _ in wanted if path is not None
        }
        with stages.stage("invert") as progress:
            portrait = invert(
                image,
                camera,
                eg3d=eg3d,
                perceptual=distance,
                settings=settings,
                progress=progress,
            )
        target = checked_reference(image, eg3d)
        seen = render_views(portrait, camera).image
        save_portrait(folders[args.out] / args.out.name, portrait)
        if args.picture is not None:
            sheet = comparison(portrait, target, seen, camera)
            save_image(folders[args.picture] / args.picture.name, sheet)
    say(f"the portrait shows the picture at {float(psnr(seen, target)):.1f} dB")
    for path in folders:
        say(str(path))


def comparison(
    portrait: Portrait,
    picture: Tensor,  # [1,3,S,S]
    seen: Tensor,  # [1,3,S,S], the portrait at the picture's camera
    camera: CameraBatch,
) -> Tensor:
    """Return the sheet [3,H,W]: the picture, the portrait in its place, and from three sides."""
    rig = portrait.renderer.config.rig()
    sides = orbit_cameras(SIDE_YAWS_DEG, [0.0] * len(SIDE_YAWS_DEG), rig)
    views = torch.cat([picture, seen, render_views(portrait, sides).image])
    labels = ["picture", "portrait", *(f"{yaw:+.0f}" for yaw in SIDE_YAWS_DEG)]
    return contact_sheet([("", views)], columns=labels)


def _changed(settings: Any, **given: Any) -> Any:
    """Return settings with those values that are given."""
    return replace(settings, **{k: v for k, v in given.items() if v is not None})

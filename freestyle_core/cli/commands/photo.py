"""`photo`: a photograph becomes a stylised portrait."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from ...baselines.from_photo import own_i2t, portrait_of_photo
from ...errors import InputError
from ...files.media.image import save_image
from ...files.media.photo import load_photo
from ...files.networks import (
    eg3d_config,
    embedded,
    framing_for,
    load_detector,
    load_face_mesh,
    load_i2t,
)
from ...files.portrait import save_portrait
from ...models.i2t import FRESH, I2T
from ...photo.align import Aligned, align_photo, face_of_points
from ...photo.marks import read_points
from ...pipeline import Models
from ...progress import Stages
from ...types import Portrait
from ...visualize.photo_overlay import photo_overlay
from ..console import say
from .portrait import NO_I2T, Beginning, make_run

ALIGNED, OVERLAY, PLAIN = "aligned.png", "overlay.png", "photo.safetensors"


def run(args: argparse.Namespace) -> None:
    """Align the photograph, make its portrait, and restyle that."""
    photo = load_photo(args.photo)
    aligned = aligned_face(args, photo)
    say(aligned.report())
    front = tuple(aligned.camera.cam_to_world[0].flatten().tolist())

    def make(models: Models, stages: Stages, folder: Path) -> Portrait:
        with stages.stage("a portrait of the photo") as progress:
            device = next(models.eg3d.parameters()).device
            portrait = portrait_of_photo(
                aligned.image.to(device),
                aligned.camera.to(device),
                eg3d=models.eg3d,
                i2t=i2t_of(args, models),
                perceptual=models.perceptual,
                way=args.by,
                seed=args.seed,
                progress=progress,
            )
        save_image(folder / ALIGNED, aligned.image)
        save_image(folder / OVERLAY, photo_overlay(photo, aligned))
        save_portrait(folder / PLAIN, portrait)
        return portrait

    record = {"pose": asdict(aligned.pose), "face": aligned.index, "crop": list(aligned.crop)}
    make_run(args, Beginning(args.photo, make, stages=1, front=front, record=record))


def aligned_face(args: argparse.Namespace, photo: Tensor) -> Aligned:
    """Return the face that was asked for, as the generator has its heads."""
    config = eg3d_config(args.eg3d or embedded("eg3d"))
    faces = None
    if args.points is not None:
        faces = [face_of_points(read_points(args.points, photo.shape[-2:]))]
        if args.face:
            raise InputError("--points mark the face to take; leave out --face")
    return align_photo(
        photo,
        config,
        detector=load_detector() if faces is None else None,
        mesh=load_face_mesh(),
        framing=framing_for(config),
        faces=faces,
        index=args.face,
    )


def i2t_of(args: argparse.Namespace, models: Models) -> I2T | None:
    """Return the I2T that makes planes of the photograph, None where this EG3D has none."""
    if models.i2t is not None and str(args.i2t) != FRESH:
        return models.i2t
    if args.i2t is not None:  # none, or one that was never trained
        return None if str(args.i2t) in (NO_I2T, FRESH) else load_i2t(args.i2t, eg3d=models.eg3d)
    return own_i2t(models.eg3d)

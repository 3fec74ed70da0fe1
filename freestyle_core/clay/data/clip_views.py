"""Pictures for the clay CLIP: heads plain and restyled, each with everything that is true of it.

    clip_*.pt   image [3,96,96] bytes, style (-1: the plain head), asked (indices of the attributes
                it was drawn with, -1: none), shows (which of all attributes it shows, asked or by
                nature), head (its number), made (DRAWN, RENDERED by the clay EG3D, or SOFTENED by
                the editor's VAE, as every edited view is)

Like the shards of `shards.py`: each is made from its own seed, and one that exists is kept.
"""

import logging
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...method.render import render_views
from ...models.eg3d import EG3D
from ...types import CameraBatch, Portrait, Triplane
from ..draw import Head, draw, plain_head, styled_head
from ..heads.head import LATENT, PARAMETERS
from ..styles.attributes import ATTRIBUTES, Attribute, takes, with_attributes
from ..styles.catalogue import STYLES, jitter_style
from ..styles.style import PLAIN, Style
from .shards import RESOLUTION, attribute_indices, cameras_at, draw_edit, to_bytes, write_shard

log = logging.getLogger(__name__)

CLIP_PIXELS = 96  # of the stored pictures, and what the image tower sees
CLIP_SHARD = 20  # heads per file
EDITS, VIEWS, RENDERS = 4, 3, 2  # of one head: edits, views of each and of the plain head
YAW, PITCH = 35.0, 30.0  # degrees, either side
NEAR_COLOR = 0.25  # length of a difference in RGB
NEAR_SHAPE = 0.5  # of the way from the middle of a parameter's range to the attribute's value
CLIP_SEED = 300_000
DRAWN, RENDERED, SOFTENED = range(3)

Rows = dict[str, list[Tensor]]


def views_shard(
    index: int,
    eg3d: EG3D,
    vae: Any,  # diffusers AutoencoderKL, of the clay editor
    *,
    heads: int = CLIP_SHARD,
) -> dict[str, Tensor]:
    """Return one shard: pictures with their style, attributes and head, [N, ...] each."""
    generator = torch.Generator().manual_seed(CLIP_SEED + index)
    rows: Rows = {}
    for h in range(heads):
        z = torch.randn(LATENT, generator=generator)
        number = index * heads + h
        head, cameras = plain_head(z), _cameras(VIEWS, generator)
        drawn = draw(head, cameras, CLIP_PIXELS)[0]
        _append(rows, drawn, PLAIN, [], head, number, DRAWN)
        rendered = _render(eg3d, z, _cameras(RENDERS, generator))
        _append(rows, rendered, PLAIN, [], head, number, RENDERED)
        for _ in range(EDITS):
            style, asked = draw_edit(generator)
            head = styled_head(z, with_attributes(jitter_style(style, generator), asked))
            drawn = draw(head, _cameras(VIEWS, generator), CLIP_PIXELS)[0]
            _append(rows, drawn, style, asked, head, number, DRAWN)
            _append(rows, _softened(drawn[:1], vae), style, asked, head, number, SOFTENED)
    return {name: torch.cat(values) for name, values in rows.items()}


def shown_attributes(head: Head, style: Style, asked: list[str]) -> Tensor:
    """Return which of ATTRIBUTES are true of a head [A]: those asked for, and those by nature."""
    known = [
        name in asked or (attribute.kind <= takes(style) and _is_near(head, attribute))
        for name, attribute in ATTRIBUTES.items()
    ]
    return torch.tensor(known)


def make_clip_views(folder: Path, shards: range, eg3d: EG3D, vae: Any) -> None:
    """Write the shards that are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in shards:
        path = folder / f"clip_{index:04d}.pt"
        if not path.exists():
            start = time.perf_counter()
            write_shard(path, views_shard(index, eg3d, vae))
            log.info("%s in %.1f s", path.name, time.perf_counter() - start)


def _is_near(head: Head, attribute: Attribute) -> bool:
    if attribute.field is not None:
        return False  # horns: no head has them by nature
    colors = dict(attribute.palette)
    parameters = dict(attribute.parameters)
    if attribute.beard is not None:
        colors["hair"] = attribute.beard
    for name, value in parameters.items():
        middle = sum(PARAMETERS[name]) / 2
        if (head.parameters[name] - middle) / (value - middle) < NEAR_SHAPE:
            return False
    return all(
        float((head.colors[name] - torch.tensor(color)).norm()) < NEAR_COLOR
        for name, color in colors.items()
    )


def _cameras(count: int, generator: torch.Generator) -> CameraBatch:
    spread = torch.tensor([YAW, PITCH])
    return cameras_at((torch.rand(count, 2, generator=generator) * 2 - 1) * spread)


@torch.no_grad()
def _render(eg3d: EG3D, z: Tensor, cameras: CameraBatch) -> Tensor:
    ws = eg3d.map(z[None], z.new_zeros(1, eg3d.config.c_dim))
    portrait = Portrait(eg3d.renderer(), Triplane(eg3d.planes(ws), eg3d.config.box_size), ws)
    return _resized(render_views(portrait, cameras).image, CLIP_PIXELS)


@torch.no_grad()
def _softened(images: Tensor, vae: Any) -> Tensor:
    latents = vae.encode(_resized(images, RESOLUTION) * 2 - 1).latent_dist.mode()
    return _resized(vae.decode(latents).sample / 2 + 0.5, CLIP_PIXELS)


def _resized(images: Tensor, pixels: int) -> Tensor:
    resized = F.interpolate(images, pixels, mode="bicubic", antialias=True, align_corners=False)
    return resized.clamp(0, 1)


def _append(
    rows: Rows, images: Tensor, style: Style, asked: list[str], head: Head, number: int, made: int
) -> None:
    count = len(images)
    values = {
        "image": to_bytes(images),
        "style": torch.full((count,), -1 if style is PLAIN else list(STYLES).index(style.name)),
        "asked": attribute_indices(asked).expand(count, -1),
        "shows": shown_attributes(head, style, asked).expand(count, -1),
        "head": torch.full((count,), number),
        "made": torch.full((count,), made),
    }
    for name, value in values.items():
        rows.setdefault(name, []).append(value)

"""Write the data sets the clay models learn from, as shards that are each made from their own seed.

    heads_*.pt   identities seen from VIEWS cameras: z, view, image, alpha, depth, and points of the
                 box with their true distance to the surface, so that solid and empty are known
                 everywhere and not only where a camera looks
    renders_*.pt the same heads as the trained clay EG3D draws them
    pairs_*.pt   the same heads restyled: source and target image at one camera, style index (-1:
                 none), indices of attributes (-1: none)

A shard that exists is never made again, so an interrupted run goes on where it stopped.
"""

import logging
import os
import time
from pathlib import Path

import torch
from torch import Tensor

from ...errors import InputError
from ...geometry.cameras import orbit_cameras
from ...method.render import render_views
from ...models.eg3d import EG3D
from ...types import CameraBatch, CameraRig, Portrait, Triplane
from ..draw import draw, plain_head, styled_head
from ..heads.head import LATENT
from ..styles.attributes import ATTRIBUTES, MOST_AT_ONCE, draw_attributes, with_attributes
from ..styles.catalogue import STYLES, jitter_style
from ..styles.style import PLAIN, Style

log = logging.getLogger(__name__)

RIG = CameraRig(radius=2.7, pivot=(0.0, 0.0, 0.0), focal=4.2647)
RESOLUTION = 128
SHARD = 50  # heads per file
FRONT_VIEWS, ORBIT_VIEWS = 4, 1
VIEWS = FRONT_VIEWS + ORBIT_VIEWS
YAW_RANGE, PITCH_RANGE = 42.0, 34.0  # degrees, either side, of the front views
BOX_POINTS = 4096
STYLES_PER_HEAD, VIEWS_PER_STYLE = 3, 2
PLAIN_SHARE = 0.08  # edits by attributes alone
ATTRIBUTE_SHARE, TWO_SHARE = 0.35, 0.4  # styles with attributes, and of these with two
HEADS_SEED, PAIRS_SEED = 100_000, 200_000


def cameras_at(view: Tensor) -> CameraBatch:
    """Return the cameras at view [V,2], yaw and pitch in degrees."""
    return orbit_cameras(view[:, 0], view[:, 1], RIG)


def random_views(count: int, generator: torch.Generator) -> Tensor:
    """Return `count` views [V,2] uniform in the front range, degrees."""
    spread = torch.tensor([YAW_RANGE, PITCH_RANGE])
    return (torch.rand(count, 2, generator=generator) * 2 - 1) * spread


def _head_views(generator: torch.Generator) -> Tensor:
    around = torch.rand(ORBIT_VIEWS, 2, generator=generator) * 2 - 1
    return torch.cat(
        [random_views(FRONT_VIEWS, generator), around * torch.tensor([180.0, PITCH_RANGE])]
    )


def to_bytes(image: Tensor) -> Tensor:
    return (image * 255 + 0.5).byte()


def heads_shard(
    index: int, *, heads: int = SHARD, resolution: int = RESOLUTION
) -> dict[str, Tensor]:
    """Return one shard of plain heads, seen by VIEWS cameras each."""
    generator = torch.Generator().manual_seed(HEADS_SEED + index)
    rows: dict[str, list[Tensor]] = {}
    for _ in range(heads):
        z = torch.randn(LATENT, generator=generator)
        view = _head_views(generator)
        points = torch.rand(BOX_POINTS, 3, generator=generator) - 0.5
        head = plain_head(z)
        image, alpha, depth = draw(head, cameras_at(view), resolution)
        with torch.no_grad():
            distance = head.distance(points)
        row = {
            "z": z,
            "view": view,
            "image": to_bytes(image),
            "alpha": to_bytes(alpha),
            "depth": depth.half(),
            "points": points.half(),
            "distance": distance.half(),
        }
        for name, value in row.items():
            rows.setdefault(name, []).append(value)
    return {name: torch.stack(values) for name, values in rows.items()}


def draw_edit(generator: torch.Generator) -> tuple[Style, list[str]]:
    """Return a random style, or the plain head, and the attributes asked for with it."""
    styles = list(STYLES.values())
    style = styles[int(torch.randint(len(styles), (1,), generator=generator))]
    plain, any_, two = torch.rand(3, generator=generator).tolist()
    if plain < PLAIN_SHARE:
        style, any_ = PLAIN, 0.0
    count = 0 if any_ >= ATTRIBUTE_SHARE else 1 + (two < TWO_SHARE)
    return style, draw_attributes(style, count, generator)


def attribute_indices(names: list[str]) -> Tensor:
    order = list(ATTRIBUTES)
    return torch.tensor([order.index(n) for n in names] + [-1] * (MOST_AT_ONCE - len(names)))


def pairs_shard(index: int, heads: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the restyled views of one shard of heads.

    Every (head, style) is drawn with its own jitter, and different views of it again with another,
    because the real editor disagrees with itself from view to view.
    """
    generator = torch.Generator().manual_seed(PAIRS_SEED + index)
    order, resolution = list(STYLES), heads["image"].shape[-1]
    rows: dict[str, list[Tensor]] = {}
    for h, z in enumerate(heads["z"]):
        for _ in range(STYLES_PER_HEAD):
            style, attributes = draw_edit(generator)
            views = torch.randperm(FRONT_VIEWS, generator=generator)[:VIEWS_PER_STYLE]
            drawn = with_attributes(jitter_style(style, generator), attributes)
            cameras = cameras_at(heads["view"][h, views])
            target, _, _ = draw(styled_head(z, drawn), cameras, resolution)
            number = -1 if style is PLAIN else order.index(style.name)
            row = {
                "source": heads["image"][h, views],
                "target": to_bytes(target),
                "style": torch.full((len(views),), number),
                "attributes": attribute_indices(attributes).expand(len(views), -1),
                "identity": torch.full((len(views),), index * SHARD + h),
                "view": heads["view"][h, views],
                "view_index": views,
            }
            for name, value in row.items():
                rows.setdefault(name, []).append(value)
    return {name: torch.cat(values) for name, values in rows.items()}


@torch.no_grad()
def renders_shard(heads: dict[str, Tensor], eg3d: EG3D) -> dict[str, Tensor]:
    """Return one shard of heads as the trained clay EG3D draws them, at the same front views.

    The editor learns from these beside the procedural heads, since they are what it will be given.
    """
    images = []
    for z, view in zip(heads["z"], heads["view"], strict=True):
        ws = eg3d.map(z[None], z.new_zeros(1, eg3d.config.c_dim))
        triplane = Triplane(eg3d.planes(ws), eg3d.config.box_size)
        portrait = Portrait(eg3d.renderer(), triplane, ws)
        images.append(to_bytes(render_views(portrait, cameras_at(view[:FRONT_VIEWS])).image))
    return {"z": heads["z"], "view": heads["view"][:, :FRONT_VIEWS], "image": torch.stack(images)}


def write_shard(path: Path, shard: dict[str, Tensor]) -> None:
    part = path.with_suffix(".part")
    torch.save(shard, part)
    os.replace(part, path)


def make_data(
    folder: Path,
    kind: str,
    shards: range,
    *,
    eg3d: EG3D | None = None,
    worker: int = 0,
    workers: int = 1,
) -> None:
    """Write the missing shards of `kind` (heads, pairs or renders) that belong to this worker.

    Pairs and renders are made from the heads of the same index; renders need `eg3d`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for index in shards:
        path = folder / f"{kind}_{index:04d}.pt"
        if index % workers != worker or path.exists():
            continue
        start = time.perf_counter()
        if kind == "heads":
            shard = heads_shard(index)
        else:
            heads = torch.load(folder / f"heads_{index:04d}.pt", weights_only=True)
            if kind == "pairs":
                shard = pairs_shard(index, heads)
            elif eg3d is None:
                raise InputError(f"{kind} are drawn by the trained EG3D, got none; give `eg3d`")
            else:
                shard = renders_shard(heads, eg3d)
        write_shard(path, shard)
        log.info("%s in %.1f s", path.name, time.perf_counter() - start)


def load_shards(folder: Path, kind: str, limit: int | None = None) -> dict[str, Tensor]:
    """Return all shards of `kind` joined along their first axis."""
    paths = sorted(folder.glob(f"{kind}_*.pt"))[:limit]
    shards = [torch.load(path, weights_only=True, mmap=True) for path in paths]
    return {name: torch.cat([shard[name] for shard in shards]) for name in shards[0]}

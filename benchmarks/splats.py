"""Portraits as Gaussian splats, drawn again beside the portraits' own pictures.

    python benchmarks/splats.py portrait.safetensors ... --seeds 10000 --out out/splats.jsonl

One line of JSON for each portrait and head: decibels at eight new cameras in front, at both sides
and from behind, for splats as sampled and as fitted, their number and the seconds. The picture
beside it has the portrait, its splats, and the splats at three times the size. The table of
`docs/assets.md` is made of it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from freestyle_core.files.media.image import save_image
from freestyle_core.files.networks import embedded, load_eg3d
from freestyle_core.files.portrait import load_portrait
from freestyle_core.geometry.cameras import orbit_cameras
from freestyle_core.geometry.splats import render_splats
from freestyle_core.method.render import render_views
from freestyle_core.method.sample import sample_portrait
from freestyle_core.method.splat import SplatSettings, extract_splats
from freestyle_core.metrics.image import psnr
from freestyle_core.types import CameraBatch, Portrait, Splats

# yaw and pitch in degrees, none of them a view that splats are fitted to
FRONT = ((0, 0), (-12, 8), (14, -9), (-20, 10), (25, -12), (10, 22), (-28, -18), (30, 15))
AROUND = ((-90, 0), (90, 0), (180, 0))
SHOWN = (0, 3, 4, 5)
LARGER = 3


def main() -> None:
    """Measure all portraits and heads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("portraits", type=Path, nargs="*")
    parser.add_argument("--seeds", type=int, nargs="*", default=[])
    parser.add_argument("--steps", type=int, default=SplatSettings.steps)
    parser.add_argument("--resolution", type=int, default=SplatSettings.resolution)
    parser.add_argument("--out", type=Path, default=Path("out/splats.jsonl"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    eg3d = load_eg3d(embedded("eg3d"))
    heads = {str(seed): sample_portrait(eg3d, seed, psi=1.0) for seed in args.seeds}
    for path in args.portraits:
        heads[f"{path.parent.name}_{path.stem}"] = load_portrait(path, eg3d=eg3d)
    settings = SplatSettings(steps=args.steps, resolution=args.resolution, head_height_m=0.0)
    for name, head in heads.items():
        row, picture = measured(head, settings)
        print(name, row, flush=True)
        with args.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"name": name, **row}) + "\n")
        save_image(args.out.with_name(f"splats_{name}.png"), picture)


def measured(head: Portrait, settings: SplatSettings) -> tuple[dict[str, Any], Tensor]:
    """Return the numbers of a portrait and its picture."""
    yaw, pitch = zip(*FRONT, *AROUND, strict=True)
    cameras = orbit_cameras(list(yaw), list(pitch), head.renderer.config.rig())
    own = render_views(head, cameras).image
    sampled = extract_splats(head, settings=replace(settings, steps=0))
    begun = time.process_time()
    splats = extract_splats(head, settings=settings)
    spent = time.process_time() - begun
    row: dict[str, Any] = {"splats": len(splats), "seconds": round(spent, 1)}
    for kind, made in (("sampled", sampled), ("fitted", splats)):
        found = [round(float(x), 2) for x in psnr(drawn(made, cameras, own.shape[-1]), own)]
        row[kind] = {"front": found[: len(FRONT)], "around": found[len(FRONT) :]}
    rows = [own[list(SHOWN)], drawn(splats, cameras[list(SHOWN)], own.shape[-1])]
    rows = [F.interpolate(x, scale_factor=LARGER, mode="nearest") for x in rows]
    rows.append(drawn(splats, cameras[list(SHOWN)], LARGER * own.shape[-1]))
    return row, torch.cat([torch.cat(list(x), dim=2) for x in rows], dim=1)


@torch.no_grad()
def drawn(splats: Splats, cameras: CameraBatch, size: int) -> Tensor:
    """Return the pictures [V,3,H,H] of splats."""
    views = [render_splats(splats, cameras[i], size).image for i in range(len(cameras))]
    return torch.stack(views).clamp(0, 1)


if __name__ == "__main__":
    main()

"""Mixing in a part of the head: what stays outside, what arrives inside, against other ways.

    python benchmarks/regions.py A.safetensors B.safetensors
    python benchmarks/regions.py --codes 12 51

Ways: "region", what `mix_portraits(..., area=)` does; "fitted", ordinary planes that come nearest
to it (`method.flatten`); "masked planes", each plane blended by the area as it is seen along the
plane's axis; "masked codes", w_s blended by the mask, for what the embedded I2T makes of the front
views of two heads, given by their seeds. Outside are pixels that show no point of the area, 6
pixels away from any that does; inside, pixels where both heads show points that it holds whole.
PSNR in dB: the least of the cameras, their median, and how many had something to compare.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from freestyle_core.files.networks import embedded, load_eg3d, load_i2t
from freestyle_core.files.portrait import load_portrait
from freestyle_core.geometry.cameras import front_camera, orbit_cameras
from freestyle_core.geometry.rays import pixel_rays
from freestyle_core.method.areas import Area, LiftSettings, masked_area, named_area
from freestyle_core.method.flatten import flattened
from freestyle_core.method.mix import mix_portraits
from freestyle_core.method.render import render_views
from freestyle_core.method.sample import sample_portrait
from freestyle_core.types import Portrait, Rendering, StyleCode, Triplane

YAWS_DEG = (0.0, 30.0, -30.0, 60.0, -60.0, 90.0, -90.0, 180.0)
PITCHES_DEG = (0.0, 0.0, 15.0, 0.0, 0.0, 0.0, 0.0, 0.0)
AWAY, WITHIN = 3, 2  # neural pixels from the edge of what is measured


def main() -> None:
    """Print one line for each area and way."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", type=Path, nargs="*", help="two portraits of one generator")
    parser.add_argument("--codes", type=int, nargs=2, metavar="SEED", help="two heads instead")
    args = parser.parse_args()
    if args.codes:
        report_codes(*args.codes)
        return
    pair = load_portrait(args.files[0]), load_portrait(args.files[1])
    for name, area in areas(*pair).items():
        report(name, "region", *pair, area, mix_portraits(*pair, 1.0, area=area))
        report(name, "fitted", *pair, area, flattened(mix_portraits(*pair, 1.0, area=area)))
        report(name, "masked planes", *pair, area, masked_planes(*pair, area))


@torch.no_grad()
def report_codes(*seeds: int) -> None:
    """Print what a mask on the codes does to what one I2T makes of two heads."""
    eg3d, i2t = load_eg3d(embedded("eg3d")), load_i2t(embedded("i2t"))
    pair = []
    for seed in seeds:
        head = sample_portrait(eg3d, seed, psi=0.7)
        front = render_views(head, front_camera(eg3d.config.rig())).image
        style = StyleCode(i2t.encode(front), i2t, "embedded")
        triplane = Triplane(style.planes(), eg3d.config.box_size)
        pair.append(replace(head, triplane=triplane, style=style))
    mask, area = halves(eg3d.config.image_resolution), areas(*pair)["half, through"]
    report("half, through", "region", *pair, area, mix_portraits(*pair, 1.0, area=area))
    report("half, through", "masked codes", *pair, area, masked_codes(*pair, mask))


def halves(size: int) -> Tensor:
    """Return a mask [H,W] of the left half."""
    mask = torch.zeros(size, size)
    mask[:, : size // 2] = 1
    return mask


def areas(a: Portrait, b: Portrait) -> dict[str, Area]:
    """Return the left half, half-way and through, an oval over the eyes, and the named parts."""
    config = a.renderer.config
    size = config.image_resolution
    across = (torch.arange(size) + 0.5) / size - 0.5
    eyes = ((across[None] / 0.21) ** 2 + ((across[:, None] + 0.02) / 0.075) ** 2 < 1).float()
    through = LiftSettings(through=True)
    return {
        "half": masked_area(halves(size), [a, b]),
        "half, through": masked_area(halves(size), [a, b], settings=through),
        "eyes": masked_area(eyes, [a, b]),
        **{part: named_area(part, config.rig()) for part in ("hair", "face", "clothes")},
    }


def masked_planes(a: Portrait, b: Portrait, area: Area) -> Portrait:
    """Return a's planes with b's where the area shows along each plane's axis."""
    size, shares = a.triplane.planes.shape[-1], []
    for pair in a.renderer.config.plane_axes:
        (unused,) = set("xyz") - set(pair)
        seen = area.weights.amax(dim="xyz".index(unused))  # [first, second] of the other two axes
        seen = seen.T if "xyz".index(pair[0]) < "xyz".index(pair[1]) else seen  # [height, width]
        resized = F.interpolate(seen[None, None], (size, size), mode="bilinear")
        shares.append(resized[0, 0])
    share = torch.stack(shares)[None, :, None]
    planes = a.triplane.planes * (1 - share) + b.triplane.planes * share
    return replace(a, triplane=Triplane(planes, a.triplane.box_size), style=None)


@torch.no_grad()
def masked_codes(a: Portrait, b: Portrait, mask: Tensor) -> Portrait:
    """Return what a's network makes of codes that are b's inside the mask."""
    assert isinstance(a.style, StyleCode) and isinstance(b.style, StyleCode)
    size = a.style.w_s.shape[-1]
    share = F.interpolate(mask[None, None], (size, size), mode="area")
    style = replace(a.style, w_s=a.style.w_s * (1 - share) + b.style.w_s * share)
    return replace(a, triplane=Triplane(style.planes(), a.triplane.box_size), style=style)


def report(name: str, way: str, a: Portrait, b: Portrait, area: Area, mixed: Portrait) -> None:
    """Print PSNR to a outside and to b inside, dB: the least and the median of the cameras."""
    cameras = orbit_cameras(YAWS_DEG, PITCHES_DEG, a.renderer.config.rig())
    views = [render_views(portrait, cameras) for portrait in (a, b, mixed)]
    weights = [weights_at(view, area) for view in views[:2]]
    touched = grown((torch.maximum(*weights) > 0).float(), AWAY)
    head = grown(torch.maximum(views[0].alpha, views[1].alpha)[:, 0], AWAY) > 0.01
    inside = 1 - grown((torch.minimum(*weights) < 0.99).float(), WITHIN)
    outside = psnr(views[2], views[0], (touched == 0) & head)
    within = psnr(views[2], views[1], inside > 0)
    print(f"{name:14} {way:14} outside {said(outside)}  inside {said(within)}", flush=True)


def weights_at(view: Rendering, area: Area) -> Tensor:
    """Return the weights [V,h,w] of the points that the views show, 0 where they show none."""
    size, found = view.depth.shape[-1], []
    for index in range(len(view.cameras)):
        points = pixel_rays(view.cameras[index], size).at(view.depth[index].reshape(1, -1, 1))
        grid = (2 * points)[:, :, None, None]
        own = F.grid_sample(area.weights.permute(2, 1, 0)[None, None], grid, align_corners=True)
        found.append(own.reshape(size, size) * (view.alpha[index, 0] > 0.5))
    return torch.stack(found)


def grown(values: Tensor, pixels: int) -> Tensor:  # [V,h,w]
    return F.max_pool2d(values[:, None], 2 * pixels + 1, 1, pixels)[:, 0]


def psnr(one: Rendering, other: Rendering, where: Tensor) -> list[float]:
    """Return the PSNR of each view that has something to compare, dB."""
    scale = one.image.shape[-1] // where.shape[-1]
    where = where.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    error = (one.image - other.image).square().mean(dim=1)
    rows = [e[m].mean() for e, m in zip(error, where, strict=True) if m.any()]
    return [float(-10 * torch.log10(row + 1e-12)) for row in rows]


def said(values: list[float]) -> str:
    row = torch.tensor(values)
    return f"{row.min():5.1f} / {row.median():5.1f} ({len(values)})"


if __name__ == "__main__":
    main()

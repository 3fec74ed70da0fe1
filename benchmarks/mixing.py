"""Mix two styles of one head in every way there is, and lay the ways side by side.

    python benchmarks/mixing.py --out out/mixing

One head of the clay EG3D is restyled twice and learnt by one I2T ("i2t", the paper), as planes
("planes"), and by one I2T with residuals ("both"), then mixed by codes or by planes. mixing.jpg has
a block for each way, with a row per view and a column per amount; the way's name stands over the
first, 0 %. The table says how much of the picture is half transparent (opacity 0.1 to 0.9: a clean
head has only its rim) and how sharp it is (mean difference of neighbouring pixels, in per cent),
both at the ends and in the middle, and how evenly the picture changes (the largest step from column
to column over their mean; 1 is even). `docs/mixing.md` shows a result.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from freestyle_core.files.media.image import to_bytes
from freestyle_core.files.portrait import save_portrait
from freestyle_core.geometry.cameras import orbit_cameras
from freestyle_core.method.fewshot import few_shot_set
from freestyle_core.method.finetune import FinetuneSettings, finetune_portraits
from freestyle_core.method.finetune_settings import Train
from freestyle_core.method.mix import MixSpace, even_amounts, mix_frames
from freestyle_core.method.render import render_views
from freestyle_core.method.sample import sample_portrait
from freestyle_core.method.stylize import StylizeSettings, stylize_views
from freestyle_core.pipeline import ModelPaths, Models, PortraitSettings, load_models
from freestyle_core.types import FewShotSet, Portrait
from freestyle_core.visualize.contact_sheet import contact_sheet
from freestyle_core.visualize.mix_video import MIX_YAWS_DEG

WAYS: dict[Train, tuple[MixSpace, ...]] = {
    "i2t": ("codes", "planes"),
    "planes": ("planes",),
    "both": ("codes",),
}
HALF = (0.1, 0.9)  # opacity between these is half transparent


def main() -> None:
    """Parse the arguments, write the sheets and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--styles", nargs=2, default=["a Na'vi", "a clown"])
    parser.add_argument("--seed", type=int, default=0, help="of the head")
    parser.add_argument("--views", type=int, default=4, help="the camera grid is views x views")
    parser.add_argument("--edit-steps", type=int, default=10)
    parser.add_argument("--i2t-steps", type=int, default=150, help="for each style")
    parser.add_argument("--planes-steps", type=int, default=50, help="for each style, and of both")
    parser.add_argument("--columns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out/mixing"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    models = load_models(ModelPaths())
    head, sets = edited(models, args)
    steps = {"i2t": args.i2t_steps, "planes": args.planes_steps, "both": args.planes_steps}
    print("| learnt | mixed by | half transparent | sharpness | largest step |")
    print("|---|---|---|---|---|", flush=True)
    blocks: list[Tensor] = []
    for train in WAYS:
        settings = FinetuneSettings(train=train, iterations=2 * steps[train], preview_every=0)
        i2t = None if train == "planes" else models.i2t
        parent = "" if train == "planes" else models.hashes["i2t"]
        result = finetune_portraits(
            i2t, parent, [head, head], sets, models.perceptual, settings=settings
        )
        for style, portrait in zip("ab", result.portraits, strict=True):
            save_portrait(args.out / f"{train}_{style}.safetensors", portrait)
        for space in WAYS[train]:
            images, alphas = mixed(*result.portraits, args.columns, space)
            print(f"| {train} | {space} | {numbers(images, alphas)} |", flush=True)
            blocks.append(block(f"{train} by {space}", images))
            write_sheet(args.out / "mixing.jpg", blocks)  # as far as it is: all take minutes


def edited(models: Models, args: argparse.Namespace) -> tuple[Portrait, list[FewShotSet]]:
    """Return the head and its views in both styles."""
    settings = PortraitSettings(prompts=tuple(args.styles), seed=args.seed, views=args.views)
    cameras = settings.cameras(models.eg3d.config.rig())
    head = sample_portrait(models.eg3d, args.seed, psi=settings.psi)
    views = render_views(head, cameras).image
    edit = StylizeSettings(steps=args.edit_steps, seed=args.seed)
    return head, [
        few_shot_set(
            head, stylize_views(models.editor, views, style, settings=edit), cameras, style
        )
        for style in args.styles
    ]


def mixed(a: Portrait, b: Portrait, columns: int, space: MixSpace) -> tuple[Tensor, Tensor]:
    """Return pictures [R,N,3,H,W] and opacities [R,N,1,h,w]: rows are views, columns amounts."""
    sides = orbit_cameras(MIX_YAWS_DEG, [0.0] * len(MIX_YAWS_DEG), a.renderer.config.rig())
    seen = [
        render_views(between, sides)
        for between in mix_frames(a, b, even_amounts(columns), space=space)
    ]
    return torch.stack([s.image for s in seen], 1), torch.stack([s.alpha for s in seen], 1)


def block(name: str, images: Tensor) -> Tensor:  # [R,N,3,H,W] -> [3,h,w]
    """Return the labelled pictures of one way."""
    amounts = [f"{100 * amount:.0f} %" for amount in even_amounts(images.shape[1])]
    rows = [(f"{yaw:+.0f}", row) for yaw, row in zip(MIX_YAWS_DEG, images, strict=True)]
    return contact_sheet(rows, columns=[name, *amounts[1:]], tile=images.shape[-1])


def write_sheet(path: Path, blocks: list[Tensor]) -> None:
    """Write the blocks, two beside each other."""
    even = blocks + [torch.ones_like(blocks[0])] * (len(blocks) % 2)
    rows = [torch.cat(even[i : i + 2], dim=2) for i in range(0, len(even), 2)]
    picture = torch.cat(rows, dim=1)
    Image.fromarray(to_bytes(picture[None])[0]).save(path, quality=80)


def numbers(images: Tensor, alphas: Tensor) -> str:
    """Return the table's cells: of both ends together, then of the middle."""
    half = ((alphas > HALF[0]) & (alphas < HALF[1])).float().mean(dim=(0, 2, 3, 4))  # [N]
    steps = [images.diff(dim=axis).abs().mean(dim=(0, 2, 3, 4)) for axis in (-1, -2)]
    sharp = (steps[0] + steps[1]) / 2  # [N]
    change = images.diff(dim=1).square().mean(dim=(0, 2, 3, 4)).sqrt()  # [N-1]
    middle = len(half) // 2
    cells = [
        f"{100 * (half[0] + half[-1]) / 2:.1f} / {100 * half[middle]:.1f} %",
        f"{100 * (sharp[0] + sharp[-1]) / 2:.2f} / {100 * sharp[middle]:.2f}",
        f"{change.max() / change.mean():.2f}",
    ]
    return " | ".join(cells)


if __name__ == "__main__":
    main()

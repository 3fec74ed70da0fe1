"""Train the framing network of the clay family: pose, place and size of a head in a crop.

Procedural heads are drawn once at known cameras, with room around them; every step turns, moves,
scales, tints and blurs them anew. `python -m freestyle_core.clay.train.framing` makes the shipped
file: 600 heads x 4 views.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...files.networks import embedded, load_eg3d, save_framing
from ...geometry.cameras import orbit_cameras
from ...models.framing import DEGREES, SHARE, FramingConfig, FramingNet
from ...types import CameraRig
from ..draw import draw, plain_head
from ..evaluate import code_of_seed

CONFIG = FramingConfig(generator="clay", name="clay framing", licence="Apache-2.0")
ROOM = 1.25  # the drawn pictures show this much more than a crop, each way
FIRST_SEED = 2000  # of the heads; those from 10000 on are held out
YAW, PITCH, ROLL = 42.0, 32.0, 25.0  # degrees, either side
SHIFT, LOG_SCALE = 0.12, 0.25  # sides of the crop; either side


@dataclass(frozen=True)
class FramingTask:
    """How long and on how much."""

    heads: int = 600
    views: int = 4  # of each head
    steps: int = 3000
    batch_size: int = 32
    learning_rate: float = 2e-3
    seed: int = 0


def drawn_views(
    task: FramingTask, rig: CameraRig, pixels: int, told: Callable[[str], None] = lambda _: None
) -> tuple[Tensor, Tensor]:
    """Return pictures [N,3,P,P] uint8, with room, and yaw and pitch [N,2] in degrees."""
    wide = replace(rig, focal=rig.focal / ROOM)
    images, poses = [], []
    for seed in range(FIRST_SEED, FIRST_SEED + task.heads):
        generator = torch.Generator().manual_seed(seed)
        share = torch.rand(task.views, 2, generator=generator) * 2 - 1
        pose = share * torch.tensor([YAW, PITCH])
        cameras = orbit_cameras(pose[:, 0], pose[:, 1], wide)
        image = draw(plain_head(code_of_seed(seed)), cameras, round(pixels * ROOM))[0]
        images.append((image * 255).round().to(torch.uint8))
        poses.append(pose)
        if seed % 50 == 49:
            told(f"head {seed - FIRST_SEED + 1} of {task.heads}")
    return torch.cat(images), torch.cat(poses)


def misplaced(
    images: Tensor,  # [B,3,P,P] in [0,1], with room
    poses: Tensor,  # [B,2]
    pixels: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Return crops [B,3,S,S], out of place and off colour, and the right answers [B,6]."""
    count = len(images)
    draws = torch.rand(count, 4, generator=generator) * 2 - 1
    roll, shift = draws[:, 0] * ROLL, draws[:, 1:3] * SHIFT
    log_scale = draws[:, 3] * LOG_SCALE
    crops = F.grid_sample(
        images, _grid(roll, shift, log_scale, pixels), align_corners=False, padding_mode="border"
    )
    labels = torch.cat([poses, roll[:, None], shift, log_scale[:, None]], dim=1)
    mirrored = torch.rand(count, generator=generator) < 0.5
    crops = torch.where(mirrored[:, None, None, None], crops.flip(-1), crops)
    sign = torch.tensor([-1.0, 1, -1, -1, 1, 1])
    labels = torch.where(mirrored[:, None], labels * sign, labels)
    return _off_colour(crops, generator), labels


def _grid(roll: Tensor, shift: Tensor, log_scale: Tensor, pixels: int) -> Tensor:
    """Return where in the drawn pictures the pixels of the crops lie, for `grid_sample`."""
    at = (torch.arange(pixels) + 0.5) / pixels - 0.5
    rows, columns = torch.meshgrid(at, at, indexing="ij")
    place = torch.stack([columns, rows], -1).reshape(1, -1, 2) - shift[:, None]
    angle = -torch.deg2rad(roll)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).reshape(-1, 2, 2)
    place = place @ turn.transpose(1, 2) / log_scale.exp()[:, None, None]
    return (place * 2 / ROOM).reshape(len(roll), pixels, pixels, 2)


def _off_colour(crops: Tensor, generator: torch.Generator) -> Tensor:
    count = len(crops)
    draws = torch.rand(count, 3, 1, 1, generator=generator) * 2 - 1
    gain = torch.exp(0.25 * (torch.rand(count, 1, 1, 1, generator=generator) * 2 - 1))
    crops = (crops * gain * (1 + 0.08 * draws)).clamp(0, 1)
    side = crops.shape[-1]
    less = int(torch.randint(side // 2, side + 1, (1,), generator=generator))
    if less < side:  # a small or a soft picture
        small = F.interpolate(crops, size=(less, less), mode="bilinear", antialias=True)
        crops = F.interpolate(small, size=(side, side), mode="bilinear", align_corners=False)
    noise = torch.randn(crops.shape, generator=generator)
    return (crops + 0.02 * noise * torch.rand(count, 1, 1, 1, generator=generator)).clamp(0, 1)


def train_framing(
    images: Tensor,  # [N,3,P,P] uint8, of `drawn_views`
    poses: Tensor,  # [N,2]
    task: FramingTask,
    config: FramingConfig = CONFIG,
    told: Callable[[str], None] = lambda _: None,
) -> FramingNet:
    """Return the trained network: mean absolute error of all six numbers, Adam, half a cosine."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.seed)
        net = FramingNet(config)
    generator = torch.Generator().manual_seed(task.seed)
    adam = torch.optim.Adam(net.parameters(), lr=task.learning_rate)
    unit = torch.tensor([DEGREES] * 3 + [SHARE] * 3)
    start, seen = time.monotonic(), 0.0
    for step in range(task.steps):
        rate = 0.5 * (1 + math.cos(math.pi * step / task.steps)) * min(1, (step + 1) / 100)
        for group in adam.param_groups:
            group["lr"] = task.learning_rate * rate
        rows = torch.randint(len(images), (task.batch_size,), generator=generator)
        crops, labels = misplaced(images[rows].float() / 255, poses[rows], config.pixels, generator)
        loss = ((net(crops) - labels) / unit).abs().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        seen = loss.item() if not step else 0.98 * seen + 0.02 * loss.item()
        if step % 100 == 99:
            seconds = time.monotonic() - start
            told(f"step {step + 1} of {task.steps}, loss {seen:.4f}, {seconds:.0f} s")
    return net.eval()


def main() -> None:
    """Draw, train and write the shipped file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=embedded("eg3d").parent / "framing.safetensors")
    parser.add_argument("--heads", type=int, default=FramingTask.heads)
    parser.add_argument("--steps", type=int, default=FramingTask.steps)
    parser.add_argument("--views", type=Path, help="kept pictures, drawn where they are not there")
    args = parser.parse_args()
    task = FramingTask(heads=args.heads, steps=args.steps)
    rig = load_eg3d(embedded("eg3d")).config.rig()
    if args.views is not None and args.views.exists():
        images, poses = torch.load(args.views, weights_only=True)
    else:
        images, poses = drawn_views(task, rig, CONFIG.pixels, _say)
        if args.views is not None:
            torch.save((images, poses), args.views)
    net = train_framing(images, poses, task, told=_say)
    save_framing(args.out, net, extra={"heads": task.heads, "steps": task.steps})


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

"""Photographs of heads that no model was trained on: how near are their portraits, and how fast?

    python benchmarks/photo.py --out out/photo.jsonl
    python benchmarks/photo.py --out out/photo.jsonl --ways i2t planes invert --heads 8
    python benchmarks/photo.py --poses 32                   # how far off the angles are

A photograph is a head drawn by the procedural world, never by the generator: turned, leaning, with
room around it. It is aligned as the command does, made into a portrait, and compared with the same
head drawn from 16 other cameras: PSNR, perceptual distance, and the cosine of the CLIP features of
portrait and truth ("identity"). One line of JSON for each way and head; the same command goes on
where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from freestyle_core.baselines.from_photo import portrait_of_photo
from freestyle_core.clay.draw import draw, plain_head
from freestyle_core.clay.evaluate import FIRST_SEED, code_of_seed, random_cameras
from freestyle_core.files.clip import load_clip
from freestyle_core.files.media.image import save_image
from freestyle_core.files.networks import embedded, framing_for, load_detector, load_eg3d, load_i2t
from freestyle_core.files.perceptual import load_distance
from freestyle_core.method.render import render_views
from freestyle_core.metrics.image import psnr
from freestyle_core.photo.align import Aligned, align_photo, posed_camera
from freestyle_core.photo.faces import Pose
from freestyle_core.types import CameraRig
from freestyle_core.visualize.contact_sheet import contact_sheet

WAYS = {"i2t": ("i2t", 0), "planes": ("planes", 60), "planes 150": ("planes", 150)}
WAYS |= {"planes 30": ("planes", 30), "invert": ("invert", 0)}
POSES = (Pose(0, 0, 0), Pose(12, -5, 4), Pose(-20, 8, -6), Pose(25, 5, 3))  # the heads in turn
ROOM, PIXELS = 1.3, 320  # of a photograph
SCORES = ("photo, dB", "16 other views, dB", "perceptual", "identity", "processor s")


def main() -> None:
    """Parse the arguments, measure what is missing and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=["i2t", "planes"])
    parser.add_argument("--heads", type=int, default=4, help=f"seeds from {FIRST_SEED} on")
    parser.add_argument("--poses", type=int, metavar="N", help="measure N poses instead")
    parser.add_argument("--pixels", type=int, default=PIXELS, help="side of the photographs")
    parser.add_argument("--out", type=Path, default=Path("out/photo.jsonl"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(args.out.parent, args.pixels)
    if args.poses:
        bench.poses(args.poses)
        return
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(FIRST_SEED, FIRST_SEED + args.heads):
        for way in args.ways:
            if not any((row["way"], row["seed"]) == (way, seed) for row in kept(args.out)):
                row = bench.measured(way, seed)
                with args.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
    print_table(kept(args.out))


def kept(path: Path) -> list[dict[str, Any]]:
    """Return what was measured so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Bench:
    """The models, loaded once."""

    def __init__(self, folder: Path, pixels: int) -> None:
        self.folder, self.pixels = folder, pixels
        self.eg3d = load_eg3d(embedded("eg3d"))
        self.i2t = load_i2t(embedded("i2t"), eg3d=self.eg3d)
        self.distance = load_distance(image_resolution=self.eg3d.config.image_resolution)
        self.clip = load_clip("clay")
        self.detector, self.framing = load_detector(), framing_for(self.eg3d.config)

    @property
    def rig(self) -> CameraRig:
        """Return the generator's cameras."""
        return self.eg3d.config.rig()

    def photograph(self, seed: int, pose: Pose) -> Tensor:
        """Return a photograph [3,P,P] of the head of a seed."""
        wide = replace(self.rig, focal=self.rig.focal / ROOM)
        camera = posed_camera(pose, wide)
        return draw(plain_head(code_of_seed(seed)), camera, self.pixels)[0][0]

    @lru_cache(maxsize=1)  # noqa: B019, one Bench for a run
    def truth(self, seed: int) -> Tensor:
        """Return the head of a seed from the 16 cameras."""
        cameras = random_cameras(16, seed)
        return draw(plain_head(code_of_seed(seed)), cameras, 128, supersample=2)[0]

    def aligned(self, photo: Tensor, *, framing: bool = True) -> Aligned:
        """Return the crop and camera of a photograph."""
        net = self.framing if framing else None
        return align_photo(photo, self.eg3d.config, detector=self.detector, framing=net)

    def measured(self, way: str, seed: int) -> dict[str, Any]:
        """Return the scores of one way on one head; a picture of it is written beside them."""
        pose = POSES[seed % len(POSES)]
        made = self.aligned(self.photograph(seed, pose))
        name, steps = WAYS[way]
        start = time.process_time()
        portrait = portrait_of_photo(
            made.image,
            made.camera,
            eg3d=self.eg3d,
            i2t=self.i2t,
            perceptual=self.distance,
            way=name,  # type: ignore[arg-type]
            steps=steps,
        )
        seconds = time.process_time() - start
        cameras = random_cameras(16, seed)
        truth = self.truth(seed)
        seen = render_views(portrait, cameras).image
        own = render_views(portrait, made.camera).image
        with torch.no_grad():
            features = [self.clip.encode_images(images * 2 - 1) for images in (seen, truth)]
            scores = [
                float(psnr(own, made.image[None]).mean()),
                float(psnr(seen, truth).mean()),
                float(self.distance(seen, truth).mean()),
                float(torch.cosine_similarity(*features).mean()),
                seconds,
            ]
        rows = [
            ("truth", torch.cat([made.image[None], truth[:7]])),
            (way, torch.cat([own, seen[:7]])),
        ]
        save_image(self.folder / f"{way}_{seed}.png", contact_sheet(rows))
        row = {"way": way, "seed": seed, **dict(zip(SCORES, scores, strict=True))}
        print(row, flush=True)
        return row

    def poses(self, count: int) -> None:
        """Print median and 90th percentile of the error of each angle, degrees."""
        draws, errors = random.Random(1), []
        for number in range(count):
            pose = Pose(draws.uniform(-35, 35), draws.uniform(-25, 25), draws.uniform(-15, 15))
            photo = self.photograph(FIRST_SEED + number, pose)
            found = [self.aligned(photo, framing=net).pose for net in (True, False)]
            errors.append([_apart(pose, other) for other in found])
        for name, own in zip(("framing", "points"), torch.tensor(errors).unbind(1), strict=True):
            for words, share in (("median", 0.5), ("90 %", 0.9)):
                yaw, pitch, roll = own.quantile(share, dim=0).tolist()
                print(f"{name} {words}: yaw {yaw:.2f}, pitch {pitch:.2f}, roll {roll:.2f}")


def _apart(a: Pose, b: Pose) -> list[float]:
    pairs = ((a.yaw_deg, b.yaw_deg), (a.pitch_deg, b.pitch_deg), (a.roll_deg, b.roll_deg))
    return [abs(x - y) for x, y in pairs]


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print mean and standard deviation over the heads of each way."""
    print("| way | heads | " + " | ".join(SCORES) + " |")
    print("|---" * (2 + len(SCORES)) + "|")
    for way in WAYS:
        own = [row for row in rows if row["way"] == way]
        if own:
            cells = [_cell([row[name] for row in own], name) for name in SCORES]
            print(f"| {way} | {len(own)} | " + " | ".join(cells) + " |")


def _cell(values: list[float], name: str) -> str:
    digits = 3 if name in ("perceptual", "identity") else 1
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.{digits}f} ({spread:.{digits}f})"


if __name__ == "__main__":
    main()

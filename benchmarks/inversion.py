"""Invert heads that no model was trained on, and measure how near the portraits come to them.

    python benchmarks/inversion.py --out out/inversion.jsonl
    python benchmarks/inversion.py --out out/inversion.jsonl --ways hfgi3d 3dgan-inv --heads 3

The reference is the front view of a drawn head; the truth is the same head drawn from six other
sides. `invert` is what the command does with its defaults, the rivals run in their `lite` settings.
One line of JSON for each way and head, kept as soon as it is known: the same command goes on where
it was stopped. At the end the table of `docs/baselines.md`, each number the mean over the heads and
their standard deviation.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from freestyle_core.baselines import gan_inversion, hfgi3d
from freestyle_core.baselines.inversion import invert_settings
from freestyle_core.baselines.protocol import BaselineModels, Fitted
from freestyle_core.clay.draw import draw, plain_head
from freestyle_core.clay.evaluate import FIRST_SEED, code_of_seed
from freestyle_core.files.media.image import save_image
from freestyle_core.files.networks import embedded, load_eg3d
from freestyle_core.files.perceptual import load_distance
from freestyle_core.geometry.cameras import front_camera, orbit_cameras
from freestyle_core.method.render import render_views
from freestyle_core.metrics.image import psnr
from freestyle_core.types import Portrait
from freestyle_core.visualize.contact_sheet import contact_sheet

SIDES_DEG = ((-30, 0), (-15, 0), (15, 0), (30, 0), (0, 20), (0, -20))  # yaw, pitch
COLUMNS = ("front, dB", "front, perceptual", "sides, dB", "sides, perceptual", "processor s")


def _invert(reference: Tensor, models: BaselineModels) -> Fitted:
    return gan_inversion.fit(reference, "", models, invert_settings(models.eg3d))


def _gan_inversion(reference: Tensor, models: BaselineModels) -> Fitted:
    return gan_inversion.fit(
        reference, "", models, gan_inversion.GanInversionSettings.lite(preview_every=0)
    )


def _hfgi3d(reference: Tensor, models: BaselineModels) -> Fitted:
    return hfgi3d.fit(reference, "", models, hfgi3d.FAITHFUL.lite())


WAYS: dict[str, Callable[[Tensor, BaselineModels], Fitted]] = {
    "invert": _invert,
    "3dgan-inv": _gan_inversion,
    "hfgi3d": _hfgi3d,
}


def main() -> None:
    """Parse the arguments, measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=["invert"])
    parser.add_argument("--heads", type=int, default=6, help=f"seeds from {FIRST_SEED} on")
    parser.add_argument("--out", type=Path, default=Path("out/inversion.jsonl"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    eg3d = load_eg3d(embedded("eg3d"))
    size = eg3d.config.image_resolution
    models = BaselineModels(eg3d, load_distance(image_resolution=size))
    for way in args.ways:
        for seed in range(FIRST_SEED, FIRST_SEED + args.heads):
            if not any((row["way"], row["seed"]) == (way, seed) for row in kept(args.out)):
                row = measured(way, seed, models, args.out.parent)
                with args.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
    print_table(kept(args.out))


def kept(path: Path) -> list[dict[str, Any]]:
    """Return what was measured so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def measured(way: str, seed: int, models: BaselineModels, folder: Path) -> dict[str, Any]:
    """Return the scores of one way on one head; a picture of it is written beside them."""
    rig, size = models.eg3d.config.rig(), models.eg3d.config.image_resolution
    yaws, pitches = zip(*SIDES_DEG, strict=True)
    front, sides = front_camera(rig), orbit_cameras(yaws, pitches, rig)
    head = plain_head(code_of_seed(seed))
    reference, truth = (draw(head, c, size, supersample=2)[0] for c in (front, sides))
    start = time.process_time()
    made = WAYS[way](reference[0], models)
    seconds = time.process_time() - start
    assert isinstance(made.portrait, Portrait)
    seen = [render_views(made.portrait, cameras).image for cameras in (front, sides)]
    rows = [("drawn", torch.cat([reference, truth])), ("portrait", torch.cat(seen))]
    names = ["front", *(f"{yaw:+d}, {pitch:+d}" for yaw, pitch in SIDES_DEG)]
    save_image(folder / f"{way}_{seed}.png", contact_sheet(rows, columns=names))
    scores: list[float] = []
    with torch.no_grad():
        for shown, wanted in zip(seen, (reference, truth), strict=True):
            scores += [float(psnr(shown, wanted).mean())]
            scores += [float(models.perceptual(shown, wanted).mean())]
    row = {"way": way, "seed": seed, **dict(zip(COLUMNS, [*scores, seconds], strict=True))}
    row["steps"] = {name: len(values) for name, values in made.losses.items()}
    print(row, flush=True)
    return row


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print mean and standard deviation over the heads of each way."""
    print("| way | heads | " + " | ".join(COLUMNS) + " |")
    print("|---" * (2 + len(COLUMNS)) + "|")
    for way in WAYS:
        own = [row for row in rows if row["way"] == way]
        if own:
            cells = [_cell([row[name] for row in own], name) for name in COLUMNS]
            print(f"| {way} | {len(own)} | " + " | ".join(cells) + " |")


def _cell(values: list[float], name: str) -> str:
    digits = 3 if "perceptual" in name else 0 if "processor" in name else 1
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.{digits}f} ({spread:.{digits}f})"


if __name__ == "__main__":
    main()

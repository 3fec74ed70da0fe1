"""Swap a tenth of the edited views for another head's, and measure what brings the portrait back.

    python benchmarks/swapped_views.py --out out/swapped.jsonl

Two styles of two heads that no model was trained on, 7 x 7 views and the front, 100 steps of the
planes.
Five views are swapped for those of the other head. The set is learnt as it was ("clean"), swapped,
with `robust`, edited again with other noises (`reedit`), and with both; "clean, reedit" says what
editing again does where nothing is wrong. One line of JSON a run, kept as soon as it is known, then
the table of `docs/evaluation.md`: decibels from the true head at nine cameras, perceptual distance
to it, and perceptual distance to the clean edited views.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from freestyle_core.clay.evaluate import FIRST_SEED, random_cameras
from freestyle_core.clay.styles.captions import canonical
from freestyle_core.clay.truth import WORLD
from freestyle_core.method.fewshot import few_shot_set
from freestyle_core.method.finetune import finetune_portraits
from freestyle_core.method.reedit import reedit_views
from freestyle_core.method.render import render_views
from freestyle_core.method.sample import sample_portrait
from freestyle_core.method.stylize import stylize_views
from freestyle_core.metrics.image import psnr
from freestyle_core.pipeline import ModelPaths, Models, load_models
from freestyle_core.presets import FAST
from freestyle_core.types import Portrait, Rendering

STYLES = ("zombie", "bronze statue")
HEADS = (FIRST_SEED, FIRST_SEED + 1)
SWAPPED = 5  # of 50
RUNS = ("clean", "swapped", "robust", "reedit", "both", "clean, reedit")
PRESET = FAST.but(views=7, iterations=100)
COLUMNS = ("dB", "to the truth", "to the clean edits")


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--styles", nargs="+", choices=STYLES, default=STYLES)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=RUNS)
    parser.add_argument("--out", type=Path, default=Path("out/swapped.jsonl"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    models = load_models(ModelPaths(i2t=None))
    for style in args.styles:
        seen = [edited(models, style, seed) for seed in HEADS]
        for index, seed in enumerate(HEADS):
            known = [r["run"] for r in kept(args.out) if (r["style"], r["seed"]) == (style, seed)]
            for run in (run for run in args.runs if run not in known):
                row = measured(models, style, seed, run, seen[index], seen[1 - index][2])
                with args.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(row, flush=True)
    print_table(kept(args.out))


def kept(path: Path) -> list[dict[str, Any]]:
    """Return what was measured so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def edited(models: Models, style: str, seed: int) -> tuple[Portrait, Rendering, Tensor]:
    """Return a head, its views, and their edits [V,3,H,W]."""
    settings = PRESET.settings(canonical(style), seed=seed).resolved()
    head = sample_portrait(models.eg3d, seed, psi=1.0)
    views = render_views(head, settings.cameras(models.eg3d.config.rig()))
    return (
        head,
        views,
        stylize_views(models.editor, views.image, canonical(style), settings=settings.edit),
    )


def measured(
    models: Models,
    style: str,
    seed: int,
    run: str,
    own: tuple[Portrait, Rendering, Tensor],
    other: Tensor,  # [V,3,H,W], the edited views of another head
) -> dict[str, Any]:
    """Return the scores of a portrait that was learnt in one of the ways."""
    head, views, clean = own
    settings = PRESET.settings(canonical(style), seed=seed).resolved()
    cameras = settings.cameras(models.eg3d.config.rig())
    chosen = torch.randperm(len(clean), generator=torch.Generator().manual_seed(seed))[:SWAPPED]
    images = clean.clone()
    if not run.startswith("clean"):
        images[chosen] = other[chosen]
    few_shot = few_shot_set(head, images, cameras, canonical(style))
    begun, again = time.process_time(), None
    if run in ("reedit", "both", "clean, reedit"):
        again = reedit_views(
            models.editor, head, views.image, few_shot, seen=views, settings=settings.edit
        )
        few_shot = again.few_shot
    spent = time.process_time() - begun
    tune = PRESET.tune(preview_every=0, robust=run in ("robust", "both"))
    made = finetune_portraits(None, "", [head], [few_shot], models.perceptual, settings=tune)
    held = random_cameras(9, seed)
    truth = WORLD.truth(style, seed)(held)
    with torch.no_grad():
        shown = render_views(made.portraits[0], held).image
        trained = render_views(made.portraits[0], cameras[::5]).image
        scores = (
            float(psnr(shown, truth).mean()),
            float(models.perceptual(shown, truth).mean()),
            float(models.perceptual(trained, clean[::5]).mean()),
        )
    row: dict[str, Any] = {"style": style, "seed": seed, "run": run}
    row |= dict(zip(COLUMNS, scores, strict=True))
    if again is not None:
        row |= {"doubted": again.doubted, "replaced": again.replaced, "seconds": spent}
    return {**row, "swapped": sorted(chosen.tolist())}


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print a row for each style and head, and the means."""
    print("| style, head | " + " | ".join(RUNS) + " |")
    print("|---" * (1 + len(RUNS)) + "|")
    pairs = [(style, seed) for style in STYLES for seed in HEADS]
    for style, seed in pairs:
        own = [row for row in rows if (row["style"], row["seed"]) == (style, seed)]
        print(f"| {style}, {seed} | " + " | ".join(_cells(own)) + " |")
    print("| mean | " + " | ".join(_cells(rows)) + " |")


def _cells(rows: list[dict[str, Any]]) -> list[str]:
    return [_cell([row for row in rows if row["run"] == run]) for run in RUNS]


def _cell(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    means = [sum(row[name] for row in rows) / len(rows) for name in COLUMNS]
    return f"{means[0]:.2f} / {means[1]:.3f} / {means[2]:.3f}"


if __name__ == "__main__":
    main()

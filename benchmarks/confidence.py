"""Does the confidence of a mesh rank its vertices by how wrong they are? Measured on clay.

    python benchmarks/confidence.py --work out/confidence

For each style and head that no model was trained on: a portrait of the balanced preset (psi 1), its
mesh, the confidence of every vertex, and the true colour there. The procedural head is a distance
field, so a vertex is moved to the nearest point of the true surface and the colour is that of the
drawing. One line of JSON a pair, with Spearman's rank correlation of distrust (1 - confidence) and
of its two parts with the colour's error, over all vertices and over those that a view saw, and the
mean error of the least and the most trusted fifth; then the table of `docs/assets.md`. Portraits
and edits are kept in the folder and not made again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from freestyle_core.clay.draw import Head, shade, styled_head, to_head_units
from freestyle_core.clay.evaluate import FIRST_SEED, code_of_seed
from freestyle_core.clay.styles.captions import canonical
from freestyle_core.clay.styles.catalogue import STYLES
from freestyle_core.cli.edited_views import write_edited
from freestyle_core.files.media.image import load_image
from freestyle_core.files.portrait import load_portrait, save_portrait
from freestyle_core.geometry.visibility import vertex_normals
from freestyle_core.method.confidence import evidence
from freestyle_core.method.fewshot import few_shot_set
from freestyle_core.method.mesh import MeshSettings, extract_mesh
from freestyle_core.pipeline import ModelPaths, Models, load_models, style_views
from freestyle_core.presets import BALANCED
from freestyle_core.types import FewShotSet, Portrait

PAIRS = [("zombie", 0), ("elf", 0), ("clown", 0), ("Na'vi", 1), ("bronze statue", 1), ("robot", 1)]
MESH = MeshSettings(resolution=96, head_height_m=0.0)
STEPS = 6  # of moving a vertex to the true surface


def main() -> None:
    """Measure the pairs that are named, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", nargs="*", help="as zombie:10000", default=None)
    parser.add_argument("--work", type=Path, default=Path("out/confidence"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    models = load_models(ModelPaths(i2t=None))
    named = [one.rsplit(":", 1) for one in args.pairs or []]
    rows = []
    usual = [(style, FIRST_SEED + head) for style, head in PAIRS]
    for style, seed in [(name, int(number)) for name, number in named] or usual:
        portrait, few_shot = made(models, style, seed, args.work)
        row = {"style": style, "seed": seed, **measured(portrait, few_shot, style, seed)}
        print(json.dumps(row), flush=True)
        rows.append(row)
    (args.work / "confidence.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print_table(rows)


def made(models: Models, style: str, seed: int, work: Path) -> tuple[Portrait, FewShotSet]:
    """Return the portrait of a pair and what it was learnt from."""
    words = canonical(style)
    settings = BALANCED.settings(words, seed=seed, psi=1.0)
    file, sheet = work / f"{style}_{seed}.safetensors", work / f"{style}_{seed}.png"
    cameras = settings.cameras(models.eg3d.config.rig())
    if not (file.exists() and sheet.exists()):
        styled = style_views(models, settings)
        save_portrait(file, styled.portraits[0])
        write_edited(sheet, styled.sets[0].images)
    portrait = load_portrait(file, eg3d=models.eg3d)
    size = portrait.renderer.config.image_resolution
    tiles = load_image(sheet).unfold(1, size, size).unfold(2, size, size)
    images = tiles.permute(1, 2, 0, 3, 4).flatten(0, 1)[: len(cameras)]
    return portrait, few_shot_set(portrait, images, cameras, words)


def measured(portrait: Portrait, few_shot: FewShotSet, style: str, seed: int) -> dict[str, Any]:
    """Return the rank correlations and errors of a pair."""
    mesh = extract_mesh(portrait, settings=MESH)
    normals, _ = vertex_normals(mesh.vertices, mesh.faces)
    found = evidence(mesh.vertices, normals, portrait, few_shot)
    truth = true_colors(styled_head(code_of_seed(seed), STYLES[style]), mesh.vertices)
    error = (mesh.colors - truth).square().mean(1).sqrt()
    assert found.off is not None
    distrust = {"all": -found.confidence, "seen": -found.seen, "agreement": found.off}
    row: dict[str, Any] = {"vertices": len(error), "error": round(float(error.mean()), 4)}
    for name, rows in (("all", error >= 0), ("watched", found.seen > 0)):
        for part, values in distrust.items():
            rank = spearmanr(values[rows].numpy(), error[rows].numpy()).statistic
            row[f"{name} {part}"] = round(float(rank), 3)
    order = found.confidence.argsort()
    fifth = len(order) // 5
    row["least trusted"] = round(float(error[order[:fifth]].mean()), 4)
    row["most trusted"] = round(float(error[order[-fifth:]].mean()), 4)
    return row


def true_colors(head: Head, points: Tensor) -> Tensor:  # [P,3] scene units -> [P,3]
    """Return the colours of the nearest points of the true surface."""
    points = points.clone()
    for _ in range(STEPS):
        with torch.enable_grad():
            here = points.clone().requires_grad_()
            distance = head.distance(here)
            (slope,) = torch.autograd.grad(distance.sum(), here)
        step = distance.detach().clamp(-0.05, 0.05)[:, None]
        points = points - step * torch.nn.functional.normalize(slope, dim=1)
    with torch.no_grad():
        return shade(head, to_head_units(points))


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print a row for each pair, and the means."""
    columns = [key for key in rows[0] if key not in ("style", "seed")]
    print("| style, head | " + " | ".join(columns) + " |")
    print("|---" * (1 + len(columns)) + "|")
    for row in rows:
        cells = " | ".join(str(row[key]) for key in columns)
        print(f"| {row['style']}, {row['seed']} | {cells} |")
    means = (sum(row[key] for row in rows) / len(rows) for key in columns)
    print("| mean | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")


if __name__ == "__main__":
    main()

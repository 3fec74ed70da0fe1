"""How far a style pack brings heads that it never saw, against fine-tuning each of them.

    python benchmarks/style_packs.py --heads 10000 10001 --out packs.jsonl PACK...

For each pack (a file or the name of a shipped one; left out, all that ship) and head: distance of
16 new cameras from the true restyled head, for the plain head, for the pack in one pass, and for a
portrait of the default preset. The share is that of the fine-tuning's gain in perceptual distance.
One JSON line for each pack and head is added to --out; what stands there is not measured again, so
a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from freestyle_core.clay.draw import draw, styled_head
from freestyle_core.clay.evaluate import RESOLUTION, code_of_seed, random_cameras
from freestyle_core.clay.styles.catalogue import STYLES
from freestyle_core.clay.truth import WORLD
from freestyle_core.files.media.image import save_image
from freestyle_core.files.networks import embedded, load_eg3d
from freestyle_core.files.style_pack import find_style_pack, load_style_pack, shipped_packs
from freestyle_core.geometry.cameras import orbit_cameras
from freestyle_core.method.render import render_views
from freestyle_core.method.sample import sample_portrait
from freestyle_core.metrics.image import psnr
from freestyle_core.packs.apply import apply_style_pack
from freestyle_core.pipeline import ModelPaths, Models, load_models, style_views
from freestyle_core.presets import DEFAULT
from freestyle_core.types import Portrait
from freestyle_core.visualize.contact_sheet import contact_sheet

CAMERAS = 16
SHOWN = (12, 51, 33, 24)  # seeds of the picture


def main() -> None:
    """Measure what is missing, and print all of it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("packs", nargs="*", help="files or names; left out, all that ship")
    parser.add_argument("--heads", type=int, nargs="+", default=[10000, 10001])
    parser.add_argument("--out", type=Path, default=Path("packs.jsonl"))
    parser.add_argument("--picture", type=Path, help="write the sheet of all that ship instead")
    args = parser.parse_args()
    if args.picture is not None:
        save_image(args.picture, shown())
        return
    models = load_models(ModelPaths())
    known = _known(args.out)
    for name in args.packs or list(shipped_packs()):
        for seed in args.heads:
            if (str(name), seed) not in known:
                row = measured(models, str(name), seed)
                with args.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                known[str(name), seed] = row
    report([known[key] for key in sorted(known)])


def measured(models: Models, name: str, seed: int) -> dict[str, Any]:
    """Return the distances of one pack on one head, psi 1: the truth belongs to that head."""
    pack = load_style_pack(name)
    style = WORLD.style_of(pack.prompt)
    if style is None:
        raise SystemExit(f"the embedded models' world has no style {pack.prompt!r}")
    head = sample_portrait(models.eg3d, seed, psi=1.0)
    cameras = random_cameras(CAMERAS, seed)
    truth = draw(styled_head(code_of_seed(seed), STYLES[style]), cameras, RESOLUTION)[0]

    @torch.no_grad()
    def distance(portrait: Portrait) -> list[float]:
        seen = render_views(portrait, cameras).image
        apart = models.perceptual(seen, truth)
        return [round(float(psnr(seen, truth).mean()), 3), round(float(apart.mean()), 4)]

    begun = time.perf_counter()
    restyled = apply_style_pack(pack, head)
    seconds = time.perf_counter() - begun
    tuned = style_views(models, DEFAULT.settings(pack.prompt, seed=seed, psi=1.0)).portraits[0]
    plain, packed, full = distance(head), distance(restyled), distance(tuned)
    return {
        "pack": name,
        "head": seed,
        "plain": plain,
        "packed": packed,
        "full": full,
        "share": round((plain[1] - packed[1]) / (plain[1] - full[1]), 3),
        "apply_seconds": round(seconds, 3),
        "kb": round(find_style_pack(name).stat().st_size / 1024),
    }


@torch.no_grad()
def shown() -> Tensor:
    """Return the sheet [3,H,W] of some heads, plain and by every pack that ships."""
    eg3d = load_eg3d(embedded("eg3d"))
    packs = {name: load_style_pack(name) for name in shipped_packs()}
    camera = orbit_cameras([-20.0], [5.0], eg3d.config.rig())
    rows = []
    for seed in SHOWN:
        head = sample_portrait(eg3d, seed)
        heads = [head, *(apply_style_pack(pack, head) for pack in packs.values())]
        rows.append(("", torch.cat([render_views(one, camera).image for one in heads])))
    return contact_sheet(rows, columns=["plain", *packs])


def report(rows: list[dict[str, Any]]) -> None:
    """Print one line for each pack: means over heads, and the least share."""
    print("pack, heads: plain -> pack (fine-tuned), dB and perceptual; share of the gain, least")
    for name in dict.fromkeys(row["pack"] for row in rows):
        own = [row for row in rows if row["pack"] == name]

        def mean(key: str, index: int, own: list[dict[str, Any]] = own) -> float:
            return statistics.mean(row[key][index] for row in own)

        shares = [row["share"] for row in own]
        print(
            f"{name}, {len(own)}: "
            + ", ".join(
                f"{mean('plain', i):.4g} -> {mean('packed', i):.4g} ({mean('full', i):.4g})"
                for i in (0, 1)
            )
            + f"; {statistics.mean(shares):.0%}, {min(shares):.0%}; {own[0]['kb']} KB"
        )
    shares = [row["share"] for row in rows]
    print(f"all {len(rows)}: {statistics.mean(shares):.1%} of the gain, least {min(shares):.1%}")


def _known(path: Path) -> dict[tuple[str, int], dict[str, Any]]:
    if not path.is_file():
        return {}
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {(row["pack"], row["head"]): row for row in rows}


if __name__ == "__main__":
    main()

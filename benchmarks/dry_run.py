"""Count what every stage asks of a graphics card, on a machine without one.

    python benchmarks/dry_run.py                          # all stages, full size
    python benchmarks/dry_run.py finetune view --where    # and where copies and waits come from
    python benchmarks/dry_run.py --json benchmarks/dry_run.json

Per stage: kernels, GFLOP (matrix products, convolutions, attention), reads (the CPU waits for the
card), copies (from pageable memory, which wait too), problems that a real card would refuse, and
for training the peak of live tensors above those
that were there before. Stages named "step" are one step inside a run. Numbers are
per step or call; `tests/test_dry_run.py` holds them to the limits of `LIMITS`.

Full size is the official ffhq512-128 generator, the I2T of the paper and the U-Net of
InstructPix2Pix in half precision, all with random weights of true shape.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.fake_gpu import Counts, Watch, watched
from freestyle_core.baselines.random_models import full_size_editor
from freestyle_core.files.bundle import load_header
from freestyle_core.files.networks import embedded
from freestyle_core.geometry.cameras import front_camera, grid_cameras
from freestyle_core.method.finetune import FinetuneSettings, finetune_portraits
from freestyle_core.method.render import render_views
from freestyle_core.method.sample import sample_portrait
from freestyle_core.method.stylize import StylizeSettings, stylize_views
from freestyle_core.models.config import EG3DConfig
from freestyle_core.models.editor import Editor
from freestyle_core.models.eg3d import EG3D
from freestyle_core.models.i2t import I2T, I2TConfig, i2t_config_for
from freestyle_core.models.perceptual import PerceptualConfig, PerceptualDistance, PerceptualNet
from freestyle_core.pretrain.train import PretrainSettings, PretrainWatch, pretrain
from freestyle_core.types import FewShotSet, Portrait, Triplane

STEPS = 3  # of a training: some of the first make Adam's state
EDITED = 16  # views edited together


@dataclass(frozen=True)
class Limit:
    """The most that a stage may ask of the card."""

    kernels: int
    reads: int = 0
    copies: int = 0


LIMITS = {  # at full size
    "head": Limit(333, copies=2),
    "view": Limit(300),
    "edit step": Limit(744),
    "finetune step": Limit(600),
    "finetune step, I2T": Limit(1165),
    "pretrain step": Limit(1200, reads=1),
}


@dataclass(frozen=True)
class Sizes:
    """Which networks the stages run."""

    eg3d: EG3DConfig
    i2t: I2TConfig
    editor: Callable[[str], Editor]  # takes the device
    filled: float = 1.0  # share of the rays that meet something, of those that fine-tuning knows of


def half_editor(device: str) -> Editor:
    """Return InstructPix2Pix with random weights in half precision."""
    return full_size_editor(device, torch.float16)


def full_size() -> Sizes:
    """Return the official sizes."""
    return Sizes(EG3DConfig(), i2t_config_for(EG3DConfig()), half_editor)


@dataclass(frozen=True)
class Result:
    """What one unit of a stage asks: a step, a frame or a call."""

    counts: Counts
    blocking: float  # reads and copies per unit, averaged over several


def measured(stage: str, device: str, sizes: Sizes) -> Result:
    """Return what a stage of STAGES asks of "cuda", or of "meta" where backward is real."""
    with watched(device) as watch:
        return STAGES[stage](watch, sizes)


def _head(watch: Watch, sizes: Sizes) -> Result:
    eg3d = _eg3d(watch, sizes)
    return _once(watch, lambda: sample_portrait(eg3d, 3))


def _view(watch: Watch, sizes: Sizes) -> Result:
    portrait = _portrait(watch, sizes)
    camera = front_camera(sizes.eg3d.rig()).to(watch.device)
    return _once(watch, lambda: render_views(portrait, camera))


def _edit(watch: Watch, sizes: Sizes) -> Result:
    editor = sizes.editor(watch.device)
    side, marks = sizes.eg3d.image_resolution, _Marks(watch)
    images = torch.full((EDITED, 3, side, side), 0.5, device=watch.device)
    settings = StylizeSettings(steps=3, tau=1.0, batch_size=EDITED)
    stylize_views(editor, images, "an elf", settings=settings, progress=marks)
    return marks.unit(1, 4)  # the views are encoded first, which counts as a step


def _finetune(watch: Watch, sizes: Sizes, train: Literal["planes", "i2t"] = "planes") -> Result:
    portrait, marks = _portrait(watch, sizes), _Marks(watch)
    watch.whole_number = int(sizes.filled * sizes.eg3d.neural_resolution**2)
    with torch.device(watch.device):
        i2t = I2T(sizes.i2t).eval()
        perceptual = PerceptualDistance(PerceptualNet(PerceptualConfig(styles=35, identity=36)))
    cameras, side = grid_cameras(2, sizes.eg3d.rig()), sizes.eg3d.image_resolution
    images = torch.full((len(cameras), 3, side, side), 0.5, device=watch.device)
    finetune_portraits(
        i2t,
        "",
        [portrait],
        [FewShotSet(images, cameras, 0, "an elf")],
        perceptual,
        settings=FinetuneSettings(iterations=STEPS, preview_every=0, train=train),
        progress=marks,
    )
    return marks.unit(1, STEPS)


def _pretrain(watch: Watch, sizes: Sizes) -> Result:
    eg3d, marks = _eg3d(watch, sizes), _Marks(watch)
    with torch.device(watch.device):
        i2t = I2T(sizes.i2t)
    settings = PretrainSettings(iterations=STEPS, statistics=1, preview_every=0)
    pretrain(eg3d, i2t, settings=settings, watch=PretrainWatch(marks))
    return marks.unit(1, STEPS)


STAGES: dict[str, Callable[[Watch, Sizes], Result]] = {
    "head": _head,
    "view": _view,
    "edit step": _edit,
    "finetune step": _finetune,
    "finetune step, I2T": partial(_finetune, train="i2t"),
    "pretrain step": _pretrain,
}
TRAINED = ("finetune step", "finetune step, I2T", "pretrain step")  # have a backward pass


class _Marks:
    """A progress that notes what has been counted whenever another whole unit is done."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.at: dict[int, Counts] = {}

    def __call__(self, done: float, total: int, preview: Tensor | None = None) -> None:
        if done == int(done) and done not in self.at:
            self.at[int(done)] = self.watch.mark()

    def unit(self, first: int, last: int) -> Result:
        """Return the least blocking one of the units from the first mark to the last."""
        units = [self.at[i + 1].minus(self.at[i]) for i in range(first, last)]
        waits = [u.reads.total() + u.copies.total() for u in units]
        problems = self.watch.counts.problems  # wherever they were
        least = units[waits.index(min(waits))]
        return Result(replace(least, problems=problems), sum(waits) / len(waits))


def _once(watch: Watch, run: Callable[[], object]) -> Result:
    before = watch.mark()
    run()
    counts = watch.counts.minus(before)
    return Result(counts, counts.reads.total() + counts.copies.total())


def _eg3d(watch: Watch, sizes: Sizes) -> EG3D:
    with torch.device(watch.device):
        return EG3D(sizes.eg3d).eval().requires_grad_(False)


def _portrait(watch: Watch, sizes: Sizes) -> Portrait:
    config, eg3d = sizes.eg3d, _eg3d(watch, sizes)
    side, channels = config.plane_resolution, config.plane_channels
    planes = torch.zeros(1, 3, channels, side, side, device=watch.device)
    w = torch.zeros(1, config.num_ws, config.w_dim, device=watch.device)
    return Portrait(eg3d.renderer(), Triplane(planes, config.box_size), w)


def clay_size() -> Sizes:
    """Return the sizes of the embedded models; the editor is that of full size."""
    configs = (load_header(embedded(name)).config for name in ("eg3d", "i2t"))
    eg3d, i2t = configs
    return Sizes(EG3DConfig.from_dict(eg3d), I2TConfig.from_dict(i2t), half_editor)


def record(stage: str, sizes: Sizes) -> dict[str, Any]:
    """Return the numbers of a stage for JSON."""
    card = measured(stage, "cuda", sizes)
    whole = measured(stage, "meta", sizes).counts if stage in TRAINED else card.counts
    return {
        "kernels": whole.kernels.total(),
        "gflop": round(whole.flop / 1e9, 1),
        "reads": card.counts.reads.total(),
        "copies": card.counts.copies.total(),
        "blocking_mean": round(card.blocking, 2),
        "problems": dict(card.counts.problems),
        "peak_gb": round(whole.peak_bytes / 2**30, 2) if stage in TRAINED else None,
        "most": dict(whole.kernels.most_common(8)),
        "where": dict(card.counts.reads + card.counts.copies),
    }


def main() -> None:
    """Parse the arguments and print a line per stage."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stages", nargs="*", help=f"beginnings of {', '.join(STAGES)}")
    parser.add_argument("--size", choices=("full", "clay"), default="full")
    parser.add_argument("--json", type=Path, help="write the numbers there")
    parser.add_argument("--where", action="store_true", help="say where copies and reads are")
    args = parser.parse_args()
    sizes = full_size() if args.size == "full" else clay_size()
    records = {}
    for stage in STAGES:
        if args.stages and not stage.startswith(tuple(args.stages)):
            continue
        began = time.monotonic()
        r = records[stage] = record(stage, sizes)
        peak = "" if r["peak_gb"] is None else f", peak {r['peak_gb']:.2f} GB"
        print(
            f"{stage:16} {r['kernels']:6} kernels {r['gflop']:9.1f} GFLOP {r['reads']:3} reads "
            f"{r['copies']:3} copies (mean of both {r['blocking_mean']:.1f}){peak}; "
            f"counted in {time.monotonic() - began:.0f} s",
            flush=True,
        )
        for where, count in {**r["problems"], **(r["where"] if args.where else {})}.items():
            print(f"    {count:4} x {where}")
    if args.json:
        kept = json.loads(args.json.read_text()) if args.json.exists() else {}
        if kept.get("size") == args.size:  # some stages counted again
            records = {**kept["stages"], **records}
        args.json.write_text(json.dumps({"size": args.size, "stages": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()

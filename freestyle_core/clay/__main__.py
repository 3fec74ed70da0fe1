"""Train, measure and show the clay models: `python -m freestyle_core.clay --help`."""

import argparse
import json
import logging
import multiprocessing
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from .. import interrupts
from ..checks import check_numbers
from ..cli.console import TextBar, say
from ..cli.streams import take_any_text
from ..errors import Cancelled, FreeStyleError, InputError
from ..files.clip import EMBEDDED as EMBEDDED_CLIP
from ..files.clip import load_clip
from ..files.editors.load import load_editor
from ..files.networks import (
    ASSETS,
    PARTS,
    embedded,
    load_eg3d,
    save_eg3d,
)
from ..pipeline import ModelPaths, Models, load_models
from ..presets import DEFAULT, FAST
from ..pretrain.train import PretrainSettings
from ..training.loop import TrainSettings
from . import evaluate
from .data.clip_views import make_clip_views
from .data.editor_edits import EDITED_TOGETHER
from .data.shards import make_data
from .measure_clip import PORTRAITS, measure_clip
from .sheets import SHEETS
from .styles.catalogue import STYLES
from .train.clip import SETTINGS as CLIP_SETTINGS
from .train.clip import train_clip
from .train.editor import SETTINGS as EDITOR_SETTINGS
from .train.editor import train_editor
from .train.editor_last_step import EDITS, refine_editor
from .train.editor_last_step import SETTINGS as REFINE_SETTINGS
from .train.eg3d import STAGES as EG3D_STAGES
from .train.eg3d import train_eg3d
from .train.i2t import CACHE_SHARD, IDENTITIES, quick_settings, train_i2t
from .train.i2t import CONFIG as I2T_CONFIG
from .train.i2t import SETTINGS as I2T_SETTINGS
from .train.perceptual import SETTINGS as PERCEPTUAL_SETTINGS
from .train.perceptual import train_perceptual
from .train.vae import SETTINGS as VAE_SETTINGS
from .train.vae import train_vae

FLAT_ITERATIONS = 2050  # as many as the I2T of the assets had
FLAT_SETTINGS = replace(I2T_SETTINGS, iterations=FLAT_ITERATIONS)
HEAD_SHARDS, PAIR_SHARDS = 26, 24  # of 50 heads, and of 300 pairs of the same heads
CLIP_SHARDS = 8  # of 420 pictures of 20 heads
CLIP = "clip"  # its folder, beside the other models


@dataclass(frozen=True)
class Work:
    """Where a training keeps its data and checkpoints, and what it runs on."""

    folder: Path
    device: str
    threads: int
    workers: int
    effort: float = 1.0  # multiplies the data and the steps; below 1 is a rehearsal

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.effort <= 0 or min(self.threads, self.workers) < 1:
            raise InputError("effort must be above 0, threads and workers at least 1")

    def shards(self, count: int) -> int:
        """Return how many of `count` shards to make: two at least, one of them held out."""
        return max(2, round(count * self.effort))

    def settings(self, full: TrainSettings) -> TrainSettings:
        """Return training settings with their share of the steps."""
        steps = max(1, round(full.steps * self.effort))
        return replace(full, steps=steps, warmup_steps=min(full.warmup_steps, steps // 4))

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def models(self) -> Path:
        return self.folder / "models"

    def model(self, part: str) -> Path:
        return self.models / PARTS[part]


def _in_processes(work: Work, kind: str, shards: int) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(work.workers, mp_context=context) as pool:
        jobs = [
            pool.submit(make_data, work.data, kind, range(shards), worker=i, workers=work.workers)
            for i in range(work.workers)
        ]
        try:
            for job in jobs:
                job.result()
        except BaseException:  # the pool would wait for the hours of work that are left
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _heads(work: Work) -> None:
    _in_processes(work, "heads", work.shards(HEAD_SHARDS))


def _pairs(work: Work) -> None:
    _in_processes(work, "pairs", work.shards(PAIR_SHARDS))


def _eg3d(work: Work) -> None:
    stages = zip(("points", "images", "sharp"), EG3D_STAGES, strict=True)
    options = {name: work.settings(settings) for name, settings in stages}
    eg3d = train_eg3d(work.data, work.folder / "eg3d", **options, threads=work.threads)
    save_eg3d(work.model("eg3d"), eg3d, dtype=torch.float16)


def _renders(work: Work) -> None:
    torch.set_num_threads(work.threads)
    shards = range(work.shards(PAIR_SHARDS))
    make_data(work.data, "renders", shards, eg3d=load_eg3d(work.model("eg3d")))


def _perceptual(work: Work) -> None:
    train_perceptual(
        work.data,
        work.model("perceptual"),
        settings=work.settings(PERCEPTUAL_SETTINGS),
        threads=work.threads,
        device=work.device,
    )


def _editor(work: Work) -> None:
    folder, device, threads = work.folder / "editor", work.device, work.threads
    if not (folder / "vae").exists():
        settings = work.settings(VAE_SETTINGS)
        train_vae(work.data, folder, settings=settings, device=device, threads=threads)
    settings = work.settings(EDITOR_SETTINGS)
    train_editor(work.data, folder, settings=settings, device=device, threads=threads)
    finished = refine_editor(
        work.data,
        folder,
        work.model("perceptual"),
        edits=replace(EDITS, count=max(EDITED_TOGETHER, round(EDITS.count * work.effort))),
        settings=work.settings(REFINE_SETTINGS),
        device=device,
        threads=threads,
    )
    shutil.copytree(finished, work.model("editor"), dirs_exist_ok=True)


def _i2t_settings(effort: float) -> PretrainSettings:
    if effort == 1:
        return I2T_SETTINGS
    return quick_settings(max(1, round(I2T_SETTINGS.iterations * effort)))


def _i2t(work: Work) -> None:
    train_i2t(
        work.data,
        work.model("i2t"),
        eg3d_path=work.model("eg3d"),
        settings=_i2t_settings(work.effort),
        identities=max(2 * CACHE_SHARD, round(IDENTITIES * work.effort)),
        threads=work.threads,
        device=work.device,
    )


def _i2t_flat(work: Work) -> None:
    """Pre-train the I2T of the ablation "w/o w_s spatial dimension", for as long as the I2T."""
    own = work.model("eg3d")
    steps = max(1, round(FLAT_ITERATIONS * work.effort))
    train_i2t(
        work.data,
        work.models / "i2t_flat.safetensors",
        eg3d_path=own if own.is_file() else embedded("eg3d"),
        settings=quick_settings(steps) if work.effort < 1 else FLAT_SETTINGS,
        config=replace(I2T_CONFIG, code_size=1),
        identities=max(2 * CACHE_SHARD, round(IDENTITIES * work.effort)),
        threads=work.threads,
        device=work.device,
    )


def _clip(work: Work) -> None:
    torch.set_num_threads(work.threads)
    eg3d, vae = load_eg3d(work.model("eg3d")), load_editor(work.model("editor")).vae
    make_clip_views(work.data, range(work.shards(CLIP_SHARDS)), eg3d, vae)
    train_clip(
        work.data,
        work.models / CLIP,
        settings=work.settings(CLIP_SETTINGS),
        threads=work.threads,
        device=work.device,
    )


STAGES: dict[str, Callable[[Work], None]] = {
    "heads": _heads,
    "pairs": _pairs,
    "eg3d": _eg3d,
    "renders": _renders,
    "perceptual": _perceptual,
    "editor": _editor,
    "i2t": _i2t,
    "clip": _clip,
}
EXTRA_STAGES = {"i2t_flat": _i2t_flat}  # made only when they are asked for


def _train(args: argparse.Namespace) -> None:
    torch.set_flush_denormal(True)  # tiny gradients would slow the CPU down three times
    work = Work(args.work, args.device, args.threads, args.workers, args.effort)
    work.models.mkdir(parents=True, exist_ok=True)
    for name in args.only or STAGES:
        logging.info("stage %s", name)
        {**STAGES, **EXTRA_STAGES}[name](work)
    if args.install:
        install(work.models)


def install(models: Path) -> None:
    """Copy finished models into the package; their checkpoints stay behind."""
    for part in PARTS.values():
        if (models / part).is_dir():
            shutil.copytree(models / part, ASSETS / part, dirs_exist_ok=True)
        elif (models / part).exists():
            shutil.copyfile(models / part, ASSETS / part)
    if (models / CLIP).is_dir():
        shutil.copytree(models / CLIP, EMBEDDED_CLIP, dirs_exist_ok=True)


def models_in(folder: Path) -> Models:
    """Return the clay family in `folder`, laid out as in the assets."""
    return load_models(ModelPaths(**{part: folder / file for part, file in PARTS.items()}))


def _measure(name: str, models: Models, args: argparse.Namespace, bar: TextBar) -> dict:
    count = args.identities
    if name == "eg3d":
        return evaluate.measure_eg3d(models, count or 64)
    if name == "vae":
        return evaluate.measure_vae(models, count or 32)
    if name == "i2t":
        return evaluate.measure_i2t(models, count or 16)
    if name == "pipeline":
        return _measure_pipeline(models, args, bar)
    if name == "attributes":
        return evaluate.measure_attributes(models, count or 48, progress=bar)
    if name == "clip":
        folder = args.models / CLIP if (args.models / CLIP).is_dir() else EMBEDDED_CLIP
        portraits = args.styles or PORTRAITS
        return measure_clip(
            load_clip(folder), models, count or 8, portraits=portraits, progress=bar
        )
    wordings = "held_out" if name == "editor_held_out" else "canonical"
    return evaluate.measure_editor(models, count or 3, wordings=wordings, progress=bar)


def _measure_pipeline(models: Models, args: argparse.Namespace, bar: TextBar) -> dict:
    return evaluate.measure_pipeline(
        models,
        styles=args.styles or evaluate.PIPELINE_STYLES,
        identities=args.identities or 1,
        preset=FAST if args.quick else DEFAULT,
        progress=bar,
    )


MEASURES = ("eg3d", "vae", "i2t", "editor", "editor_held_out", "attributes", "clip", "pipeline")


def _evaluate(args: argparse.Namespace) -> None:
    models, scores = models_in(args.models), {}
    for name in args.only or MEASURES:
        bar = TextBar(f"measure {name}")
        scores[name] = _measure(name, models, args, bar)
        bar.close(finished=True)
        for key, value in scores[name].items():
            say(f"{name:16} {key:24} {value:.4f}")
    if args.json:
        args.json.write_text(json.dumps(scores, indent=2), encoding="utf-8")


def _sheets(args: argparse.Namespace) -> None:
    models = models_in(args.models)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.only or SHEETS:
        SHEETS[name](models, args.out / f"{name}.png")
        say(str(args.out / f"{name}.png"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m freestyle_core.clay", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    train = commands.add_parser("train", help="make the data and train all models; resumable")
    train.add_argument("--work", type=Path, default=Path("clay_data"), help="data, checkpoints")
    stages = {**STAGES, **EXTRA_STAGES}
    train.add_argument("--only", nargs="+", choices=stages, metavar="STAGE", help=", ".join(stages))
    train.add_argument("--device", default="cpu", help="cpu or cuda, for the networks")
    train.add_argument("--threads", type=int, default=2, help="CPU threads of a training")
    train.add_argument("--workers", type=int, default=2, help="processes that make the data")
    train.add_argument(
        "--effort", type=float, default=1.0, help="share of data and steps; 0.02 is a rehearsal"
    )
    train.add_argument("--install", action="store_true", help="copy the result to the assets")
    train.set_defaults(run=_train)
    measure = commands.add_parser("evaluate", help="print held-out numbers of every model")
    measure.add_argument("--only", nargs="+", choices=MEASURES, metavar="PART")
    measure.add_argument("--identities", type=int, help="held-out heads per measure")
    measure.add_argument("--models", type=Path, default=embedded("eg3d").parent)
    measure.add_argument(
        "--styles", nargs="+", choices=STYLES, metavar="STYLE", help="of pipeline and clip"
    )
    measure.add_argument("--quick", action="store_true", help="pipeline: as portrait --quick")
    measure.add_argument("--json", type=Path, help="write the numbers here too")
    measure.set_defaults(run=_evaluate)
    sheets = commands.add_parser("sheets", help="write contact sheets of every model")
    sheets.add_argument("--only", nargs="+", choices=SHEETS, metavar="SHEET")
    sheets.add_argument("--models", type=Path, default=embedded("eg3d").parent)
    sheets.add_argument("--out", type=Path, default=Path("out"))
    sheets.set_defaults(run=_sheets)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; a user's mistake is one line on stderr and status 2.

    Ctrl-C and SIGTERM end it with 128 + the signal's number; a training goes on where it was.
    """
    take_any_text()
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with interrupts.listen():
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    try:
        args.run(args)
    except (KeyboardInterrupt, Cancelled):
        sys.stderr.write("stopped; the same command goes on from the last checkpoint\n")
        return interrupts.exit_code()
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except FreeStyleError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`pretrain`: an I2T network for an EG3D."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from ... import interrupts
from ...files.networks import embedded, load_eg3d
from ...models.i2t import i2t_config_for
from ...pretrain.run import PretrainFiles, pretrain_to_file
from ...pretrain.train import PretrainSettings
from ...progress import Progress, Stages
from ...training.distributed import open_workers
from ..console import numbered_stages, say
from ..devices import chosen_device


def run(args: argparse.Namespace) -> None:
    """Train an I2T network for an EG3D."""
    settings, out = pretrain_settings(args), args.out
    files = PretrainFiles(out)
    with open_workers(chosen_device(args.device)) as (workers, device):
        eg3d = load_eg3d(args.eg3d or embedded("eg3d")).to(device)
        config = i2t_config_for(eg3d.config, args.code_size)
        stages = numbered_stages(1) if workers.leads else Stages()
        again = "stopped; the same command with --resume goes on where it was"
        with stages.stage("pre-train") as bar, stopped_between_steps(bar, again) as progress:
            made = pretrain_to_file(
                eg3d,
                out,
                settings=settings,
                resume=args.resume,
                config=config,
                checkpoint_minutes=args.checkpoint,
                progress=progress,
                workers=workers,
            )
        if workers.leads:
            psnr = "" if made.psnr is None else f", {made.psnr:.2f} dB on held-out heads"
            say(f"{out}: last loss {made.losses[-1]:.4g}{psnr}; log in {files.log}")


@contextmanager
def stopped_between_steps(progress: Progress, message: str) -> Iterator[Progress]:
    """Yield a progress that raises Cancelled(message) after a first Ctrl-C or SIGTERM.

    A second one acts at once.
    """

    def shown(done: float, total: int, preview: Tensor | None = None) -> None:
        interrupts.check(message)
        progress(done, total, preview)

    with interrupts.held():
        yield shown


def pretrain_settings(args: argparse.Namespace) -> PretrainSettings:
    """Return the checked settings of the pretrain command."""
    given = {
        "iterations": args.steps,
        "batch_size": args.batch,
        "learning_rate": args.rate,
        "precision": args.precision,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    return PretrainSettings(
        seed=args.seed, preview_every=args.preview, validate_every=args.validate, **chosen
    )

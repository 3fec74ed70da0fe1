"""`portrait`: one or two stylised portraits and everything that shows them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ...budget import Budget, check_budget, measured
from ...errors import InputError
from ...files.bundle import load_header
from ...files.networks import PARTS, i2t_misfit, load_eg3d
from ...files.portrait import load_portrait
from ...files.record import RUN_RECORD
from ...files.staging import staged
from ...heap import uncollected
from ...method.finetune_settings import NEED_I2T, Train
from ...method.reedit import ROUNDS
from ...pipeline import ModelPaths, Models, PortraitSettings, load_models, make_portrait
from ...presets import chosen
from ...progress import Stages
from ...types import Portrait
from ..clock import STARTED
from ..console import numbered_stages, say
from ..devices import chosen_device, editor_format
from ..restyle import given_psi, restyle_to_files
from ..run_files import SPARE_MB, write_run, write_run_record

NO_I2T = "none"  # of --i2t
NOT_WITH_PACK = (
    "style2",
    "mix",
    "budget",
    "views",
    "noise",
    "reference",
    "tau",
    "steps",
    "train",
    "iterations",
    "batch_size",
    "robust",
    "reedit",
    "i2t",
    "editor",
    "perceptual",
)


@dataclass(frozen=True)
class Beginning:
    """What a run begins with in place of the head of its seed."""

    file: Path  # that it comes from
    make: Callable[[Models, Stages, Path], Portrait]  # the last: the folder of the run's files
    stages: int = 0  # that `make` enters
    front: tuple[float, ...] = ()  # see `PortraitSettings`
    record: Mapping[str, Any] = field(default_factory=dict)  # what run.json says of it


def run(args: argparse.Namespace) -> None:
    """Make one or two stylised portraits and everything that shows them."""
    if args.pack:
        _restyled(args)
        return
    if args.start is None:
        make_run(args, None)
        return

    def saved(models: Models, _stages: Stages, _folder: Path) -> Portrait:
        device = next(models.eg3d.parameters()).device
        return load_portrait(args.start, eg3d=models.eg3d).to(device)

    make_run(args, Beginning(args.start, saved), lambda: load_header(args.start, "portrait"))


def make_run(
    args: argparse.Namespace,
    begin: Beginning | None,
    check: Callable[[], object] = lambda: None,  # refuses a beginning before models are loaded
) -> None:
    """Make the portraits of a run, and write all of its files or none."""
    settings, device = portrait_settings(args), chosen_device(args.device)
    settings, paths = fitted(settings, model_paths(args), args)
    if begin is not None:
        check()
        settings = replace(settings, front=begin.front)
        if settings.tune.train == "modulation":
            raise InputError(
                "--train modulation starts from a head as its generator makes it; leave out "
                "--from, or use --train planes"
            )
    budget = None
    if args.budget is not None:
        check_budget(args.budget)
        budget = Budget(STARTED + args.budget)
    is_embedded = paths.editor == ModelPaths.editor
    dtype = editor_format(args.editor_precision, device, embedded=is_embedded)
    own = 0 if begin is None else begin.stages
    stages = numbered_stages(own + (7 if args.style2 is None else 11))
    needed_mb = _space_needed(paths, len(settings.prompts))
    with staged(args.out, needed_mb=needed_mb, record=RUN_RECORD) as folder:
        with stages.stage("load the models"), uncollected():
            silence_libraries()
            models = load_models(paths, device, dtype)
        start = None if begin is None else begin.make(models, stages, folder)
        training_seconds = None
        if budget is not None:
            settings, training_seconds = budgeted(budget, models, settings)
        made = make_portrait(
            models, settings, stages=stages, training_seconds=training_seconds, start=start
        )
        with stages.stage("save"):
            files = sorted([*write_run(folder, made), RUN_RECORD])
        write_run_record(
            folder / RUN_RECORD,
            made,
            models,
            times=stages.times,
            files=files,
            device=str(device),
            start=None if begin is None else begin.file,
            more={} if begin is None else begin.record,
        )
    say(f"{args.out}: {', '.join(files)}")


def _restyled(args: argparse.Namespace) -> None:
    """Make the portrait of a style pack."""
    given = [name for name in NOT_WITH_PACK if getattr(args, name) not in (None, False)]
    if given:
        option = given[0].replace("_", "-")
        raise InputError(
            f"--pack neither edits nor trains, so --{option} means nothing; leave out one of them"
        )
    settings = chosen(args.preset, frames=args.frames).settings(
        args.style, seed=args.seed, path=args.path, **given_psi(args)
    )
    restyle_to_files(args, args.style, settings, start=args.start)


def budgeted(
    budget: Budget, models: Models, settings: PortraitSettings
) -> tuple[PortraitSettings, Callable[[], float]]:
    """Return the settings of the run that fits, and what says how long it may train."""
    costs = measured(models, settings)
    settings = budget.planned(settings, costs)
    say(
        f"in the time: {settings.views} x {settings.views} + 1 views, at most "
        f"{settings.tune.iterations} training steps"
    )
    return settings, partial(budget.training_seconds, settings, costs)


def portrait_settings(
    args: argparse.Namespace,
    train: Train | None = None,  # in place of what was asked for
) -> PortraitSettings:
    """Return the checked settings of the portrait command."""
    prompts = (args.style,) if args.style2 is None else (args.style, args.style2)
    if args.mix is not None and args.style2 is None:
        raise InputError("--mix needs a second style; add --style2")
    if args.budget is not None and (args.views is not None or args.iterations is not None):
        raise InputError(
            "--budget chooses views and iterations; leave out --views and --iterations"
        )
    names = ("views", "steps", "iterations", "batch_size", "frames")
    given = {name: getattr(args, name) for name in names}
    train = train or args.train
    if train is None and args.i2t is not None and str(args.i2t) != NO_I2T:
        train = "i2t"  # a network that is named is used
    preset = chosen(args.preset, train=train, **given)
    others = {"tau": args.tau, "mix_steps": args.mix}
    extra = {name: value for name, value in others.items() if value is not None}
    extra |= given_psi(args)
    settings = preset.settings(*prompts, seed=args.seed, path=args.path, **extra)
    # nobody would see the previews
    tune = replace(settings.tune, preview_every=0, robust=args.robust)
    own = {name: getattr(args, name) for name in ("noise", "reference")}
    edit = replace(settings.edit, **{name: x for name, x in own.items() if x is not None})
    return replace(settings, reedit=ROUNDS if args.reedit else 0, edit=edit, tune=tune)


def model_paths(args: argparse.Namespace) -> ModelPaths:
    """Return the models named on the command line, else the embedded ones."""
    given = {part: getattr(args, part) for part in PARTS if getattr(args, part) is not None}
    if str(given.get("i2t", "")) == NO_I2T:
        given["i2t"] = None
    return replace(ModelPaths(), **given)


def fitted(
    settings: PortraitSettings, paths: ModelPaths, args: argparse.Namespace
) -> tuple[PortraitSettings, ModelPaths]:
    """Return both without an I2T where none is needed, none is wanted, or none belongs.

    An I2T that was named and does not fit is an error, of `load_models`.
    """
    if settings.tune.train not in NEED_I2T:
        return settings, replace(paths, i2t=None)
    why = "--i2t none" if paths.i2t is None else None
    if args.i2t is None and args.eg3d is not None and paths.i2t is not None:
        why = i2t_misfit(paths.i2t, load_eg3d(paths.eg3d))
    if why is None:
        return settings, paths
    say(f"without an I2T ({why}): the planes themselves are trained")
    return portrait_settings(args, "planes"), replace(paths, i2t=None)


def silence_libraries() -> None:
    """Keep the warnings and bars of the libraries from tearing our progress bars apart."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()


def _space_needed(paths: ModelPaths, styles: int) -> float:
    # a portrait keeps its network in single precision; files may hold half
    file = Path(paths.i2t or "")
    network = file.stat().st_size * 2 / 2**20 if file.is_file() else 0
    return styles * (network + SPARE_MB)

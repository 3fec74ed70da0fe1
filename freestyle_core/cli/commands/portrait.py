"""`portrait`: one or two stylised portraits and everything that shows them."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace

from ...errors import InputError
from ...files.networks import PARTS
from ...files.record import RUN_RECORD
from ...files.staging import staged
from ...pipeline import ModelPaths, PortraitSettings, load_models, make_portrait
from ...presets import DEFAULT, QUICK
from ..console import numbered_stages, say
from ..devices import chosen_device, editor_format
from ..run_files import SPARE_MB, write_run, write_run_record


def run(args: argparse.Namespace) -> None:
    """Make one or two stylised portraits and everything that shows them."""
    settings, device = portrait_settings(args), chosen_device(args.device)
    paths = model_paths(args)
    is_embedded = paths.editor == ModelPaths.editor
    dtype = editor_format(args.editor_precision, device, embedded=is_embedded)
    stages = numbered_stages(7 if args.style2 is None else 11)
    needed_mb = _space_needed(paths, len(settings.prompts))
    with staged(args.out, needed_mb=needed_mb, record=RUN_RECORD) as folder:
        with stages.stage("load the models"):
            silence_libraries()
            models = load_models(paths, device, dtype)
        made = make_portrait(models, settings, stages=stages)
        with stages.stage("save"):
            files = sorted([*write_run(folder, made), RUN_RECORD])
        write_run_record(
            folder / RUN_RECORD,
            made,
            models,
            times=stages.times,
            files=files,
            device=str(device),
        )
    say(f"{args.out}: {', '.join(files)}")


def portrait_settings(args: argparse.Namespace) -> PortraitSettings:
    """Return the checked settings of the portrait command."""
    prompts = (args.style,) if args.style2 is None else (args.style, args.style2)
    if args.mix is not None and args.style2 is None:
        raise InputError("--mix needs a second style; add --style2")
    preset = QUICK if args.quick else DEFAULT
    chosen = {field.name: getattr(args, field.name, None) for field in fields(preset)}
    preset = replace(preset, **{name: value for name, value in chosen.items() if value is not None})
    given = {"tau": args.tau, "mix_steps": args.mix}
    extra = {name: value for name, value in given.items() if value is not None}
    return preset.settings(*prompts, seed=args.seed, path=args.path, **extra)


def model_paths(args: argparse.Namespace) -> ModelPaths:
    """Return the models named on the command line, else the embedded ones."""
    given = {part: getattr(args, part) for part in PARTS if getattr(args, part) is not None}
    return replace(ModelPaths(), **given)


def silence_libraries() -> None:
    """Keep the warnings and bars of the libraries from tearing our progress bars apart."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()


def _space_needed(paths: ModelPaths, styles: int) -> float:
    # a portrait keeps its network in single precision; files may hold half
    network = paths.i2t.stat().st_size * 2 / 2**20 if paths.i2t.is_file() else 0
    return styles * (network + SPARE_MB)
